"""Shapes of files as vendors send them, each with the reading it must have; docs/data-dialects.md shows them.

`python -m k4_pipeline_tests.market.cases` prints that table from what is read now.
"""

from __future__ import annotations

import datetime as dt
import gzip
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from k4_pipeline.config import PipelineConfig
from k4_pipeline.market.sources.kinds import kind_of
from k4_pipeline.market.summary import check_source
from k4_pipeline.options import apply_assignments, apply_options

NOW = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
DAYS = pd.bdate_range("2013-01-02", periods=30)
DAYS = DAYS[~DAYS.isin(pd.to_datetime(["2013-01-21"]))]
HEADER = "Date,Open,High,Low,Close,Volume"
Reading = Callable[[pd.DataFrame, dict[str, Any]], str]


@dataclass(frozen=True)
class Case:
    """Files as sent (name -> content; `{…}` of a row pattern is filled in day by day) and the reading that is right."""

    kind: str
    sent: str
    reading: str  # what `read` must say
    read: Reading
    files: dict[str, bytes | str]
    path: str = ""  # below the folder; "" = the folder
    options: tuple[str, ...] = field(default=())


def rows(pattern: str, days: pd.DatetimeIndex = DAYS, **last: str) -> list[str]:
    """One row a day; `last` replaces texts of the last one."""
    out = [pattern.format(d=d, i=i) for i, d in enumerate(days)]
    for old, new in last.items():
        out[-1] = out[-1].replace(old, new)
    return out


def text(header: str, *lines: str) -> str:
    return "\n".join([header, *lines]) + "\n"


def first(column: str) -> Reading:
    def say(bars: pd.DataFrame, found: dict[str, Any]) -> str:
        value = bars[column].iloc[0]
        return f"{column} {value:%Y-%m-%d}" if column == "date" else f"{column} {value:g}"

    return say


def last_close(bars: pd.DataFrame, found: dict[str, Any]) -> str:
    return f"close {bars['close'].iloc[-1]:g}"


def tickers(bars: pd.DataFrame, found: dict[str, Any]) -> str:
    return ", ".join(sorted(bars["ticker"].unique()))


def days_kept(bars: pd.DataFrame, found: dict[str, Any]) -> str:
    return f"{len(bars)} bars, first {bars['date'].min():%Y-%m-%d}"


def refusal(bars: pd.DataFrame, found: dict[str, Any]) -> str:
    if found.get("error") and not found["refusals"]:
        return "refused: " + found["error"].split(": ", 1)[-1].split(";")[0]
    (reason, about), *_ = found["refusals"].items()
    return f"{about['count']} refused: {reason}; as sent: {about['example']}"


def said(word: str) -> Reading:
    def say(bars: pd.DataFrame, found: dict[str, Any]) -> str:
        return "said: " + next((w for w in found["warnings"] if word in w), "nothing").split(": ", 1)[-1]

    return say


def check(case: Case, folder: Path) -> str:
    """What is read of the case now."""
    for name, content in case.files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    path = str(folder / case.path)
    config = apply_options(PipelineConfig(), {"source": kind_of(path), "path": path})
    found, bars = check_source(apply_assignments(config, list(case.options)), now=NOW)
    frame = pd.DataFrame() if bars is None else bars.to_frame()
    return case.read(frame, found).replace(str(folder) + "/", "")


def parquet(**columns: Any) -> bytes:
    out = pa.BufferOutputStream()
    n = len(DAYS)
    values = {"date": pa.array(DAYS.date), "open": [20.0] * n, "high": [21.0] * n, "low": [19.0] * n}
    pq.write_table(pa.table({**values, "close": [20.0] * n, "volume": [5.0] * n, **columns}), out)
    return out.getvalue().to_pybytes()


_PLAIN = "20,21,19,20,5"
_MONTHS = ["Jan", "Feb", "Mrz", "Apr", "Mai", "Jun", "Jul", "Aug", "Sep", "Okt", "Nov", "Dez"]
_SPRING = pd.bdate_range("2015-02-17", periods=25)
_WIDE = (
    "Price,Close,Close,High,High,Low,Low,Open,Open,Volume,Volume",
    "Ticker,CAR,LTS,CAR,LTS,CAR,LTS,CAR,LTS,CAR,LTS",
    "Date,,,,,,,,,,",
)
_CLOSE_IN_UTC = [
    f"CAR,{(d + pd.Timedelta('16h')).tz_localize('America/New_York').tz_convert('UTC').isoformat()},{_PLAIN}"
    for d in DAYS
]

