"""Snapshots: the state of an ACTIVE pattern at the close of one bar, one row each.

`make_snapshots` samples the history (hash of seed, ticker and date, see sampling.py); `active_snapshots` takes every
pattern that is open on the last day, for today's signals. Nothing here reads a bar after the snapshot bar: how and when
a pattern ends decides only up to where it has ACTIVE bars, and a bar is ACTIVE or not by itself and the bars before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from k4_pipeline.config import PatternConfig
from k4_pipeline.market.bars import Bars, to_dates
from k4_pipeline.patterns.boundaries import check_boundaries
from k4_pipeline.patterns.consolidation import ScannedPatterns, find_patterns
from k4_pipeline.patterns.sampling import sampling_uniform
from k4_pipeline.progress import Progress

SNAPSHOT_COLUMNS = (
    "ticker",
    "pattern_id",
    "start_date",
    "activation_date",
    "snapshot_date",
    "upper",
    "lower",
    "power",
    "start_price",
    "qualifying_bars",
    "bars_active",
)


@dataclass(frozen=True, eq=False)
class SnapshotResult:
    """Snapshots, the ones rejected for unusable boundaries (with `row` and `reason`), and the number of patterns."""

    snapshots: pd.DataFrame
    rejects: pd.DataFrame
    n_patterns: int


def pattern_ids(tickers: np.ndarray | pd.Series, start_days: np.ndarray) -> pd.Series:
    """`TICKER|YYYY-MM-DD` of the start bar, dtype str."""
    days = np.datetime_as_string(np.asarray(start_days).astype("datetime64[D]"), unit="D").astype(object)
    return pd.Series(np.asarray(tickers, dtype=object) + "|" + days, dtype="str")


def _snapshot_frame(
    bars: Bars, patterns: ScannedPatterns, which: np.ndarray, rows: np.ndarray, config: PatternConfig
) -> pd.DataFrame:
    """The snapshots table for pattern numbers `which` (m,) at bar rows `rows` (m,)."""
    tickers = bars.tickers[patterns.ticker_code[which]]
    start = patterns.start_row[which]
    activation = patterns.activation_row[which]
    return pd.DataFrame(
        {
            "ticker": pd.Series(tickers, dtype="str"),
            "pattern_id": pattern_ids(tickers, bars.date[start]),
            "start_date": to_dates(bars.date[start]),
            "activation_date": to_dates(bars.date[activation]),
            "snapshot_date": to_dates(bars.date[rows]),
            "upper": patterns.upper[which],
            "lower": patterns.lower[which],
            "power": patterns.power[which],
            "start_price": bars.close[start],
            "qualifying_bars": np.full(len(rows), config.qualifying_bars, dtype=np.int64),
            "bars_active": (rows - activation).astype(np.int64),
        }
    )


def _without_bad_boundaries(frame: pd.DataFrame, n_patterns: int) -> SnapshotResult:
    # Ten identical bars of a dead listing give upper == lower; such a row can be neither labelled nor scaled.
    rejects = check_boundaries(frame)
    if len(rejects):
        frame = frame.drop(index=rejects["row"].to_numpy()).reset_index(drop=True)
    return SnapshotResult(frame, rejects, n_patterns)


def sample_snapshots(bars: Bars, patterns: ScannedPatterns, config: PatternConfig) -> SnapshotResult:
    """The activation bar of every pattern, and each later ACTIVE bar with the configured probability."""
    last_rows = bars.offsets[patterns.ticker_code + 1]
    end = np.where(patterns.end_row >= 0, patterns.end_row, last_rows)  # first row that is not ACTIVE
    length = end - patterns.activation_row
    which = np.repeat(np.arange(len(patterns)), length)
    active_before = np.concatenate([[0], np.cumsum(length)[:-1]]) if len(length) else np.zeros(0, dtype=np.int64)
    bars_active = np.arange(len(which), dtype=np.int64) - np.repeat(active_before, length)
    rows = patterns.activation_row[which] + bars_active
    uniform = sampling_uniform(config.sampling_seed, bars.tickers[patterns.ticker_code[which]], bars.date[rows])
    late = bars_active > config.late_after_bars
    probability = np.where(late, config.sample_probability_late, config.sample_probability)
    keep = (bars_active == 0) | (uniform < probability)
    return _without_bad_boundaries(_snapshot_frame(bars, patterns, which[keep], rows[keep], config), len(patterns))


def make_snapshots_with_rejects(
    bars: Bars, config: PatternConfig, *, threads: int | None = None, progress: Progress | None = None
) -> SnapshotResult:
    """`make_snapshots`, with the rows rejected for unusable boundaries and the number of patterns beside it."""
    return sample_snapshots(bars, find_patterns(bars, config, threads=threads, progress=progress), config)


def make_snapshots(
    bars: Bars, config: PatternConfig, *, threads: int | None = None, progress: Progress | None = None
) -> pd.DataFrame:
    """The snapshots table of a universe, columns `SNAPSHOT_COLUMNS`, sorted by (ticker, start_date, snapshot_date).

    Dates are datetime64[us]; upper, lower, power and start_price are in the price unit of the bars; qualifying_bars and
    bars_active (0 on the activation bar) count bars. (ticker, snapshot_date) is unique, since a ticker has one pattern
    at a time. Rows with unusable boundaries are left out; `make_snapshots_with_rejects` names them.
    """
    return make_snapshots_with_rejects(bars, config, threads=threads, progress=progress).snapshots


def active_snapshots(
    bars: Bars, config: PatternConfig, *, threads: int | None = None, progress: Progress | None = None
) -> pd.DataFrame:
    """Every pattern ACTIVE at the close of the universe's last day, without sampling; the columns of `make_snapshots`.

    A ticker whose own bars end earlier has no open snapshot: nobody could act on it today.
    """
    patterns = find_patterns(bars, config, threads=threads, progress=progress)
    last_rows = bars.offsets[patterns.ticker_code + 1] - 1
    which = np.flatnonzero((patterns.end_row < 0) & (bars.date[last_rows] == bars.last_day))
    return _without_bad_boundaries(
        _snapshot_frame(bars, patterns, which, last_rows[which], config), len(patterns)
    ).snapshots
