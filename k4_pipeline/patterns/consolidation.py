"""The consolidation state machine: from daily bars to the patterns that became ACTIVE, one row each.

Only the machine lives here (rules: docs/patterns.md). Sampling of snapshots is in `snapshots.py`, what follows a
snapshot in `labels.py`. The columns that tell how a pattern ended are known later than its snapshots and never enter
a snapshot table; they are for reports and for finding the patterns that are still open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from k4_pipeline._numba import njit, run_chunks
from k4_pipeline.config import PatternConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.features.criteria import pattern_criteria
from k4_pipeline.market.bars import Bars
from k4_pipeline.progress import Progress

END_REASONS = ("open", "breakout", "breakdown", "timeout")
_OPEN, _BREAKOUT, _BREAKDOWN, _TIMEOUT = range(4)
_CHUNK_TICKERS = 64


@dataclass(frozen=True, eq=False)
class ScannedPatterns:
    """Every pattern that reached ACTIVE and counts, as flat arrays of equal length, in (ticker, start) order.

    Rows are positions in the `Bars` scanned. `end_row` is the bar that ended the pattern (no snapshot is taken on it),
    -1 while it is open; `end_reason` indexes `END_REASONS`.
    """

    ticker_code: np.ndarray  # (n,) int64 position in bars.tickers
    start_row: np.ndarray  # (n,) int64
    activation_row: np.ndarray  # (n,) int64
    end_row: np.ndarray  # (n,) int64
    end_reason: np.ndarray  # (n,) int8
    upper: np.ndarray  # (n,) float64
    lower: np.ndarray  # (n,) float64
    power: np.ndarray  # (n,) float64

    def __len__(self) -> int:
        return len(self.start_row)


@njit
def _qualifies(
    bbw_percentile: float,
    adx: float,
    volume_ratio: float,
    range_ratio: float,
    limits: np.ndarray,
    min_other: int,
) -> bool:
    # A NaN compares false, which is the rule for a value that is not available.
    if not bbw_percentile < limits[0]:
        return False
    other = 0
    if adx < limits[1]:
        other += 1
    if volume_ratio < limits[2]:
        other += 1
    if range_ratio < limits[3]:
        other += 1
    return other >= min_other


@njit
def _scan_tickers(
    first: int,
    last: int,
    offsets: np.ndarray,
    high: np.ndarray,
    low: np.ndarray,
    close: np.ndarray,
    bbw_percentile: np.ndarray,
    adx: np.ndarray,
    volume_ratio: np.ndarray,
    range_ratio: np.ndarray,
    limits: np.ndarray,
    min_other: int,
    qualifying_bars: int,
    power_factor: float,
    max_active_bars: int,
    min_history_bars: int,
    rows: np.ndarray,
    bounds: np.ndarray,
) -> int:
    """Run the machine over tickers first..last-1; fill rows (m, 5) and bounds (m, 3), return the patterns found."""
    found = 0
    for code in range(first, last):
        begin = offsets[code]
        stop = offsets[code + 1]
        run = 0  # qualifying bars in a row; 0 is the state NONE
        start = -1
        activation = -1  # >= 0 is the state ACTIVE
        upper = 0.0
        lower = 0.0
        power = 0.0
        for t in range(begin, stop):
            if activation >= 0:
                reason = _OPEN
                if close[t] > power:
                    reason = _BREAKOUT
                elif close[t] < lower:
                    reason = _BREAKDOWN
                elif t - activation >= max_active_bars:
                    reason = _TIMEOUT
                if reason != _OPEN:
                    if activation - begin + 1 >= min_history_bars:
                        rows[found, 0] = code
                        rows[found, 1] = start
                        rows[found, 2] = activation
                        rows[found, 3] = t
                        rows[found, 4] = reason
                        bounds[found, 0] = upper
                        bounds[found, 1] = lower
                        bounds[found, 2] = power
                        found += 1
                    activation = -1
                    run = 0
                # The ending bar itself is not looked at again: it can not be the start of the next pattern.
                continue
            if not _qualifies(bbw_percentile[t], adx[t], volume_ratio[t], range_ratio[t], limits, min_other):
                run = 0
                continue
            if run == 0:
                start = t
            run += 1
            if run == qualifying_bars:
                activation = t
                upper = high[start]
                lower = low[start]
                for k in range(start + 1, t + 1):
                    upper = max(upper, high[k])
                    lower = min(lower, low[k])
                power = upper * power_factor
        if activation >= 0 and activation - begin + 1 >= min_history_bars:
            rows[found, 0] = code
            rows[found, 1] = start
            rows[found, 2] = activation
            rows[found, 3] = -1
            rows[found, 4] = _OPEN
            bounds[found, 0] = upper
            bounds[found, 1] = lower
            bounds[found, 2] = power
            found += 1
    return found


def run_state_machine(
    bars: Bars,
    criteria: Any,
    config: PatternConfig,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ScannedPatterns:
    """Run the machine over every ticker from its first bar.

    `criteria` has the float64 arrays (n_bars,) `bbw_percentile` (a share), `adx`, `volume_ratio` and `range_ratio` of
    features/criteria.py. A pattern is kept when its activation bar is at least bar number `min_history_bars` of its
    ticker; an earlier one still occupies the machine until it ends, because the machine runs from the first bar.
    Raises `ConfigError` for counts below one.
    """
    if config.qualifying_bars < 1 or config.max_active_bars < 1:
        raise ConfigError("qualifying_bars and max_active_bars are counts of bars and must be at least 1")
    arrays = [
        np.ascontiguousarray(getattr(criteria, name), dtype=np.float64)
        for name in ("bbw_percentile", "adx", "volume_ratio", "range_ratio")
    ]
    limits = np.array(
        [config.bbw_percentile_max, config.adx_max, config.volume_ratio_max, config.range_ratio_max], dtype=np.float64
    )
    done = 0

    def chunk(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        nonlocal done
        n_bars = int(bars.offsets[last] - bars.offsets[first])
        # A pattern takes at least its qualifying bars, so this many rows always suffice.
        room = n_bars // config.qualifying_bars + (last - first)
        rows = np.empty((room, 5), dtype=np.int64)
        bounds = np.empty((room, 3), dtype=np.float64)
        found = _scan_tickers(
            first,
            last,
            bars.offsets,
            bars.high,
            bars.low,
            bars.close,
            *arrays,
            limits,
            config.min_other,
            config.qualifying_bars,
            config.power_factor,
            config.max_active_bars,
            config.min_history_bars,
            rows,
            bounds,
        )
        done += last - first
        if progress is not None:
            progress(min(done, bars.n_tickers), bars.n_tickers)
        return rows[:found].copy(), bounds[:found].copy()

    parts = run_chunks(chunk, bars.n_tickers, _CHUNK_TICKERS, threads)
    rows = np.concatenate([p[0] for p in parts])
    bounds = np.concatenate([p[1] for p in parts])
    return ScannedPatterns(
        ticker_code=rows[:, 0].copy(),
        start_row=rows[:, 1].copy(),
        activation_row=rows[:, 2].copy(),
        end_row=rows[:, 3].copy(),
        end_reason=rows[:, 4].astype(np.int8),
        upper=bounds[:, 0].copy(),
        lower=bounds[:, 1].copy(),
        power=bounds[:, 2].copy(),
    )


def find_patterns(
    bars: Bars, config: PatternConfig, *, threads: int | None = None, progress: Progress | None = None
) -> ScannedPatterns:
    """Criteria and machine in one call."""
    return run_state_machine(bars, pattern_criteria(bars, threads=threads), config, threads=threads, progress=progress)
