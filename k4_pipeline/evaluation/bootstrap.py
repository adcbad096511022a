"""Two-way cluster bootstrap: whole tickers and whole months are drawn.

The snapshots of one ticker share bars and label windows, and the snapshots of one month share the market's moves, so
intervals from independent rows, or from tickers alone, are too narrow. Each draw weighs a row by how often its ticker
and how often its month was drawn (the pigeonhole bootstrap, Owen 2007, which errs on the wide side). Two methods are
compared on the same draws: the interval of their difference is that of the paired differences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Statistic = Callable[[np.ndarray], Any]
_CELLS = 4_000_000  # weights looked at in one go


def _drawn(groups: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """How often each row's group was drawn with replacement, (draws, n)."""
    _, codes = np.unique(groups, return_inverse=True)
    n_groups = int(codes.max()) + 1 if len(codes) else 0
    counts = rng.multinomial(n_groups, np.full(n_groups, 1.0 / n_groups), size=draws)
    return counts.astype(np.float64)[:, codes]


def cluster_weights(tickers: np.ndarray, draws: int, seed: int, dates: np.ndarray | None = None) -> np.ndarray:
    """Row weights of each draw, (draws, n) float64, from tickers (n,) and, when given, dates (n,) datetime64."""
    rng = np.random.default_rng(seed)
    weights = _drawn(np.asarray(tickers).astype(str), draws, rng)
    if dates is not None:
        weights *= _drawn(np.asarray(dates).astype("datetime64[M]").astype(np.int64), draws, rng)
    return weights


def drawn_values(statistic: Statistic, weights: np.ndarray) -> np.ndarray:
    """The statistic of each draw, (draws,); NaN where a draw holds no row or the statistic is not defined."""
    step = max(1, _CELLS // max(weights.shape[1], 1))
    parts = [np.asarray(statistic(weights[i : i + step])) for i in range(0, len(weights), step)]
    return np.where(weights.any(axis=1), np.concatenate(parts), np.nan)


def percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Percentile interval of drawn values; (NaN, NaN) when fewer than half of them are defined."""
    defined = values[np.isfinite(values)]
    if len(defined) < max(2, len(values) // 2):
        return float("nan"), float("nan")
    tail = 100.0 * (1.0 - confidence) / 2.0
    low, high = np.percentile(defined, [tail, 100.0 - tail])
    return float(low), float(high)


def interval(statistic: Callable[[np.ndarray], float], weights: np.ndarray, confidence: float) -> tuple[float, float]:
    """Percentile interval of a statistic of one draw, (n,) -> float."""
    return percentiles(np.array([statistic(w) if w.any() else np.nan for w in weights]), confidence)
