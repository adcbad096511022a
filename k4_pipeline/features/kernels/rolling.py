"""What windows of one ticker's series need besides sums: extremes, ranks, and since when a series is filled or flat.

Row kernels read and write rows of the scratch buffer (`layout`), eight bars at a time (`lanes`); windows end at t and
include t. Every value depends on its window alone, bit for bit. NaN when the window is not filled or holds a NaN.

Ranks count by brute force: the same eight earlier values are compared with eight bars at once. On windows of 100 this
is several times as fast as an order-statistic tree, and exact.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.simd.simd_f64 import (
    LANES,
    counter,
    earlier_1,
    earlier_2,
    earlier_4,
    last_lane,
    load,
    positions,
    select,
    splat,
    store,
)

NAN = math.nan
count_100_at_most = counter(100, "<=")
count_100_below = counter(100, "<")
count_60_at_most = counter(60, "<=")


@njit
def larger(a: Any, b: Any) -> Any:
    """The larger of two, lane by lane; unspecified where one is NaN."""
    return select(a > b, a, b)


@njit
def never() -> Any:
    """The `last` of `bars_since` before the first bar: as if it had last been so on the bar before."""
    return splat(-1.0)


@njit
def bars_since(mask: Any, at: int, last: Any) -> tuple:
    """Bars since `mask` was last true, at bars at .. at+7, and the next `last` (the bar it was true on)."""
    now = positions(at)
    lowest = splat(-math.inf)
    hit = select(mask, now, lowest)
    hit = larger(hit, earlier_1(lowest, hit))
    hit = larger(hit, earlier_2(lowest, hit))
    hit = larger(larger(hit, earlier_4(lowest, hit)), last)
    return now - hit, last_lane(hit)


@njit
def mean_of(x: Any, total: Any, equal: Any, window: float) -> Any:
    """mean_window from its sum; exactly x in a flat window, known by `equal`, the bars since x last changed."""
    return select(equal >= window - 1.0, x, total * (1.0 / window))


@njit
def rank_share_rows(buffer: np.ndarray, x: int, out: int, n: int) -> None:
    """Row `out` = rank_100: share of the last 100 values of row `x` that are <= x[t].

    Rows are given by the positions of their first bars.
    """
    missing = never()
    for i in range(0, n, LANES):
        value = load(buffer, x + i)
        filled, missing = bars_since(value != value, i, missing)
        share = count_100_at_most(buffer, x + i) / 100.0
        store(buffer, out + i, select(filled >= 100.0, share, splat(NAN)))


@njit
def max_60_rows(buffer: np.ndarray, x: int, work: int, out: int, n: int) -> None:
    """Row `out` = max_60 of row `x` by doubling windows; row `work` is overwritten."""
    none, missing = splat(NAN), never()
    value1, two1, four1, eight1, sixteen1, sixteen2 = none, none, none, none, none, none
    for i in range(0, n, LANES):
        value = load(buffer, x + i)
        filled, missing = bars_since(value != value, i, missing)
        two = larger(value, earlier_1(value1, value))
        four = larger(two, earlier_2(two1, two))
        eight = larger(four, earlier_4(four1, four))
        sixteen = larger(eight, eight1)
        widest = larger(sixteen, sixteen2)
        store(buffer, work + i, widest)
        both = larger(widest, load(buffer, work + i - 28))
        store(buffer, out + i, select(filled >= 60.0, both, none))
        value1, two1, four1, eight1, sixteen1, sixteen2 = value, two, four, eight, sixteen, sixteen1


@njit
def newer_low(low: Any, age: Any, low_before: Any, age_before: Any, bars: float) -> tuple:
    """Minimum and its age of two windows, the earlier one `bars` back; the newer of two equal lows counts."""
    newer = low <= low_before
    return select(newer, low, low_before), select(newer, age, age_before + bars)


@njit
def min_age_60_rows(buffer: np.ndarray, x: int, work: int, work_age: int, out: int, n: int) -> None:
    """Row `out` = bars since the latest minimum of the last 60 values of row `x`; both work rows are overwritten."""
    none, zero, missing = splat(NAN), splat(0.0), never()
    x1, low2, age2, low4, age4, low8, age8 = none, none, none, none, none, none, none
    low16, age16, low16_before, age16_before = none, none, none, none
    for i in range(0, n, LANES):
        value = load(buffer, x + i)
        filled, missing = bars_since(value != value, i, missing)
        two, age_two = newer_low(value, zero, earlier_1(x1, value), zero, 1.0)
        four, age_four = newer_low(two, age_two, earlier_2(low2, two), earlier_2(age2, age_two), 2.0)
        eight, age_eight = newer_low(four, age_four, earlier_4(low4, four), earlier_4(age4, age_four), 4.0)
        sixteen, age_sixteen = newer_low(eight, age_eight, low8, age8, 8.0)
        low, age = newer_low(sixteen, age_sixteen, low16_before, age16_before, 16.0)
        store(buffer, work + i, low)
        store(buffer, work_age + i, age)
        low, age = newer_low(low, age, load(buffer, work + i - 28), load(buffer, work_age + i - 28), 28.0)
        store(buffer, out + i, select(filled >= 60.0, age, none))
        x1, low2, age2, low4, age4, low8, age8 = value, two, age_two, four, age_four, eight, age_eight
        low16_before, age16_before, low16, age16 = low16, age16, sixteen, age_sixteen
