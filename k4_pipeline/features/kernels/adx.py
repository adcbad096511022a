"""Wilder's ADX of one ticker and its slope, features 11 and 21, from directional moves by the tie rule (`price_rows`).

The tie rule keeps rounding noise out of the directional moves: +DM and -DM that differ by less than `TIE_SHARE` of the
previous close count for neither side. Seeding as in TA-Lib: the moves are summed over the first period - 1 bars,
smoothed from there on, and the first ADX is the mean of `period` DX values. A bar without any directional movement so
far leaves the ADX as it is.
"""

from __future__ import annotations

import math

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.features.kernels.window_sums import no_slope_20, slope_20
from k4_pipeline.features.layout import channel_row, helper_row, row, start
from k4_pipeline.simd.simd_f64 import LANES, load, store

ADX_PERIOD = 14
TIE_SHARE = 1e-6

_ADX = channel_row("current_adx")
_SLOPE = channel_row("adx_slope_20d")
_PLUS = helper_row("plus_move")
_MINUS = helper_row("minus_move")


@njit
def adx(plus: np.ndarray, minus: np.ndarray, out: np.ndarray) -> None:
    """ADX(14) (n,) of the moves (n,), first value on bar 28. From a NaN move on it is NaN.

    The true range, by which both DI are divided, cancels in DX = 100 |+DI - -DI| / (+DI + -DI).
    """
    n = len(out)
    first = 2 * ADX_PERIOD - 1
    for i in range(min(first, n)):
        out[i] = math.nan
    if n <= first:
        return
    keep = (ADX_PERIOD - 1.0) / ADX_PERIOD
    share = 100.0 / ADX_PERIOD
    p, m = 0.0, 0.0
    for t in range(1, ADX_PERIOD):
        p += plus[t]
        m += minus[t]
    value = 0.0
    for t in range(ADX_PERIOD, first + 1):
        p = p * keep + plus[t]
        m = m * keep + minus[t]
        moved = p + m
        value += share * abs(p - m) / moved if moved != 0.0 else 0.0
    out[first] = value
    for t in range(first + 1, n):
        p = p * keep + plus[t]
        m = m * keep + minus[t]
        moved = p + m
        # Without directional movement (moved 0) there is no DX; NaN is not 0 and passes on.
        value = value * keep + share * abs(p - m) / moved if moved != 0.0 else value
        out[t] = value


@njit
def adx_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Feature 11."""
    adx(row(buffer, _PLUS, stride, n), row(buffer, _MINUS, stride, n), row(buffer, _ADX, stride, n))


@njit
def adx_slope_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Feature 21."""
    source, target, slopes = start(_ADX, stride), start(_SLOPE, stride), no_slope_20()
    for i in range(0, n, LANES):
        slope, slopes = slope_20(load(buffer, source + i), slopes)
        store(buffer, target + i, slope)
