"""What the formulas of reference.py are written in: windows that end at t, and NaN where a window is not complete."""

from __future__ import annotations

import numpy as np

NAN = np.nan


def windows(x: np.ndarray, n: int) -> np.ndarray:
    """(n_bars, n): the last n values up to each bar, NaN before the first."""
    return np.lib.stride_tricks.sliding_window_view(np.concatenate([np.full(n - 1, NAN), x]), n)


def divide(a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    """a / b, NaN for a division by zero."""
    return np.where(np.equal(b, 0), NAN, a / np.where(np.equal(b, 0), 1, b))


def lag(x: np.ndarray, n: int) -> np.ndarray:
    """The value n bars earlier."""
    return np.concatenate([np.full(min(n, len(x)), NAN), x[: max(len(x) - n, 0)]])


def mean(x: np.ndarray, n: int) -> np.ndarray:
    """Mean of n bars, taken around the first one, so that the mean of equal values is that value."""
    w = windows(x, n)
    return w[:, 0] + (w - w[:, :1]).mean(axis=1)


def std(x: np.ndarray, n: int) -> np.ndarray:
    """Standard deviation of n bars, ddof 0."""
    return np.sqrt(((windows(x, n) - mean(x, n)[:, None]) ** 2).mean(axis=1))


def slope(x: np.ndarray, n: int) -> np.ndarray:
    """Slope per bar of the least-squares line through n bars."""
    place = np.arange(n) - (n - 1) / 2
    return ((windows(x, n) - mean(x, n)[:, None]) * place).sum(axis=1) / (place**2).sum()


def share(hit: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Share of a window for which `hit` holds, NaN where the window has a missing value."""
    return np.where(np.isnan(w).any(axis=1), NAN, hit.mean(axis=1))


def rank(x: np.ndarray, n: int) -> np.ndarray:
    """Share of the last n values that are <= the value at t."""
    w = windows(x, n)
    return share(w <= w[:, -1:], w)
