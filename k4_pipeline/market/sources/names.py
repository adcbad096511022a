"""The ticker a file stands for: told from its name, the folder above it, or a `ticker=…` part of its path."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from k4_pipeline.market.exchanges import EXCHANGE_OF_SUFFIX
from k4_pipeline.market.files.opening import (
    DATABASE_SUFFIXES,
    FEATHER_SUFFIXES,
    PACKED_SUFFIXES,
    PARQUET_SUFFIXES,
    TEXT_SUFFIXES,
    Entry,
)
from k4_pipeline.market.files.partitions import ticker_partition

_KNOWN_SUFFIXES = (*PACKED_SUFFIXES, *PARQUET_SUFFIXES, *FEATHER_SUFFIXES, *DATABASE_SUFFIXES, *TEXT_SUFFIXES)
_GENERIC = re.compile(
    r"^(?:data|part|file|chunk|daily|day|1d|d1|eod|prices?|ohlcv?|history|historical|quotes?|bars?|table|export)?"
    r"[-_ ]?(?:[0-9a-f-]{8,}|\d{0,6})(?:[-_.](?:data|c000|\d+))*$",
    re.IGNORECASE,
)
_STOOQ = re.compile(r"^([a-z0-9\-^]+(?:\.[a-z])?)[._]([a-z]{2})(?:_[dwm])?$")
_TAIL = re.compile(r"(?:[ _-](?:daily|1d|d1|1day|eod|history|historical|stock|prices?|data|ohlcv?))+$", re.IGNORECASE)
_FRONT = re.compile(r"^(?:(?:daily|adjusted|eod|history|prices?|ohlcv?)[ _-])+(?=\S)", re.IGNORECASE)
_COPY = re.compile(
    r"^(?:copy of |kopie von )?(.+?)(?: \(\d+\)| - (?:copy|kopie)(?: \(\d+\))?| copy(?: \d+)?)?$", re.IGNORECASE
)
_EXCHANGES = {  # and other names of folders that stand for no ticker
    "raw", "adjusted", "unadjusted",
    "nyse", "nasdaq", "amex", "arca", "bats", "otc", "cboe", "tsx", "tsxv", "lse", "xetra", "euronext", "asx", "hkex",
    "sse", "szse", "nse", "bse", "jpx", "tse", "krx", "twse", "xnys", "xnas", "xlon", "xetr", "xpar", "xams", "xtks",
}  # fmt: skip
_CHART = re.compile(r", ?(?:1?D|1440)$")  # a chart exported by TradingView: `NASDAQ_AAPL, 1D`
_DATED = re.compile(r"^(.+?)[-_ ](?:19|20)\d{2}(?:[-_]?(?:0[1-9]|1[0-2])(?:[-_]?[0-3]\d)?)?$")

_PERIOD = re.compile(r"^(?:19[5-9]|20[0-4])\d(?:0[1-9]|1[0-2])?$")  # `2013`, `201301`: may be a ticker, too


def stem_of(path: Path) -> str:
    """The name without the suffixes of formats and compressions: `VOD.L` of `VOD.L.csv.gz`."""
    name = path.name
    while (suffix := Path(name).suffix.lower()) in _KNOWN_SUFFIXES and len(name) > len(suffix):
        name = name[: -len(suffix)]
    return name


def ticker_of_stem(stem: str, *, text_file: bool = False) -> tuple[str, bool]:
    """(ticker, whether the name was understood as a vendor's): `car_us_d` is CAR, `vod.uk` VOD.UK, `AAPL_daily` AAPL."""  # noqa: E501
    if (match := _STOOQ.match(stem)) and match[2].upper() in EXCHANGE_OF_SUFFIX:
        return match[1].upper() + ("" if match[2] == "us" else f".{match[2].upper()}"), True
    short = _FRONT.sub("", _TAIL.sub("", _undated(_CHART.sub("", original_of(stem)))))
    exchange, _, rest = short.partition("_")
    if rest and exchange.lower() in _EXCHANGES and exchange == exchange.upper():
        short = rest
    if short and short != stem:
        return short, True
    if text_file and stem == stem.lower():
        return stem.upper(), True
    return stem, False


def is_generic(stem: str) -> bool:
    """Whether a name says nothing about a ticker: `data_0`, `part-00000`, `daily`. Numbers of four digits and more
    with a suffix (`0005.HK`, `600000`) are tickers."""
    return bool(_GENERIC.match(stem)) and not re.fullmatch(r"\d{4,6}", stem)


def original_of(stem: str) -> str:
    """`CAR` of `CAR (1)`, `CAR - Copy` and `Copy of CAR`."""
    match = _COPY.match(stem)
    return match[1] if match else stem


def _undated(stem: str) -> str:
    match = _DATED.match(stem)
    return _undated(match[1]) if match else stem


@dataclass(frozen=True)
class Named:
    """A file and its ticker. `is_part`: it is one of several of a ticker or of a table, as `data_0`, `CAR_2013-01`,
    `CAR/2013` and `ticker=CAR/…` are."""

    ticker: str
    entry: Entry
    is_part: bool


def tickers_of(entries: Sequence[Entry]) -> tuple[list[Named], list[str]]:
    """(every entry with its ticker, sentences about names that were taken as they stand or from a folder)."""
    stems = [stem_of(e.relative) for e in entries]
    homes: dict[str, set[Path]] = defaultdict(set)
    inside: dict[Path, set[str]] = defaultdict(set)
    for entry, stem in zip(entries, stems):
        homes[stem].add(entry.relative.parent)
        inside[entry.relative.parent].add(stem)
    out: list[Named] = []
    as_it_stands, from_folder = [], []
    for entry, stem in zip(entries, stems):
        parts = entry.relative.parts[:-1]
        named = ticker_partition(entry.relative)
        folders = [p for p in parts if not is_generic(p) and "=" not in p and p.lower() not in _EXCHANGES]
        shared = len(homes[stem]) > 1 and all(h != Path() and inside[h] == {stem} for h in homes[stem])
        periods = bool(parts) and all(_PERIOD.match(other) for other in inside[entry.relative.parent])
        part = any("=" in p for p in parts) or is_generic(stem) or bool(_DATED.match(stem))
        if named:
            out.append(Named(named, entry, True))
        elif folders and (is_generic(stem) or shared or periods):
            out.append(Named(folders[-1], entry, part or periods))
            from_folder.append(f"{entry.relative} is {folders[-1]}")
        else:
            ticker, known = ticker_of_stem(stem, text_file=entry.suffix == ".txt")
            out.append(Named(ticker, entry, part))
            if not known and (stem != stem.upper() or " " in stem or "_" in stem):
                as_it_stands.append(f"{entry.relative} is {ticker}")
    notes = []
    if as_it_stands:
        notes.append(f"{len(as_it_stands)} file names are taken as tickers as they stand, e.g. {as_it_stands[0]}")
    if from_folder:
        notes.append(f"{len(from_folder)} tickers are taken from the folder of the file, e.g. {from_folder[0]}")
    return out, notes
