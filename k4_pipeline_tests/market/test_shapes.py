"""One known table in the headers and formats of many vendors (k4_pipeline.market): read right, or refused by name.

`{d}` is the day, `{o} {h} {l} {c}` are prices with two decimals, `{v}` a whole volume. Nothing else may come out.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import PipelineConfig, SourceConfig
from k4_pipeline.market import calendar
from k4_pipeline.market.bars import to_dates
from k4_pipeline.market.sources.kinds import kind_of
from k4_pipeline.market.summary import check_source

NOW = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
VALUES = ["open", "high", "low", "close", "volume"]
OHLCV = "{o},{h},{l},{c},{v}"
HEAD = "Date,Open,High,Low,Close,Volume"


def known(ticker: str = "CAR", exchange: str = "XNYS", n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    days = to_dates(calendar.sessions(exchange, "2023-01-02", "2024-12-30")[:n])
    close = np.round(20 * np.exp(np.cumsum(rng.normal(0, 0.02, n))), 2)
    opened = np.round(close * rng.uniform(0.99, 1.01, n), 2)
    high, low = np.round(np.maximum(opened, close) + 0.31, 2), np.round(np.minimum(opened, close) - 0.27, 2)
    values = dict(zip(VALUES, (opened, high, low, close, np.exp(rng.normal(13, 0.6, n)).astype(int).astype(float))))
    return pd.DataFrame({"ticker": ticker, "date": days, **values})


class Comma(float):
    """A number written with a decimal comma."""

    def __format__(self, spec: str) -> str:
        return super().__format__(spec or ".2f").replace(".", ",")


class Point(float):
    """A price with two decimals."""

    def __format__(self, spec: str) -> str:
        return super().__format__(spec or ".2f")


def lines(pattern: str, table: pd.DataFrame, price: type = Point) -> list[str]:
    return [
        pattern.format(
            d=r.date, o=price(r.open), h=price(r.high), l=price(r.low), c=price(r.close), half=price(r.close / 2),
            v=int(r.volume), money=int(r.volume * r.close), i=r.Index, ms=int(r.date.timestamp() * 1000),
            serial=(r.date - pd.Timestamp("1899-12-30")).days, ny=r.date.tz_localize("America/New_York"),
        )
        for r in table.itertuples()
    ]  # fmt: skip


def read(path: Path, **settings: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    source = SourceConfig(kind_of(str(path)), str(path), **settings)  # type: ignore[arg-type]
    found, bars = check_source(PipelineConfig(source=source), now=NOW)
    return (pd.DataFrame() if bars is None else bars.to_frame()), found


def assert_right(bars: pd.DataFrame, wanted: pd.DataFrame, rtol: float = 1e-12) -> None:
    columns = ["ticker", "date", *VALUES]
    pd.testing.assert_frame_equal(
        bars[columns], wanted[columns].reset_index(drop=True), check_dtype=False, rtol=rtol, atol=0
    )


RIGHT = {
    "numbered headings": (",1. open,2. high,3. low,4. close,5. volume", "{d:%Y-%m-%d}," + OHLCV),
    "adjusted beside numbered": (
        "date,1. open,2. high,3. low,4. close,5. adjusted close,6. volume", "{d:%Y-%m-%d},{o},{h},{l},{c},{half},{v}"),
    "bulk text": (
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>",
        "CAR.US,D,{d:%Y%m%d},000000," + OHLCV + ",0"),
    "dated heading": ("<TICKER>,<DTYYYYMMDD>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>", "CAR,{d:%Y%m%d}," + OHLCV),
    "instrument codes": ("RIC,Date,OPEN_PRC,HIGH_1,LOW_1,TRDPRC_1,ACVOL_UNS", "CAR,{d:%Y-%m-%d}," + OHLCV),
    "fields of a terminal": ("Dates,PX_OPEN,PX_HIGH,PX_LOW,PX_LAST,PX_VOLUME", "{d:%m/%d/%Y}," + OHLCV),
    "research files": ("gvkey,datadate,tic,prcod,prchd,prcld,prccd,cshtrd", "001,{d:%Y/%m/%d},CAR," + OHLCV),
    "last and change": (
        '"Date","Price","Open","High","Low","Vol.","Change %"',
        '"{d:%m/%d/%Y}","{c}","{o}","{h}","{l}","{v:,}","0.51%"'),
    "dollars": ("Date,Close/Last,Volume,Open,High,Low", "{d:%m/%d/%Y},${c},{v},${o},${h},${l}"),
    "clock without zone": (HEAD, "{d:%m/%d/%Y} 16:00:00," + OHLCV),
    "zone behind": (HEAD, "{ny:%Y-%m-%dT%H:%M:%S%z}," + OHLCV),
    "rfc 2822": (HEAD.replace(",", ";"), "{d:%a, %d %b %Y} 00:00:00 -0500;{o};{h};{l};{c};{v}"),
    "weekday and month in words": (HEAD.replace(",", ";"), "{d:%A, %B} {d.day}, {d.year};{o};{h};{l};{c};{v}"),
    "serial with a clock": (HEAD, "{serial}.6666667," + OHLCV),
    "milliseconds": ("t,o,h,l,c,v", "{ms}," + OHLCV),
    "previous close and average": (
        "Date,Prev Close,Open,High,Low,Last,VWAP,Avg Volume,Volume", "{d:%Y-%m-%d},1,{o},{h},{l},{c},9,8,{v}"),
    "52 weeks": ("Date,Open,Day High,Day Low,52 Week High,52 Week Low,Close,Volume",
                 "{d:%Y-%m-%d},{o},{h},{l},99,1,{c},{v}"),
    "shares beside money": ("Date,Open,High,Low,Close,Shares,Volume (EUR)", "{d:%Y-%m-%d},{o},{h},{l},{c},{v},{money}"),
    "comments between": (HEAD, "{d:%Y-%m-%d}," + OHLCV + "\n# a comment, with, many, cells, in it, and more"),
    "padded": (HEAD.replace(",", " , "), "{d:%Y-%m-%d} , {o} , {h} , {l} , {c} , {v}"),
    "a currency of two signs": (HEAD, "{d:%Y-%m-%d},HK${o},HK${h},HK${l},HK${c},{v}"),
    "a currency behind the price": (HEAD, "{d:%Y-%m-%d},{o} CHF,{h} CHF,{l} CHF,{c} CHF,{v}"),
    "units below the header": (HEAD + "\n,USD,USD,USD,USD,shares", "{d:%Y-%m-%d}," + OHLCV),
    "full width": (HEAD, "{d:%Y／%m／%d}," + OHLCV),
    "plus": (HEAD, "{d:%Y-%m-%d},+{o},+{h},+{l},+{c},{v}"),
    "scientific": (HEAD, "{d:%Y-%m-%d},{o},{h},{l},{c},{v:.9e}"),
    "hundreds": ("Date,Open,High,Low,Close,Volume (100s)", "{d:%Y-%m-%d},{o},{h},{l},{c},{v}e-2"),
    "thousand shares": ("Date,Open,High,Low,Close,Volume (000s)", "{d:%Y-%m-%d},{o},{h},{l},{c},{v}e-3"),
}  # fmt: skip

COMMAS = {
    "shares and turnover": (
        "Datum;Erster;Hoch;Tief;Schlusskurs;Stuecke;Volumen", "{d:%Y-%m-%d};{o};{h};{l};{c};{v};{money}"),
    "preamble": (
        '"Kurse von CAR"\n\n"Datum";"Eröffnung";"Hoch";"Tief";"Schluss";"Volumen"',
        '"{d:%d.%m.%Y}";"{o}";"{h}";"{l}";"{c}";"{v}"'),
    "tabs": ("date\touv\thaut\tbas\tclot\tvol\tdevise", "{d:%d/%m/%Y} 00:00\t{o}\t{h}\t{l}\t{c}\t{v}\tEUR"),
    "currency behind": (HEAD.replace(",", ";"), "{d:%Y-%m-%d};{o} €;{h} €;{l} €;{c} €;{v}"),
}  # fmt: skip

REFUSED = {
    "no header": ("2023-01-02,1,2,1,2,5", "{d:%Y-%m-%d}," + OHLCV),
    "two digit years": (HEAD, "{d:%m/%d/%y}," + OHLCV),
    "six digits": (HEAD, "{d:%d%m%y}," + OHLCV),
    "day of the year": (HEAD, "{d:%Y%j}," + OHLCV),
    "fractions": (HEAD, "{d:%Y-%m-%d},20 1/4,21 1/2,19 1/8,20 3/4,{v}"),
    "money under volume": (HEAD, "{d:%Y-%m-%d},{o},{h},{l},{c},${money}"),
    "pence and words": (HEAD, "{d:%Y-%m-%d},GBX {o},GBX {h},GBX {l},GBX {c},{v}"),
    "bid and ask": (
        "Date,Bid Open,Bid High,Bid Low,Bid Close,Ask Close,Volume",
        "{d:%Y-%m-%d},{o},{h},{l},{c},{c},{v}",
    ),
    "money alone": ("Date,Open,High,Low,Close,Volume (USD)", "{d:%Y-%m-%d},{o},{h},{l},{c},{money}"),
    "lots of a size nobody states": ("Date,Open,High,Low,Close,Volume (lots)", "{d:%Y-%m-%d}," + OHLCV),
    "unnamed first column": (HEAD, "{i},{d:%Y-%m-%d}," + OHLCV),
    "fields as rows": ("date,ticker,field,value,source", "{d:%Y-%m-%d},CAR,open,{o},x"),
    "weekly": ("<TICKER>,<PER>,<DATE>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>", "CAR,W,{d:%Y%m%d}," + OHLCV),
    "close on another base": (HEAD, "{d:%Y-%m-%d},{o},{h},{l},{half},{v}"),
    "a web page": ("<html><body>429 Too Many Requests</body></html>", ""),
}


def one_file(folder: Path, text: str, name: str = "CAR.csv") -> Path:
    (folder / "in").mkdir()
    (folder / "in" / name).write_bytes(text.encode())
    return folder / "in"


@pytest.mark.parametrize("shape", RIGHT)
def test_shapes_that_are_read_right(tmp_path, shape):
    header, pattern = RIGHT[shape]
    bars, _ = read(one_file(tmp_path, "\n".join([header, *lines(pattern, known())]) + "\n"))
    assert_right(bars, known(), 1e-9)


@pytest.mark.parametrize("shape", COMMAS)
def test_shapes_with_decimal_commas(tmp_path, shape):
    header, pattern = COMMAS[shape]
    table = known("CAR.DE", "XETR")
    bars, _ = read(one_file(tmp_path, "\n".join([header, *lines(pattern, table, Comma)]) + "\n", "CAR.DE.csv"))
    assert_right(bars, table)


@pytest.mark.parametrize("shape", REFUSED)
def test_shapes_that_are_refused_and_named(tmp_path, shape):
    header, pattern = REFUSED[shape]
    bars, found = read(one_file(tmp_path, "\n".join([header, *lines(pattern, known())]) + "\n"))
    assert bars.empty
    assert "CAR" in found["error"]


MONTHS = {
    "russian": "янв. февр. мар. апр. мая июн. июл. авг. сент. окт. нояб. дек.",
    "croatian": "sij velj ožu tra svi lip srp kol ruj lis stu pro",
    "czech": "led úno bře dub kvě čvn čvc srp zář říj lis pro",
    "polish": "sty lut mar kwi maj cze lip sie wrz paź lis gru",
    "hungarian": "jan. febr. márc. ápr. máj. jún. júl. aug. szept. okt. nov. dec.",
    "greek": "Ιαν Φεβ Μαρ Απρ Μαΐ Ιουν Ιουλ Αυγ Σεπ Οκτ Νοε Δεκ",
    "romanian": "ian. feb. mar. apr. mai iun. iul. aug. sept. oct. nov. dec.",
    "indonesian": "Jan Feb Mar Apr Mei Jun Jul Agu Sep Okt Nov Des",
}


@pytest.mark.parametrize("language", MONTHS)
def test_months_of_other_languages(tmp_path, language):
    names, table = MONTHS[language].split(), known(n=249)
    rows = lines("{o};{h};{l};{c};{v}", table)
    rows = [f"{d.day}. {names[d.month - 1]} {d.year};{row}" for d, row in zip(table["date"], rows)]
    assert_right(read(one_file(tmp_path, "\n".join([HEAD.replace(",", ";"), *rows]) + "\n"))[0], table)


def test_a_month_of_several_languages_is_not_guessed(tmp_path):
    table = known(n=249)
    table = table[table["date"].dt.month == 11].reset_index(drop=True)
    rows = [f"{d.day}. lis {d.year};{row}" for d, row in zip(table["date"], lines("{o};{h};{l};{c};{v}", table))]
    assert read(one_file(tmp_path, "\n".join([HEAD.replace(",", ";"), *rows]) + "\n"))[0].empty


PLAIN = "{d:%Y-%m-%d}," + OHLCV


def test_a_header_that_comes_again_is_no_row_and_another_one_ends_the_file(tmp_path):
    rows = lines(PLAIN, known())
    again = one_file(tmp_path, "\n".join([HEAD, *rows[:30], HEAD.upper(), *rows[30:]]) + "\n")
    assert_right(read(again)[0], known())
    other = [
        HEAD,
        *rows[:30],
        "Date,Close,High,Low,Open,Volume",
        *lines("{d:%Y-%m-%d},{c},{h},{l},{o},{v}", known()[30:]),
    ]
    (again / "CAR.csv").write_text("\n".join(other) + "\n")
    bars, found = read(again)
    assert_right(bars, known()[:30])
    assert found["rows_refused"] == 30


def test_a_quote_that_is_never_closed_refuses_the_file(tmp_path):
    rows = lines("{d:%Y-%m-%d},Car," + OHLCV, known())
    rows[20] = rows[20].replace(",Car,", ',"Car,')
    bars, found = read(one_file(tmp_path, "\n".join(["Date,Name,Open,High,Low,Close,Volume", *rows]) + "\n"))
    assert bars.empty
    assert "quote opened in line 22" in found["error"]


def test_rows_in_another_currency_are_refused(tmp_path):
    rows = lines(PLAIN + ",GBP", known("CAR.L", "XLON"))
    for i in (11, 33):
        rows[i] = rows[i].replace(".", "").replace("GBP", "GBX")
    bars, found = read(one_file(tmp_path, "\n".join([HEAD + ",Currency", *rows]) + "\n", "CAR.L.csv"))
    assert_right(bars, known("CAR.L", "XLON").drop(index=[11, 33]))
    assert list(found["refusals"]) == ["row in another currency than most of its ticker"]


@pytest.mark.parametrize(
    "name",
    [
        "CAR_D1.csv",
        "CAR_2023-01-03_2023-06-30.csv",
        "CAR (1).csv",
        "CAR - Copy.csv",
        "Copy of CAR.csv",
        "NASDAQ_CAR, 1D.csv",
        "NYSE_CAR.csv",
        "NYSE/CAR.csv",
        "CAR Historical Data.csv",
        "CAR Stock Price History.csv",
    ],
)
def test_names_of_copies_and_of_exchanges_are_no_tickers(tmp_path, name):
    (tmp_path / "in" / name).parent.mkdir(parents=True)
    (tmp_path / "in" / name).write_text("\n".join([HEAD, *lines(PLAIN, known())]) + "\n")
    assert_right(read(tmp_path / "in")[0], known())


def test_a_copy_of_a_file_is_ignored_and_said(tmp_path):
    folder = one_file(tmp_path, "\n".join([HEAD, *lines(PLAIN, known())]) + "\n")
    (folder / "CAR (1).csv").write_text("\n".join([HEAD, *lines(PLAIN, known()[:30])]) + "\n")
    bars, found = read(folder)
    assert_right(bars, known())
    assert any("CAR (1).csv is ignored" in text for text in found["files_skipped"])


def test_jumps_and_several_exchanges_are_said(tmp_path):
    table = known()
    table.loc[30:, ["open", "high", "low", "close"]] *= 10
    rows = [f"{r},{'NYSE' if i < 30 else 'TSX'}" for i, r in enumerate(lines(PLAIN, table))]
    _, found = read(one_file(tmp_path, "\n".join([HEAD + ",Exchange", *rows]) + "\n"))
    said = " ".join(found["warnings"])
    assert "jump" in said
    assert "NYSE and TSX" in said


def test_a_wide_file_says_which_tickers_lack_a_column(tmp_path):
    header = "Date," + ",".join(f"{f}_CAR" for f in HEAD.split(",")[1:]) + ",Open_LTS,High_LTS,Low_LTS,Close_LTS"
    rows = lines(PLAIN + ",{o},{h},{l},{c}", known())
    bars, found = read(one_file(tmp_path, "\n".join([header, *rows]) + "\n", "dl.csv"))
    assert_right(bars, known())
    assert any("LTS (volume)" in text for text in found["warnings"])


def test_prices_in_small_coins_and_tickers_as_formulas(tmp_path):
    header = "Ticker,Date,Open (pence),High (pence),Low (pence),Close (pence),Volume"
    rows = [f'="00005",{row}' for row in lines(PLAIN, known("00005"))]
    path = one_file(tmp_path, "\n".join([header, *rows]) + "\n", "all.csv") / "all.csv"
    bars, found = read(path)
    assert_right(bars, known("00005"))
    assert any("counted in pence" in text for text in found["warnings"])
