"""Run lengths and bars-since counts: features 29, 41, 42 (one run), 65 and 66."""

from __future__ import annotations

import math

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.features.layout import channel_row, helper_row, row, work_rows
from k4_pipeline.features.rolling import rolling_count_le, rolling_min_age

MEDIAN_BARS = np.int64(60)
LOW_BARS = np.int64(60)
SPIKE_CAP = np.int64(60)
SPIKE_RATIO = 2.0

_DAYS_FACTOR = channel_row("cci_days_factor")
_RUN = channel_row("tsf_days_in_consolidation")
_TSF_SCORE = channel_row("tsf_score")
_SINCE_LOW = channel_row("days_since_bbw_low")
_SINCE_SPIKE = channel_row("days_since_volume_spike")
_SPIKE = channel_row("volume_spike")
_KEY = helper_row("bbw_key")
_FILLED = helper_row("bbw_filled")
_TEMP_A = helper_row("a")


@njit
def run_below_median(count_le: np.ndarray, window: int, out: np.ndarray) -> None:
    """Consecutive bars up to t with x < median_window(x), NaN where the median is not available.

    `count_le` (n,) is the number of the last `window` values <= x[t]. The median of an even window is the mean of its
    two middle values; x[t] is itself in the window, so it lies below that mean exactly when the upper middle value
    lies above it, that is when at most window / 2 values are <= x[t]. A bar without a median ends the run.
    """
    run = 0.0
    for i in range(len(out)):
        if math.isnan(count_le[i]):
            run = 0.0
            out[i] = math.nan
            continue
        run = run + 1.0 if count_le[i] <= window // 2 else 0.0
        out[i] = run


@njit
def bars_since_above(x: np.ndarray, limit: float, cap: int, out: np.ndarray) -> None:
    """Bars since the last bar with x > limit, at most `cap`; NaN unless the last cap + 1 values of x are there."""
    since, filled = 0, 0
    for i in range(len(x)):
        filled = 0 if math.isnan(x[i]) else filled + 1
        since = 0 if x[i] > limit else since + 1
        out[i] = min(since, cap) if filled > cap else math.nan


@njit
def run_length_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Fill features 29, 41, 42, 65 and 66 from the bbw key and #54."""
    key, filled = row(buffer, _KEY, stride, n), row(buffer, _FILLED, stride, n)
    count = row(buffer, _TEMP_A, stride, n)
    run, days_factor = row(buffer, _RUN, stride, n), row(buffer, _DAYS_FACTOR, stride, n)
    score = row(buffer, _TSF_SCORE, stride, n)
    rolling_count_le(key, filled, MEDIAN_BARS, count)
    run_below_median(count, MEDIAN_BARS, run)
    for i in range(n):
        factor = math.sqrt(run[i] / 20.0)
        days_factor[i] = 2.0 if factor > 2.0 else factor
        score[i] = 1.0 + math.sqrt(run[i] / 30.0)
    rolling_min_age(key, filled, LOW_BARS, work_rows(buffer, stride, n), row(buffer, _SINCE_LOW, stride, n))
    bars_since_above(row(buffer, _SPIKE, stride, n), SPIKE_RATIO, SPIKE_CAP, row(buffer, _SINCE_SPIKE, stride, n))
