"""Cluster bootstrap: whole tickers are drawn, since the snapshots of one ticker share bars and label windows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Statistic = Callable[[np.ndarray], float]


def cluster_weights(groups: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Row weights of each draw, (draws, n) float64: how often the row's group was drawn with replacement."""
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    n_groups = int(codes.max()) + 1 if len(codes) else 0
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n_groups, np.full(n_groups, 1.0 / n_groups), size=draws)
    return counts.astype(np.float64)[:, codes]


def interval(statistic: Statistic, weights: np.ndarray, confidence: float) -> tuple[float, float]:
    """Percentile interval of `statistic` over the draws; (NaN, NaN) when fewer than half of them are defined."""
    values = np.array([statistic(w) for w in weights])
    values = values[np.isfinite(values)]
    if len(values) < max(2, len(weights) // 2):
        return float("nan"), float("nan")
    tail = 100.0 * (1.0 - confidence) / 2.0
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return float(low), float(high)
