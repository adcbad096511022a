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
    out[:1] = math.nan
    h, lo, previous, tr = high[1:], low[1:], close[: max(n - 1, 0)], out[1:]
    for i in range(len(tr)):
        up, down = abs(h[i] - previous[i]), abs(lo[i] - previous[i])
        far = up if up > down else down
        whole = h[i] - lo[i]
        # The comparisons hide a NaN; adding 0 * (its parts) brings it back.
        tr[i] = (whole if whole > far else far) + 0.0 * (whole + far)


@njit
def adx(high: np.ndarray, low: np.ndarray, close: np.ndarray, tr: np.ndarray, out: np.ndarray) -> None:
    """ADX(14) (n,), first value on bar 28. From a NaN price on it is not available."""
    n = len(close)
    out[:] = math.nan
    plus, minus, span = 0.0, 0.0, 0.0
    dx_sum, value = 0.0, 0.0
    for t in range(1, n):
        up = high[t] - high[t - 1]
        down = low[t - 1] - low[t]
        plus_move, minus_move = 0.0, 0.0
        if abs(up - down) >= TIE_SHARE * close[t - 1]:
            if down > up and down > 0.0:
                minus_move = down
            elif up > down and up > 0.0:
                plus_move = up
        if math.isnan(up + down + tr[t]):
            return
        if t < ADX_PERIOD:
            plus += plus_move
            minus += minus_move
            span += tr[t]
            continue
        plus += plus_move - plus / ADX_PERIOD
        minus += minus_move - minus / ADX_PERIOD
        span += tr[t] - span / ADX_PERIOD
        moved = span > 0.0 and plus + minus > 0.0
        dx = 100.0 * abs(plus - minus) / (plus + minus) if moved else 0.0
        if t < 2 * ADX_PERIOD - 1:
            dx_sum += dx
            continue
        if t == 2 * ADX_PERIOD - 1:
            dx_sum += dx
            value = dx_sum / ADX_PERIOD
        elif moved:
            value = (value * (ADX_PERIOD - 1) + dx) / ADX_PERIOD
        out[t] = value
