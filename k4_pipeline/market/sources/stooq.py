"""Source `stooq`: a bulk archive of stooq.com (`d_us_txt.zip`), packed or unpacked: one text file per ticker.

The archive holds `data/daily/us/nasdaq stocks/1/aapl.us.txt` with `<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,…`. Files of
hours and minutes are left out; those of tickers without bars are empty, and are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from k4_pipeline.config import SourceConfig
from k4_pipeline.market.files.opening import Entry
from k4_pipeline.market.sources.base import RawBars
from k4_pipeline.market.sources.folder import read_folder
from k4_pipeline.progress import Progress

_LONGER_OR_SHORTER = ("hourly", "5 min", "weekly", "monthly", "1 min", "15 min", "30 min")


def is_daily(entry: Entry) -> bool:
    """Whether the path of a file says daily bars, or says nothing."""
    return not any(part.lower() in _LONGER_OR_SHORTER for part in entry.relative.parts[:-1])


def read_archive(
    path: Path | str,
    *,
    tickers: Sequence[str] = (),
    progress: Progress | None = None,
    config: SourceConfig | None = None,
    default_exchange: str = "XNYS",
    kept: Path | None = None,
    keep: bool = True,
) -> RawBars:
    """The daily bars of an archive. `BadInputError` as of `read_folder`."""
    raw = read_folder(
        path, tickers=tickers, progress=progress, config=config, default_exchange=default_exchange, kept=kept,
        keep=keep, wanted=is_daily,
    )  # fmt: skip
    empty = [text for text in raw.skipped if " is empty" in text]
    if len(empty) < 2:
        return raw
    said = f"{len(empty)} files of the archive are empty (tickers without bars), e.g. {empty[0].split(' is empty')[0]}"
    gone = set(empty)
    problems = [said, *(p for p in raw.problems if p not in gone)]
    return replace(raw, problems=problems, skipped=[said, *(s for s in raw.skipped if s not in gone)])