CASES = (
    Case(
        "A", "`RDNT.DE,2013-01-01 23:00:00+00:00,…`: an instant", "date 2013-01-02", first("date"),
        {"t.csv": text("ticker,date,open,high,low,close,volume", *(
            f"RDNT.DE,{d - pd.Timedelta(days=1):%Y-%m-%d} 23:00:00+00:00,2.5,2.6,2.4,2.5,1000" for d in DAYS))},
        "t.csv",
    ),
    Case("A", "the close of New York, in UTC", "date 2013-01-02", first("date"),
         {"t.csv": text("ticker,date,open,high,low,close,volume", *_CLOSE_IN_UTC)}, "t.csv"),
    Case("B", "`10,5;11,2;10,1;10,9;1.200` in a file with decimal commas", "volume 1200", first("volume"),
         {"CAR.csv": text(HEADER.replace(",", ";"), *rows("{d:%d.%m.%Y};10,5;11,2;10,1;10,9;1.200"))}),
    Case("B", "one row `\"1,002.50\",…,\"1,001.00\"` far down among plain ones", "close 1001", last_close,
         {"CAR.csv": text(HEADER, *rows("{d:%Y-%m-%d},900.5,905,899,901,1234", DAYS[:-1]),
                          f'{DAYS[-1]:%Y-%m-%d},"1,002.50","1,010.00","999.00","1,001.00",1234')}),
    Case("B", "the same without quotes",
         "1 refused: row has more cells than the header; as sent: 2013-02-12,1,200.00,1,212.00,1,188.00,1,200.00,12345",
         refusal, {"CAR.csv": text(HEADER, *rows("{d:%Y-%m-%d},900,905,899,901,1234", DAYS[:-1]),
                                   f"{DAYS[-1]:%Y-%m-%d},1,200.00,1,212.00,1,188.00,1,200.00,12345")}),
    Case("B", "`$224.93` under `Close/Last`", "close 224.93", first("close"),
         {"CAR.csv": text("Date,Close/Last,Volume,Open,High,Low", *rows("{d:%m/%d/%Y},$224.93,5000,$224,$226,$223"))}),
    Case("B", "volume `1.2M`", "volume 1.2e+06", first("volume"),
         {"CAR.csv": text(HEADER, *rows("{d:%Y-%m-%d},20,21,19,20.5,1.2M"))}),
    Case("B", "`1'234.50`", "open 1234.5", first("open"),
         {"CAR.csv": text(HEADER, *rows("{d:%Y-%m-%d},1'234.50,1'240.00,1'230.00,1'235.00,5000"))}),
    Case("B", "prices `20.450`, volumes `1.234.567`: nothing tells the sign of the prices",
         "29 refused: number has two readings: decimal or thousands sign?; as sent: "
         "CAR; 2013-01-02; 20.450; 21.450; 19.450; 20.450; 1.234.567", refusal,
         {"CAR.csv": text(HEADER.replace(",", ";"), *rows("{d:%Y-%m-%d};20.450;21.450;19.450;20.450;1.234.567"))}),
    Case("C", '`"Turnover, EUR",Volume,Trades`: a comma in a heading', "volume 2.99194e+06", first("volume"),
         {"CAR.csv": text('"Date","Open","High","Low","Close","Turnover, EUR","Volume","Trades"',
                          *rows("{d:%Y-%m-%d},20,21,19,20,60000000,2991943,9974"))}),
    Case("C", "`High52`, `Volume20` beside `High`, `Volume`", "volume 1000", first("volume"),
         {"CAR.csv": text("Date,High52,Low52,Open,High,Low,Close,Volume20,Volume",
                          *rows("{d:%Y-%m-%d},99,1,20,21,19,20.5,777,1000"))}),
    Case("C", "`Close` and `close`", "refused: CAR.csv: 2 columns may be the close: 'Close', 'close'", refusal,
         {"CAR.csv": text("Date,Open,High,Low,Close,close,Volume", *rows("{d:%Y-%m-%d},20,21,19,20,10,5"))}),
    Case("C", "header in three rows, two tickers beside each other", "CAR, LTS", tickers,
         {"download.csv": text(*_WIDE, *rows("{d:%Y-%m-%d},20.7,1.45,21.1,1.49,20.3,1.35,20.4,1.43,2991943,741181"))}),
    Case("C", "flattened headings `Close_CAR`", "CAR, LTS", tickers,
         {"all.csv": text("Date," + ",".join(f"{f}_{t}" for f in HEADER.split(",")[1:] for t in ("CAR", "LTS")),
                          *rows("{d:%Y-%m-%d},20,2,21,2.1,19,1.9,20,2,5,6"))}),
    Case("C", "`<TICKVOL>` filled, `<VOL>` 0", "said: the volume is 0 throughout; the tick volume is used in its place",
         said("tick volume"), {"CAR.csv": text("<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>",
                                               *rows("{d:%Y.%m.%d}\t20\t21\t19\t20.5\t77\t0"))}),
    Case("C", "`Stuecke` (shares) beside `Volumen` (money)", "volume 5000", first("volume"),
         {"CAR.DE.csv": text("Datum;Erster;Hoch;Tief;Schlusskurs;Stuecke;Volumen",
                             *rows("{d:%Y-%m-%d};20,1;21,1;19,1;20,5;5.000;102.500", _SPRING))}),
    Case("D", "`ticker=CAR/data_0.parquet`", "CAR", tickers, {"ticker=CAR/data_0.parquet": parquet()}),
    Case("D", "`CAR/daily.csv`", "CAR", tickers, {"CAR/daily.csv": text(HEADER, *rows("{d:%Y-%m-%d}," + _PLAIN))}),
    Case("D", "`date=2013-01-02/part-0.csv`, the date in no column", "29 bars, first 2013-01-02", days_kept,
         {f"date={d:%Y-%m-%d}/part-0.csv": f"ticker,open,high,low,close,volume\nCAR,{_PLAIN}\n" for d in DAYS}),
    Case("D", "`car_us_d.csv`, `lts.us.txt`", "CAR, LTS", tickers,
         {n: text(HEADER, *rows("{d:%Y-%m-%d}," + v)) for n, v in
          (("car_us_d.csv", _PLAIN), ("lts.us.txt", "30,31,29,30,6"))}),
    Case("D", "`CAR.csv.gz`", "CAR", tickers,
         {"CAR.csv.gz": gzip.compress(text(HEADER, *rows("{d:%Y-%m-%d}," + _PLAIN)).encode())}),
    Case("E", "a month that is refused",
         "said: 1 tickers lose more than 2% of their rows; CAR loses 3 of 29 rows (10.3%), first: high is missing or "
         "no number, 'n/a' in CAR.csv",
         lambda bars, found: "said: " + next(w for w in found["warnings"] if "lose more" in w),
         {"CAR.csv": text(HEADER, *rows("{d:%Y-%m-%d}," + _PLAIN, DAYS[:-3]),
                          *(f"{d:%Y-%m-%d},20,n/a,19,20,5" for d in DAYS[-3:]))}),
    Case("F", "`02. Mrz 2015`", "25 bars, first 2015-02-17", days_kept,
         {"CAR.DE.csv": text("Datum;Open;High;Low;Close;Volume", *(
             f"{d.day:02d}. {_MONTHS[d.month - 1]} {d.year};20;21;19;20;500" for d in _SPRING))}),
    Case("F", "`LTS,13/01/2013` beside `CAR,01/14/2013`", "CAR, LTS", tickers,
         {"t.csv": text("ticker," + HEADER, *rows("LTS,{d:%d/%m/%Y}," + _PLAIN), *rows("CAR,{d:%m/%d/%Y},9,10,8,9,6"))},
         "t.csv"),
    Case("F", "days below 13 alone, `03/01/2013`",
         "24 refused: date is ambiguous: day first or month first?; as sent: 02/01/2013", refusal,
         {"CAR.csv": text(HEADER, *rows("{d:%d/%m/%Y}," + _PLAIN, pd.DatetimeIndex(
             [d for d in pd.bdate_range("2013-01-01", periods=90) if 1 < d.day <= 12])[:24]))}),
    Case("F", "Excel's `41276`", "date 2013-01-02", first("date"),
         {"CAR.csv": text(HEADER, *(f"{(d - pd.Timestamp('1899-12-30')).days},{_PLAIN}" for d in DAYS))}),
    Case("F", "milliseconds since 1970", "date 2013-01-02", first("date"),
         {"CAR.csv": text(HEADER, *(f"{int(d.timestamp() * 1000)},{_PLAIN}" for d in DAYS))}),
    Case("G", "a ticker used again after years", "CAR, CAR#2", tickers,
         {"CAR.csv": text(HEADER, *rows("{d:%Y-%m-%d}," + _PLAIN, DAYS.union(_SPRING)))}),
    Case("G", "weekends that repeat the last bar",
         "12 refused: repeats the last bar on a day without a session; as sent: CAR; 2013-01-05; 20; 21; 19; 20; 5",
         refusal,
         {"CAR.csv": text(HEADER, *rows("{d:%Y-%m-%d}," + _PLAIN, DAYS.union(
             [d for d in pd.date_range(DAYS[0], DAYS[-1]) if d.dayofweek > 4])))}),
    Case("G", "hourly bars", "60 refused: ticker holds several bars a day: no daily series; as sent: "
         "CAR; 2013-01-02 09:30; 20; 21; 19; 20; 5",
         refusal, {"CAR.csv": text(HEADER, *(
             f"{d:%Y-%m-%d} {h}:30,{20 + i},{21 + i},{19 + i},{20 + i},5" for d in DAYS[:20]
             for i, h in enumerate(("09", "10", "11"))))}),
    Case("G", "raw prices beside a full adjusted set",
         "said: the raw ones are used; --set source.prices=adjusted takes the others", said("raw and adjusted"),
         {"CAR.csv": text("date,open,high,low,close,volume,adj_open,adj_high,adj_low,adj_close,adj_volume",
                          *rows("{d:%Y-%m-%d},20,21,19,20.5,5,10,10.5,9.5,10.25,10"))}),
    Case("H", "UTF-16 with a mark", "CAR", tickers,
         {"CAR.csv": text(HEADER, *rows("{d:%Y-%m-%d}," + _PLAIN)).encode("utf-16")}),
    Case("H", "headings in Shift-JIS", "7203.T", tickers,
         {"7203.T.csv": text("日付,始値,高値,安値,終値,出来高",
                                *rows("{d:%Y/%m/%d}," + _PLAIN, _SPRING)).encode("cp932")}),
    Case("H", "tickers stored as bytes", "CAR", tickers,
         {"t.parquet": parquet(ticker=pa.array([b"CAR"] * len(DAYS), pa.binary()))}, "t.parquet"),
    Case("H", "`sep=;` before the header", "CAR", tickers,
         {"CAR.csv": "sep=;\n" + text(HEADER.replace(",", ";"), *rows("{d:%Y-%m-%d};20,5;21,5;19,5;20,5;5"))}),
    Case("H", "the file ends inside the last volume",
         "1 refused: the file ends inside this row; as sent: 2013-02-12,20,21,19,20,29919", refusal,
         {"CAR.csv": text(HEADER, *rows("{d:%Y-%m-%d},20,21,19,20,2991943"))[:-3]}),
    Case("I", "a gzip that unpacks to more than the limit", "refused: holds more than 1 MB (unpacked)",
         lambda bars, found: "refused: " + found["error"].split("CAR.csv.gz ")[1].split(";")[0],
         {"CAR.csv.gz": gzip.compress(b"0" * 5_000_000)}, options=("source.max_file_mb=1",)),
    Case("I", "more rows than the limit", "refused: 29 rows, more than 20",
         lambda bars, found: "refused: " + found["error"].split(" has ")[-1].split(";")[0],
         {"t.parquet": parquet(ticker=["CAR"] * len(DAYS))}, "t.parquet", ("source.max_rows=20",)),
    *(Case("right before", f"ticker `{t}`", t, tickers,
           {"t.csv": text("ticker," + HEADER, *rows(t + ",{d:%Y-%m-%d}," + _PLAIN, _SPRING))}, "t.csv")
      for t in ("NA", "TRUE", "1E5", "000001.SZ")),
)  # fmt: skip


def table(readings: list[str]) -> str:
    """The table of docs/data-dialects.md."""
    lines = ["| kind | what is sent | what is read |", "|---|---|---|"]
    escaped = [(c.kind, c.sent, r.replace("|", "\\|")) for c, r in zip(CASES, readings)]
    return "\n".join([*lines, *(f"| {kind} | {sent} | {reading} |" for kind, sent, reading in escaped)])


def readings() -> list[str]:
    """Of every case, now."""
    out = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            out.append(check(case, Path(folder)))
    return out


if __name__ == "__main__":
    print(table(readings()))
