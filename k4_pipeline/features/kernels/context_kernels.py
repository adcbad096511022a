"""The numba kernels of features/context.py: what one ticker's past says, then the comparisons within a date.

Every window is summed afresh, so no value carries rounding from the history before its window.
"""

from __future__ import annotations

import math

import numpy as np

from k4_pipeline._numba import njit

HISTORY_BARS = 1000  # bars of history are counted up to here
N_OWN = 15  # columns of one ticker; the next one holds the log dollar volume until `date_rows` makes it relative
_LEAST_MOVE = 1e-4  # a deviation or move below a basis point counts as one


@njit
def _moments(r: np.ndarray, i: int, n: int) -> tuple:
    """Standard deviation (ddof 0) and skewness of the last n returns up to i; skewness 0 without a spread."""
    total = 0.0
    for j in range(i - n + 1, i + 1):
        total += r[j]
    mean = total / n
    second = third = 0.0
    for j in range(i - n + 1, i + 1):
        d = r[j] - mean
        second += d * d
        third += d * d * d
    deviation = math.sqrt(second / n)
    return deviation, (third / n / deviation**3 if deviation > 1e-6 else 0.0)


@njit
def _mean(x: np.ndarray, i: int, n: int) -> float:
    total = 0.0
    for j in range(i - n + 1, i + 1):
        total += x[j]
    return total / n


@njit
def own_rows(
    first: int,
    last: int,
    high: np.ndarray,
    low: np.ndarray,
    close: np.ndarray,
    volume: np.ndarray,
    out: np.ndarray,
) -> None:
    """Columns 0 .. N_OWN of the rows first .. last - 1, which are one ticker's bars; NaN before the look-back."""
    n = last - first
    r, dollars = np.empty(n), np.empty(n)
    r[0] = np.nan
    for i in range(n):
        t = first + i
        dollars[i] = close[t] * volume[t]
        if i > 0:
            r[i] = math.log(close[t] / close[t - 1])
    for i in range(n):
        t = first + i
        for k in range(N_OWN + 1):
            out[t, k] = np.nan
        if i >= 20:
            out[t, 0] = math.log(max(_moments(r, i, 20)[0], _LEAST_MOVE))
            out[t, 3] = math.log(close[t] / close[t - 20])
        if i >= 60:
            deviation, skew = _moments(r, i, 60)
            zeros, size, largest = 0, 0.0, 0.0
            for j in range(i - 59, i + 1):
                move = abs(r[j])
                size += move
                largest = max(largest, move)
                zeros += move == 0.0
            out[t, 1] = math.log(max(deviation, _LEAST_MOVE))
            out[t, 4] = math.log(close[t] / close[t - 60])
            out[t, 9] = zeros / 60.0
            out[t, 10] = math.log(max(largest, _LEAST_MOVE))
            out[t, 11] = skew
            out[t, 13] = math.log((size / 60.0 + 1e-5) / (_mean(dollars, i, 60) + 1.0))
        if i >= 120:
            out[t, 5] = math.log(close[t] / close[t - 120])
        if i >= 250:
            out[t, 2] = math.log(max(_moments(r, i, 250)[0], _LEAST_MOVE))
            out[t, 6] = math.log(close[t] / close[t - 250])
        if i >= 249:
            highest, lowest = high[t], low[t]
            for j in range(t - 249, t):
                highest, lowest = max(highest, high[j]), min(lowest, low[j])
            out[t, 7] = math.log(close[t] / highest)
            out[t, 8] = math.log(close[t] / lowest)
            out[t, 12] = math.log((_mean(dollars, i, 20) + 1.0) / (_mean(dollars, i, 250) + 1.0))
        out[t, 14] = math.log(1.0 + min(i + 1, HISTORY_BARS))
        if i >= 19:
            out[t, N_OWN] = math.log(_mean(dollars, i, 20) + 1.0)


@njit
def _mean_of(out: np.ndarray, rows: np.ndarray, column: int) -> float:
    """Mean of the finite values of a column over some rows, in their order; NaN without one."""
    total, count = 0.0, 0
    for row in rows:
        value = np.float64(out[row, column])
        if value - value == 0.0:
            total += value
            count += 1
    return total / count if count else np.nan


@njit
def _rank(out: np.ndarray, rows: np.ndarray, source: int, target: int) -> None:
    """(rows below + half of those equal) / rows, among the finite values: 1 / 2n to 1 - 1 / 2n; NaN stays NaN."""
    values = np.empty(len(rows))
    for k in range(len(rows)):
        values[k] = out[rows[k], source]
    order = np.argsort(values)  # NaN last
    count = 0
    while count < len(rows) and values[order[count]] == values[order[count]]:
        count += 1
    begin = 0
    while begin < count:
        end = begin + 1
        while end < count and values[order[end]] == values[order[begin]]:
            end += 1
        for k in range(begin, end):
            out[rows[order[k]], target] = (begin + end) / 2.0 / count
        begin = end
    for k in range(count, len(rows)):
        out[rows[order[k]], target] = np.nan


@njit
def date_rows(
    order: np.ndarray,
    edges: np.ndarray,
    means_of: np.ndarray,
    means_to: np.ndarray,
    dollar_volume: int,
    ranks_of: np.ndarray,
    out: np.ndarray,
) -> None:
    """The columns that compare within a date: date g has the rows order[edges[g]:edges[g + 1]]."""
    first_rank = means_to[-1] + 1
    for g in range(len(edges) - 1):
        rows = order[edges[g] : edges[g + 1]]
        for k in range(len(means_of)):
            mean = _mean_of(out, rows, means_of[k])
            for row in rows:
                out[row, means_to[k]] = mean
        mean = _mean_of(out, rows, dollar_volume)
        for row in rows:
            out[row, dollar_volume] = np.float32(np.float64(out[row, dollar_volume]) - mean)
        for k in range(len(ranks_of)):
            _rank(out, rows, ranks_of[k], first_rank + k)
