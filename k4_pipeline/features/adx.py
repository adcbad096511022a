"""Wilder's true range and ADX of one ticker, with the tie rule that keeps rounding noise out of the directional moves.

Seeding as in TA-Lib: +DM, -DM and TR are summed over the first period - 1 moves, smoothed from there on, and the first
ADX is the mean of `period` DX values. A bar without any directional movement so far leaves the ADX as it is.
"""

from __future__ import annotations

import math

import numpy as np

from k4_pipeline._numba import njit

ADX_PERIOD = 14
TIE_SHARE = 1e-6  # +DM and -DM closer than this share of the previous close are equal


@njit
def true_range(high: np.ndarray, low: np.ndarray, close: np.ndarray, out: np.ndarray) -> None:
    """TR (n,): max of high - low and the distances of high and low from the previous close; NaN on the first bar."""
    n = len(close)
    out[0] = math.nan
    h, lo, previous, tr = high[1:], low[1:], close[: n - 1], out[1:]
    for i in range(n - 1):
        up, down = abs(h[i] - previous[i]), abs(lo[i] - previous[i])
        far = up if up > down else down
        whole = h[i] - lo[i]
        # The comparisons hide a NaN; adding 0 * (its parts) brings it back.
        tr[i] = (whole if whole > far else far) + 0.0 * (whole + far)


@njit
def _directional_moves(
    high: np.ndarray, low: np.ndarray, close: np.ndarray, plus: np.ndarray, minus: np.ndarray
) -> None:
    """+DM and -DM (n,) of every bar; at most one is above 0. A missing price makes both NaN."""
    n = len(close)
    h, lo, h0, lo0, c0 = high[1:], low[1:], high[: n - 1], low[: n - 1], close[: n - 1]
    p, m = plus[1:], minus[1:]
    for i in range(n - 1):
        up, down = h[i] - h0[i], lo0[i] - lo[i]
        apart = abs(up - down) >= TIE_SHARE * c0[i]
        missing = 0.0 * (up + down + c0[i])
        p[i] = (up if apart and up > down and up > 0.0 else 0.0) + missing
        m[i] = (down if apart and down > up and down > 0.0 else 0.0) + missing


@njit
def adx(
    high: np.ndarray, low: np.ndarray, close: np.ndarray, plus: np.ndarray, minus: np.ndarray, out: np.ndarray
) -> None:
    """ADX(14) (n,), first value on bar 28; `plus`, `minus` (n,) are overwritten. From a NaN price on it is NaN.

    The true range, by which both DI are divided, cancels in DX = 100 |+DI - -DI| / (+DI + -DI).
    """
    n = len(close)
    first = 2 * ADX_PERIOD - 1
    for i in range(min(first, n)):
        out[i] = math.nan
    if n <= first:
        return
    _directional_moves(high, low, close, plus, minus)
    keep = (ADX_PERIOD - 1.0) / ADX_PERIOD
    p, m = 0.0, 0.0
    for t in range(1, ADX_PERIOD):
        p += plus[t]
        m += minus[t]
    for t in range(ADX_PERIOD, n):
        p = p * keep + plus[t]
        m = m * keep + minus[t]
        plus[t], minus[t] = p, m
    for t in range(ADX_PERIOD, n):
        moved = plus[t] + minus[t]
        plus[t] = 100.0 * abs(plus[t] - minus[t]) / moved if moved != 0.0 else 0.0
        minus[t] = moved
    value = 0.0
    for t in range(ADX_PERIOD, first + 1):
        value += plus[t]
    value /= ADX_PERIOD
    out[first] = value
    for t in range(first + 1, n):
        # Without directional movement (moved 0) there is no DX; NaN is not 0 and passes on.
        value = value * keep + plus[t] / ADX_PERIOD if minus[t] != 0.0 else value
        out[t] = value
