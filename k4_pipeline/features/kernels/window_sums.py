"""Sums, deviations and slopes over the last n bars as trees over 2, 4, 8, ... bars, eight bars at a time in registers.

sum_20, say, is sum_16 plus the sum_4 before it. Nothing is carried on from bar to bar: every value is the same fixed
sequence of operations on its window alone, whatever lies before it or follows. Deviations join those of two
neighbouring windows by the difference of their means (Chan, Golub, LeVeque 1979), slopes by the difference of their
centres; in a flat window both are exactly 0 (but for std_30, whose caller knows flat windows by `equal_run`).

Functions take the lanes x of eight bars and a state, what they need of the eight or sixteen bars before, in which NaN
stands for bars that are not there, and return the state for the next eight.
"""

from __future__ import annotations

from typing import Any

from k4_pipeline._numba import njit
from k4_pipeline.features.kernels.rolling import NAN
from k4_pipeline.simd.simd_f64 import earlier_1, earlier_2, earlier_4, splat


@njit
def nothing() -> Any:
    """Lanes of NaN: the bars before the first."""
    return splat(NAN)


@njit
def sums_8(x: Any, before: Any) -> tuple:
    """sum_2, sum_4, sum_8; `before` is (x, sum_2, sum_4, ...) of the eight bars before."""
    two = x + earlier_1(before[0], x)
    four = two + earlier_2(before[1], two)
    return two, four, four + earlier_4(before[2], four)


@njit
def no_sum_20() -> tuple:
    """The state of `sum_20` before the first bar."""
    none = nothing()
    return none, none, none, none, none


@njit
def sum_20(x: Any, s: tuple) -> tuple:
    """sum_20 and the next state (x, sum_2, sum_4, sum_4 eight bars earlier, sum_8)."""
    two, four, eight = sums_8(x, s)
    return (eight + s[4]) + s[3], (x, two, four, s[2], eight)


@njit
def no_sum_30() -> tuple:
    """The state of `sum_30` before the first bar."""
    none = nothing()
    return none, none, none, none, none, none, none


@njit
def sum_30(x: Any, s: tuple) -> tuple:
    """sum_30 and the next state (x, sum_2, sum_4, sum_6, sum_8, sum_14, sum_14 eight bars earlier)."""
    two, four, eight = sums_8(x, s)
    six = four + earlier_4(s[1], two)
    fourteen = eight + s[3]
    return (eight + s[4]) + s[6], (x, two, four, six, eight, fourteen, s[5])


@njit
def spread_8(x: Any, before: Any) -> tuple:
    """Sum and summed squared deviation of 2, 4 and 8 bars; `before` is (x, sum_2, dev_2, sum_4, dev_4, ...)."""
    x1 = earlier_1(before[0], x)
    two, dev_two = join(x, splat(0.0), 1.0, x1, splat(0.0), 1.0)
    four, dev_four = join(two, dev_two, 2.0, earlier_2(before[1], two), earlier_2(before[2], dev_two), 2.0)
    eight, dev_eight = join(four, dev_four, 4.0, earlier_4(before[3], four), earlier_4(before[4], dev_four), 4.0)
    return two, dev_two, four, dev_four, eight, dev_eight


@njit
def join(late: Any, dev_late: Any, n_late: float, early: Any, dev_early: Any, n_early: float) -> tuple:
    """Sum and summed squared deviation of two neighbouring windows of `n_late` and `n_early` bars together."""
    apart = late * n_early - early * n_late
    part = 1.0 / (n_late * n_early * (n_late + n_early))
    return late + early, (dev_late + dev_early) + (apart * apart) * part


@njit
def no_spread_20() -> tuple:
    """The state of `spread_20` before the first bar."""
    none = nothing()
    return none, none, none, none, none, none, none, none, none


@njit
def spread_20(x: Any, s: tuple) -> tuple:
    """sum_20, summed squared deviation of 20 bars, next state (x, sum and dev of 2, 4, 4 eight bars earlier, 8)."""
    two, dev_two, four, dev_four, eight, dev_eight = spread_8(x, s)
    sixteen, dev_sixteen = join(eight, dev_eight, 8.0, s[7], s[8], 8.0)
    twenty, dev_twenty = join(sixteen, dev_sixteen, 16.0, s[5], s[6], 4.0)
    return twenty, dev_twenty, (x, two, dev_two, four, dev_four, s[3], s[4], eight, dev_eight)


@njit
def slope_8(x: Any, before: Any) -> tuple:
    """Sum and centred moment of 2, 4 and 8 bars; `before` is (x, sum_2, moment_2, sum_4, moment_4, ...)."""
    x1 = earlier_1(before[0], x)
    two, moment_two = x + x1, (x - x1) * 0.5
    two1, moment1 = earlier_2(before[1], two), earlier_2(before[2], moment_two)
    four, moment_four = two + two1, (moment_two + moment1) + (two - two1)
    four1, moment1 = earlier_4(before[3], four), earlier_4(before[4], moment_four)
    return two, moment_two, four, moment_four, four + four1, (moment_four + moment1) + (four - four1) * 2.0


@njit
def no_slope_20() -> tuple:
    """The state of `slope_20` before the first bar."""
    none = nothing()
    return none, none, none, none, none, none, none, none, none


@njit
def slope_20(x: Any, s: tuple) -> tuple:
    """Least-squares slope per bar over 20 bars and the next state, laid out as that of `spread_20`."""
    two, moment_two, four, moment_four, eight, moment_eight = slope_8(x, s)
    sixteen, moment_sixteen = eight + s[7], (moment_eight + s[8]) + (eight - s[7]) * 4.0
    moment = (moment_sixteen + s[6]) + (sixteen * 2.0 - s[5] * 8.0)
    return moment * (1.0 / 665.0), (x, two, moment_two, four, moment_four, s[3], s[4], eight, moment_eight)


@njit
def no_slope_10() -> tuple:
    """The state of `slope_10` before the first bar."""
    none = nothing()
    return none, none, none, none, none


@njit
def slope_10(x: Any, s: tuple) -> tuple:
    """Least-squares slope per bar over 10 bars and the next state (x, sum and moment of 2 and of 4)."""
    two, moment_two, four, moment_four, eight, moment_eight = slope_8(x, s)
    moment = (moment_eight + s[2]) + (eight - s[1] * 4.0)
    return moment * (1.0 / 82.5), (x, two, moment_two, four, moment_four)
