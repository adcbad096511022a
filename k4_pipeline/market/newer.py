"""What a new session adds to cleaned bars: the rows after the last known day, and the tickers whose past was restated.

The newest rows of the source are cleaned together with an overlap of known sessions. Where the overlap says what it
said before, the rows behind it are appended. A ticker whose overlap differs (a split, a correction), a ticker that was
not known, and one whose new rows are judged by more than themselves (a long silence, bars beside the sessions) is read
and cleaned again with its whole history. What changes further back than the overlap shows in the sample that is read
again every night, and in the full run.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from k4_pipeline.config import CleaningConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market import calendar
from k4_pipeline.market.bars import PRICE_COLUMNS, Bars
from k4_pipeline.market.cleaning import UnusableBarsError, clean_bars
from k4_pipeline.market.series import SERIES_REASONS, original_ticker
from k4_pipeline.market.sources.base import RawBars

OVERLAP_SESSIONS = 5  # beside the silence that ends a listing
MOST_AGAIN_FRAC = 0.1  # more tickers than this share to be read again: a full run is due
COLUMNS = ("date", *PRICE_COLUMNS, "volume")


class FullRunNeededError(BadInputError):
    """The new rows cannot be added to what is there; everything has to be made again."""


@dataclass(frozen=True)
class Newer:
    """`added`: rows after the last known day; `again`: whole histories that replace those of the original tickers
    `read_again`; `why_again` says of each why."""

    added: Bars
    again: Bars
    read_again: tuple[str, ...]
    why_again: dict[str, str]

    @property
    def n_new(self) -> int:
        """Rows dated after the last known day, of all tickers."""
        return len(self.added)


def overlap_start(base: Bars, config: CleaningConfig) -> int:
    """The first day of the overlap, in days since 1970-01-01."""
    table = calendar.sessions(config.default_exchange, base.last_day - 90, base.last_day)
    return int(table[-min(len(table), config.listing_gap_sessions + OVERLAP_SESSIONS)])


def clean_part(
    raw: RawBars, config: CleaningConfig, today: dt.date, now: dt.datetime, min_bars: int
) -> tuple[Bars, pd.DataFrame]:
    """Bars and rejects of a part; no bars where nothing is sane."""
    if not len(raw.frame):
        return no_bars(), pd.DataFrame(columns=["ticker", "reason"])
    try:
        result = clean_bars(raw, replace(config, min_bars=min_bars, max_rejected_frac=1.0), today=today, now=now)
    except UnusableBarsError as nothing:
        return no_bars(), nothing.rejects
    return result.bars, result.rejects


def newer_bars(
    base: Bars,
    recent: RawBars,
    read_tickers: Callable[[Sequence[str]], RawBars],
    config: CleaningConfig,
    *,
    today: dt.date,
    now: dt.datetime,
) -> Newer:
    """What `recent` (all rows from `overlap_start` on) adds to `base`; `read_tickers` reads whole histories.

    Raises `FullRunNeededError` when more than `MOST_AGAIN_FRAC` of the tickers would have to be read again.
    """
    since, last_known = overlap_start(base, config), base.last_day
    part, rejects = clean_part(recent, config, today, now, 1)
    latest: dict[str, int] = {}  # the last listing of every original ticker
    ends = base.date[base.offsets[1:] - 1]
    for code, name in enumerate(base.tickers):
        original = original_ticker(str(name))
        if original not in latest or ends[code] > ends[latest[original]]:
            latest[original] = code
    why: dict[str, str] = {}
    odd = set(rejects.loc[rejects["reason"].isin(SERIES_REASONS), "ticker"]) if len(rejects) else set()
    for name in odd & set(latest):
        why[str(name)] = "its new rows are judged by its whole series"
    parts = {str(name): code for code, name in enumerate(part.tickers)}
    new_rows: list[np.ndarray] = []
    names: list[str] = []
    for name, code in parts.items():
        rows = np.arange(part.offsets[code], part.offsets[code + 1])
        later = rows[part.date[rows] > last_known]
        original = original_ticker(name)
        if original != name:
            why[original] = "a silence ends a listing"
        elif name not in latest:
            why[name] = "not known before"
        elif name not in why:
            old = latest[name]
            first, stop = int(base.offsets[old]), int(base.offsets[old + 1])
            start = first + int(np.searchsorted(base.date[first:stop], since))
            known = rows[: len(rows) - len(later)]
            if len(known) != stop - start or not _equal(base, slice(start, stop), part, known):
                why[name] = "its past was restated"
            elif len(later) and not len(known):
                why[name] = "it comes back after a silence"
            elif len(later):
                new_rows.append(later)
                names.append(str(base.tickers[old]))
    for original, code in latest.items():
        if original not in parts and original not in why and ends[code] >= since:
            why[original] = "its last bars are gone"
    if len(why) > max(20, MOST_AGAIN_FRAC * len(latest)):
        some = ", ".join(f"{t} ({w})" for t, w in list(why.items())[:3])
        raise FullRunNeededError(
            f"{len(why)} of {len(latest)} tickers have to be read again, e.g. {some}; a full run is due: "
            "k4 nightly --full"
        )
    again = no_bars()
    if why:
        again, _ = clean_part(read_tickers(sorted(why)), config, today, now, config.min_bars)
    order: list[int] = np.argsort(np.array(names, dtype=object)).tolist() if names else []
    added = _gather(part, [names[i] for i in order], [new_rows[i] for i in order])
    return Newer(added, again, tuple(sorted(why)), why)


def _equal(a: Bars, rows_a: slice, b: Bars, rows_b: np.ndarray) -> bool:
    return all(np.array_equal(getattr(a, c)[rows_a], getattr(b, c)[rows_b]) for c in COLUMNS)


def no_bars() -> Bars:
    """A universe without tickers."""
    empty = {c: np.zeros(0, dtype=np.float64) for c in COLUMNS[1:]}
    return Bars(np.zeros(0, dtype=object), np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32), **empty)


def _gather(bars: Bars, names: list[str], rows: list[np.ndarray]) -> Bars:
    if not names:
        return no_bars()
    every = np.concatenate(rows)
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
    columns = {c: np.ascontiguousarray(getattr(bars, c)[every]) for c in COLUMNS}
    return Bars(np.array(names, dtype=object), offsets, **columns)


def with_newer(base: Bars, newer: Newer) -> Bars:
    """`base` with the rows added and the histories that were read again in place of the old ones."""
    if not newer.read_again and not len(newer.added):
        return base
    gone = set(newer.read_again)
    kept = np.array([original_ticker(str(t)) not in gone for t in base.tickers], dtype=bool)
    old = base if kept.all() else base.subset(base.tickers[kept])
    sources = [b for b in (old, newer.again, newer.added) if len(b)]
    tickers = np.unique(np.concatenate([b.tickers for b in sources]).astype(str)).astype(object)
    place = {t: i for i, t in enumerate(tickers)}
    codes = [np.array([place[t] for t in b.tickers], dtype=np.int64) for b in sources]
    lengths = np.zeros(len(tickers), dtype=np.int64)
    for code, b in zip(codes, sources):
        lengths[code] += np.diff(b.offsets)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    filled = np.zeros(len(tickers), dtype=np.int64)
    out = {c: np.empty(int(offsets[-1]), dtype=getattr(base, c).dtype) for c in COLUMNS}
    for code, b in zip(codes, sources):  # rows added come last, so each ticker stays in the order of its dates
        own = np.diff(b.offsets)
        start = offsets[code] + filled[code]
        target = np.repeat(start - b.offsets[:-1], own) + np.arange(len(b))
        for c in COLUMNS:
            out[c][target] = getattr(b, c)
        filled[code] += own
    return Bars(tickers, offsets, **out)
