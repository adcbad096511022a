"""Rolling kernels over one ticker's series: every window ends at t and includes t, and is summed afresh.

Each kernel takes x (n,) float64 and fills out (n,), contiguous. The loops run over time inside and over the window
outside, so that they become vector instructions, and every value is the same fixed sequence of operations on the window
alone: it does not depend on the history before the window nor on the bars after it, bit for bit. Sums are of
differences from x[t], so that a flat window gives its value exactly. NaN when the window is not filled or holds a NaN.
"""

from __future__ import annotations

import math

import numpy as np

from k4_pipeline._numba import njit

NAN = math.nan


@njit
def divide(a: float, b: float) -> float:
    """a / b; NaN when b is zero."""
    return a / b if b != 0.0 else NAN


@njit
def clip(x: float, low: float, high: float) -> float:
    """x limited to [low, high]; NaN stays NaN."""
    return low if x < low else (high if x > high else x)


@njit
def rolling_mean(x: np.ndarray, window: int, out: np.ndarray) -> None:
    """mean_window(x)."""
    n = len(x)
    first = min(window - 1, n)
    out[:first] = NAN
    last, acc = x[first:], out[first:]
    m = len(last)
    acc[:] = 0.0
    for j in range(1, window):
        lagged = x[first - j : n - j] if m > 0 else x[:0]
        for i in range(m):
            acc[i] += lagged[i] - last[i]
    for i in range(m):
        acc[i] = last[i] + acc[i] / window


@njit
def rolling_std(x: np.ndarray, mean: np.ndarray, window: int, out: np.ndarray) -> None:
    """std_window(x), ddof 0, second pass around `mean` = rolling_mean(x, window)."""
    n = len(x)
    first = min(window - 1, n)
    out[:first] = NAN
    center, acc = mean[first:], out[first:]
    m = len(center)
    acc[:] = 0.0
    for j in range(window):
        lagged = x[first - j : n - j] if m > 0 else x[:0]
        for i in range(m):
            d = lagged[i] - center[i]
            acc[i] += d * d
    for i in range(m):
        acc[i] = math.sqrt(acc[i] / window)


@njit
def rolling_sum(x: np.ndarray, window: int, out: np.ndarray) -> None:
    """sum_window(x) of terms of one sign."""
    n = len(x)
    first = min(window - 1, n)
    out[:first] = NAN
    acc = out[first:]
    m = len(acc)
    acc[:] = 0.0
    for j in range(window):
        lagged = x[first - j : n - j] if m > 0 else x[:0]
        for i in range(m):
            acc[i] += lagged[i]


@njit
def rolling_slope(x: np.ndarray, window: int, out: np.ndarray) -> None:
    """slope_window(x): least squares, per bar. Opposite ends are paired, so that a flat window gives exactly 0."""
    n = len(x)
    first = min(window - 1, n)
    out[:first] = NAN
    acc = out[first:]
    m = len(acc)
    acc[:] = 0.0
    for j in range(window // 2):
        weight = 0.5 * (window - 1) - j
        late = x[first - j : n - j] if m > 0 else x[:0]
        early = x[first - (window - 1 - j) : n - (window - 1 - j)] if m > 0 else x[:0]
        for i in range(m):
            acc[i] += weight * (late[i] - early[i])
    spread = window * (window * window - 1.0) / 12.0
    for i in range(m):
        acc[i] = acc[i] / spread
    if window % 2 == 1:
        # The middle bar has weight 0 in the sum, but a NaN there still empties the window.
        middle = x[first - window // 2 : n - window // 2] if m > 0 else x[:0]
        for i in range(m):
            acc[i] += 0.0 * middle[i]


@njit
def filled_run(x: np.ndarray, out: np.ndarray) -> None:
    """Number of values in a row, up to t, that are not NaN."""
    run = 0.0
    for i in range(len(x)):
        run = run + 1.0 if x[i] == x[i] else 0.0
        out[i] = run


@njit
def _empty_unfilled(filled: np.ndarray, window: int, out: np.ndarray) -> None:
    for i in range(len(out)):
        out[i] = out[i] if filled[i] >= window else NAN


@njit
def rolling_count_le(x: np.ndarray, filled: np.ndarray, window: int, out: np.ndarray) -> None:
    """Number of the last `window` values that are <= x[t] (x[t] itself included)."""
    n = len(x)
    first = min(window - 1, n)
    out[:first] = NAN
    last, acc = x[first:], out[first:]
    m = len(last)
    acc[:] = 1.0
    for j in range(1, window):
        lagged = x[first - j : n - j] if m > 0 else x[:0]
        for i in range(m):
            acc[i] += 1.0 if lagged[i] <= last[i] else 0.0
    _empty_unfilled(filled, window, out)


@njit
def rolling_count_lt(x: np.ndarray, filled: np.ndarray, window: int, out: np.ndarray) -> None:
    """Number of the last `window` values strictly below x[t]."""
    n = len(x)
    first = min(window - 1, n)
    out[:first] = NAN
    last, acc = x[first:], out[first:]
    m = len(last)
    acc[:] = 0.0
    for j in range(1, window):
        lagged = x[first - j : n - j] if m > 0 else x[:0]
        for i in range(m):
            acc[i] += 1.0 if lagged[i] < last[i] else 0.0
    _empty_unfilled(filled, window, out)


@njit
def rolling_max(x: np.ndarray, filled: np.ndarray, window: int, out: np.ndarray) -> None:
    """max_window(x)."""
    n = len(x)
    first = min(window - 1, n)
    out[:first] = NAN
    acc = out[first:]
    m = len(acc)
    acc[:] = -math.inf
    for j in range(window):
        lagged = x[first - j : n - j] if m > 0 else x[:0]
        for i in range(m):
            acc[i] = lagged[i] if lagged[i] > acc[i] else acc[i]
    _empty_unfilled(filled, window, out)


@njit
def rolling_min_age(x: np.ndarray, filled: np.ndarray, window: int, best: np.ndarray, out: np.ndarray) -> None:
    """Bars since the latest minimum of the last `window` values, 0 .. window-1; `best` (n,) is overwritten."""
    n = len(x)
    first = min(window - 1, n)
    out[:first] = NAN
    low, age = best[first:], out[first:]
    m = len(age)
    low[:] = math.inf
    age[:] = 0.0
    for j in range(window - 1, -1, -1):
        lagged = x[first - j : n - j] if m > 0 else x[:0]
        for i in range(m):
            newer = lagged[i] <= low[i]
            low[i] = lagged[i] if newer else low[i]
            age[i] = j if newer else age[i]
    _empty_unfilled(filled, window, out)


@njit
def shift(x: np.ndarray, bars: int, out: np.ndarray) -> None:
    """x[t - bars]: the value `bars` earlier."""
    n = len(x)
    first = min(bars, n)
    out[:first] = NAN
    out[first:] = x[: n - first]
