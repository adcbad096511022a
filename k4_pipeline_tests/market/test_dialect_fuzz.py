"""One known table written in random dialects: what is read back is the table or a part of it, never other bars.

`K4_FUZZ=500` tries that many dialects; CI tries a few dozen. Every draw is printed when it fails.
"""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from k4_pipeline.config import PipelineConfig, SourceConfig
from k4_pipeline.market import calendar
from k4_pipeline.market.bars import to_dates
from k4_pipeline.market.summary import check_source

COUNT = int(os.environ.get("K4_FUZZ", "40"))
VALUES = ("open", "high", "low", "close", "volume")
NOW = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
DATES = {
    "iso": lambda d: f"{d:%Y-%m-%d}",
    "iso with midnight": lambda d: f"{d:%Y-%m-%d %H:%M:%S}",
    "iso with zone": lambda d: d.tz_localize("America/New_York").isoformat(),
    "close in UTC": lambda d: (d + pd.Timedelta("16h")).tz_localize("America/New_York").tz_convert("UTC").isoformat(),
    "compact": lambda d: f"{d:%Y%m%d}",
    "dots": lambda d: f"{d:%d.%m.%Y}",
    "day first": lambda d: f"{d:%d/%m/%Y}",
    "month first": lambda d: f"{d:%m/%d/%Y}",
    "words": lambda d: f"{d:%d-%b-%Y}",
    "words first": lambda d: f"{d:%B} {d.day} {d.year}",
    "serial": lambda d: str((d - pd.Timestamp("1899-12-30")).days),
    "seconds": lambda d: str(int(d.timestamp())),
    "milliseconds": lambda d: str(int(d.timestamp() * 1000)),
    "nanoseconds": lambda d: str(int(d.timestamp()) * 10**9),
}
HEADINGS = {
    "english": ("ticker", "date", "open", "high", "low", "close", "volume"),
    "capitals": ("SYMBOL", "DATE", "OPEN", "HIGH", "LOW", "CLOSE", "VOL"),
    "metatrader": ("<TICKER>", "<DATE>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"),
    "german": ("Symbol", "Datum", "Eröffnung", "Hoch", "Tief", "Schlusskurs", "Volumen"),
    "french": ("Ticker", "Date", "Ouverture", "Plus haut", "Plus bas", "Clôture", "Volume"),
    "units": ("Ticker", "Date", "Open (USD)", "High (USD)", "Low (USD)", "Close (USD)", "Volume (shares)"),
}


@dataclass(frozen=True)
class Draw:
    """One random way to write the table."""

    delimiter: str
    decimal: str
    thousands: str
    date: str
    headings: str
    encoding: str
    ending: str
    places: int
    quote: bool
    wide: bool
    scale: float
    before: str
    shuffled: tuple[int, ...]


def draw(rng: np.random.Generator) -> Draw:
    def one(*choices):  # type: ignore[no-untyped-def]
        return choices[int(rng.integers(len(choices)))]

    decimal = one(".", ".", ",")
    return Draw(
        delimiter=one(",", ";", "\t", "|"),
        decimal=decimal,
        thousands=one("", "", "," if decimal == "." else ".", " ", "'"),
        date=one(*DATES),
        headings=one(*HEADINGS),
        encoding=one("utf-8", "utf-8-sig", "utf-16", "latin-1"),
        ending=one("\n", "\r\n"),
        places=one(2, 2, 3, 4),
        quote=bool(one(True, False)),
        wide=one(True, False, False),
        scale=one(5.0, 20.0, 980.0, 2500.0),
        before=one("", "", "Export of prices", "sep"),
        shuffled=tuple(rng.permutation(7).tolist()),
    )


def known_table(scale: float, places: int, rng: np.random.Generator) -> pd.DataFrame:
    days, parts = to_dates(calendar.sessions("XNYS", "2013-01-02", "2013-06-28")[:60]), []
    for ticker in ("CAR", "LTS"):
        close = scale * np.exp(np.cumsum(rng.normal(0, 0.03, len(days))))
        prices = {"open": close * 1.001, "high": close * 1.02, "low": close * 0.98, "close": close}
        part = {"ticker": ticker, "date": days, **{c: np.round(x, places) for c, x in prices.items()}}
        parts.append(pd.DataFrame({**part, "volume": np.floor(rng.lognormal(12, 2, len(days)))}))
    return pd.concat(parts, ignore_index=True)


def number(x: float, form: Draw, places: int) -> str:
    text = f"{x:,.{places}f}"
    return text.translate({ord(","): form.thousands, ord("."): form.decimal})


def lines_of(table: pd.DataFrame, form: Draw) -> list[str]:
    def cell(text: str) -> str:
        return f'"{text}"' if form.quote or form.delimiter in text else text

    def row_of(values: dict[str, float]) -> list[str]:
        return [number(values[c], form, 0 if c == "volume" else form.places) for c in VALUES]

    date = DATES[form.date]
    if form.wide:
        head = ["Date", *(f"{c.title()}_{t}" for t in ("CAR", "LTS") for c in VALUES)]
        rows = [
            [date(day), *(text for _, r in part.sort_values("ticker").iterrows() for text in row_of(dict(r)))]
            for day, part in table.groupby("date")
        ]
    else:
        head = [HEADINGS[form.headings][i] for i in form.shuffled]
        long = [[r["ticker"], date(r["date"]), *row_of(r)] for r in table.to_dict("records")]
        rows = [[row[i] for i in form.shuffled] for row in long]
    start = {"": [], "sep": [f"sep={form.delimiter}"]}.get(form.before, [form.before])
    return [*start, *(form.delimiter.join(map(cell, row)) for row in [head, *rows])]


def test_no_dialect_gives_other_bars(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    tally = {"right": 0, "part": 0, "refused": 0}
    for i in range(COUNT):
        form = draw(rng)
        table = known_table(form.scale, form.places, rng)
        path = tmp_path / f"{i}.csv"
        path.write_bytes((form.ending.join(lines_of(table, form)) + form.ending).encode(form.encoding))
        config = PipelineConfig(source=SourceConfig(source="table", path=str(path)))
        summary, bars = check_source(config, now=NOW)
        path.unlink()
        if bars is None:
            assert str(path) in " ".join(summary["warnings"]), form
            tally["refused"] += 1
            continue
        # A gap left by refused rows may begin a new listing.
        got = bars.to_frame().assign(ticker=lambda f: f["ticker"].str.partition("#")[0])
        both = got.merge(table, on=["ticker", "date"], suffixes=("", "_sent"), validate="1:1")
        assert len(both) == len(got), (form, got.head(), summary["dialects"])
        for column in VALUES:
            np.testing.assert_allclose(both[column], both[f"{column}_sent"], rtol=1e-12, err_msg=f"{form} {column}")
        assert summary["rows_kept"] + summary["rows_refused"] == summary["rows_read"]
        tally["right" if len(got) == len(table) else "part"] += 1
    print(COUNT, tally)
    assert tally["right"] >= 0.75 * COUNT, tally
