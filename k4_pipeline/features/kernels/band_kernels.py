"""Channels of the Bollinger band width: features 10, 14, 17, 20, 27, 47, 65, 68, and 29, 41, 42 (run below its median).

Ranks, medians and minima see `bbw_20` rounded to 9 decimals (the key); the rest sees it as it is.
"""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.features.kernels.rolling import (
    NAN,
    bars_since,
    count_60_at_most,
    count_100_below,
    max_60_rows,
    min_age_60_rows,
    never,
)
from k4_pipeline.features.kernels.window_sums import join, no_slope_20, nothing, slope_20, spread_8
from k4_pipeline.features.layout import channel_row, helper_row, start
from k4_pipeline.simd.simd_f64 import (
    LANES,
    clip,
    divide,
    earlier_1,
    earlier_4,
    load,
    select,
    splat,
    square_root,
    store,
)

BASELINE_LAG = np.int64(20)

_BBW = channel_row("current_bbw_20")
_PERCENTILE = channel_row("current_bbw_percentile")
_BASELINE = channel_row("baseline_bbw_avg")
_COMPRESSION = channel_row("bbw_compression_ratio")
_SLOPE = channel_row("bbw_slope_20d")
_BY_BBW = channel_row("cci_bbw_compression")
_DAYS_FACTOR = channel_row("cci_days_factor")
_RUN = channel_row("tsf_days_in_consolidation")
_TSF_SCORE = channel_row("tsf_score")
_STD = channel_row("bbw_std_20d")
_SINCE_LOW = channel_row("days_since_bbw_low")
_ACCELERATION = channel_row("bbw_acceleration")
_KEY = helper_row("bbw_key")
_MEAN_30 = helper_row("mean_bbw_30")
_WORK = helper_row("work_0")


@njit
def percentile_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Feature 10."""
    key, out, missing = start(_KEY, stride), start(_PERCENTILE, stride), never()
    for i in range(0, n, LANES):
        value = load(buffer, key + i)
        filled, missing = bars_since(value != value, i, missing)
        share = count_100_below(buffer, key + i) / 100.0
        store(buffer, out + i, select(filled >= 100.0, share, splat(NAN)))


@njit
def band_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Averages, deviation, slope and changes of bbw_20; features 14 and 17 follow in `ratio_rows`."""
    bbw, std_to, slope_to = start(_BBW, stride), start(_STD, stride), start(_SLOPE, stride)
    mean_to, acceleration, largest = start(_MEAN_30, stride), start(_ACCELERATION, stride), start(_BY_BBW, stride)
    work = start(_WORK, stride)
    none = nothing()
    levels, slopes, change1 = (none, none, none, none, none), no_slope_20(), none
    eight1, dev_eight1, four2, dev_four2, six1, fourteen1, fourteen2 = none, none, none, none, none, none, none
    for i in range(0, n, LANES):
        x = load(buffer, bbw + i)
        change = x - earlier_1(levels[0], x)
        store(buffer, acceleration + i, (change - earlier_4(change1, change)) * 0.25)
        two, dev_two, four, dev_four, eight, dev_eight = spread_8(x, levels)
        six = four + earlier_4(levels[1], two)
        fourteen = eight + six1
        sixteen, dev_sixteen = join(eight, dev_eight, 8.0, eight1, dev_eight1, 8.0)
        _, dev_twenty = join(sixteen, dev_sixteen, 16.0, four2, dev_four2, 4.0)
        store(buffer, mean_to + i, (sixteen + fourteen2) * (1.0 / 30.0))
        store(buffer, std_to + i, square_root(dev_twenty * (1.0 / 20.0)))
        slope, slopes = slope_20(x, slopes)
        store(buffer, slope_to + i, slope)
        four2, dev_four2, fourteen2, fourteen1 = levels[3], levels[4], fourteen1, fourteen
        eight1, dev_eight1, six1, change1 = eight, dev_eight, six, change
        levels = (x, two, dev_two, four, dev_four)
    max_60_rows(buffer, bbw, work, largest, n)
    for i in range(0, n, LANES):
        share = divide(load(buffer, bbw + i), load(buffer, largest + i))
        store(buffer, largest + i, clip(splat(1.0) - share, 0.0, 1.0))
    min_age_60_rows(buffer, start(_KEY, stride), work, start(_WORK + 1, stride), start(_SINCE_LOW, stride), n)


@njit
def baseline_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Features 14 and 17: bbw_20 against its mean over bars t-49 .. t-20."""
    bbw, mean = start(_BBW, stride), start(_MEAN_30, stride)
    baseline_to, compression = start(_BASELINE, stride), start(_COMPRESSION, stride)
    for i in range(0, n, LANES):
        baseline = load(buffer, mean + i - BASELINE_LAG)
        store(buffer, baseline_to + i, baseline)
        store(buffer, compression + i, divide(load(buffer, bbw + i), baseline))


@njit
def median_run_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Features 29, 41 and 42, from the consecutive bars up to t with x < median_60(x).

    The median is the mean of the two middle values; x[t] is itself in the window, so it lies below that mean exactly
    when the upper middle value lies above it, that is when at most 30 values are <= x[t]. A bar without a median ends
    the run.
    """
    key, run_to = start(_KEY, stride), start(_RUN, stride)
    days_factor, score = start(_DAYS_FACTOR, stride), start(_TSF_SCORE, stride)
    missing, above = never(), never()
    for i in range(0, n, LANES):
        value = load(buffer, key + i)
        filled, missing = bars_since(value != value, i, missing)
        at_most = select(filled >= 60.0, count_60_at_most(buffer, key + i), splat(NAN))
        run, above = bars_since(select(at_most <= 30.0, splat(0.0), splat(1.0)) != 0.0, i, above)
        run = run + at_most * 0.0
        store(buffer, run_to + i, run)
        factor = square_root(run * (1.0 / 20.0))
        store(buffer, days_factor + i, select(factor > 2.0, splat(2.0), factor))
        store(buffer, score + i, square_root(run * (1.0 / 30.0)) + 1.0)
