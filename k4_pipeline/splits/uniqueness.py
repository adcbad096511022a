"""Sample weights by label overlap: average uniqueness of concurrent label windows (Lopez de Prado 2018, chapter 4).

Snapshots of one ticker taken a few bars apart share most of their label window, so they are far from independent. The
uniqueness of a row on a day is 1 / (number of windows of its ticker that contain that day); its weight is the mean of
that over its own window. Days are weekdays (Monday to Friday): the split knows dates, not bars, and holidays are few.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline._numba import njit


@njit
def _uniqueness(offsets: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Mean of 1 / concurrency over the closed window [first, last] of each row; rows of a ticker are contiguous."""
    out = np.empty(len(first))
    for g in range(len(offsets) - 1):
        lo, hi = offsets[g], offsets[g + 1]
        base = first[lo:hi].min()
        n_days = last[lo:hi].max() - base + 1
        change = np.zeros(n_days + 1, np.int64)
        for i in range(lo, hi):
            change[first[i] - base] += 1
            change[last[i] - base + 1] -= 1
        total = np.zeros(n_days + 1)  # running sum of 1 / concurrency; days without a window add nothing
        count = 0
        for d in range(n_days):
            count += change[d]
            total[d + 1] = total[d] + (1.0 / count if count > 0 else 0.0)
        for i in range(lo, hi):
            a, b = first[i] - base, last[i] - base + 1
            out[i] = (total[b] - total[a]) / (b - a)
    return out


def average_uniqueness(tickers: pd.Series, snapshot_days: np.ndarray, label_end_days: np.ndarray) -> np.ndarray:
    """Average uniqueness in (0, 1] of each label window, float64 (n,), in the order given.

    `snapshot_days`, `label_end_days` (n,) days since 1970-01-01; the window starts the weekday after the snapshot and
    ends on the label end, both included. Windows of different tickers do not interact.
    """
    codes, _ = pd.factorize(tickers)
    order = np.argsort(codes, kind="stable")
    # The number of weekdays strictly before a day is a running index in which weekends take no room.
    origin = np.datetime64(0, "D")
    first = np.busday_count(origin, (np.asarray(snapshot_days, np.int64)[order] + 1).astype("datetime64[D]"))
    last = np.busday_count(origin, (np.asarray(label_end_days, np.int64)[order] + 1).astype("datetime64[D]")) - 1
    last = np.maximum(first, last)  # a window that lies on a weekend only still counts as one day
    offsets = np.concatenate([[0], np.cumsum(np.bincount(codes))]).astype(np.int64)
    out = np.empty(len(order))
    out[order] = _uniqueness(offsets, first.astype(np.int64), last.astype(np.int64))
    return out


def normalised(weights: np.ndarray) -> np.ndarray:
    """Scaled so that the mean is 1: the loss keeps its size whatever the overlap."""
    return weights / weights.mean()
