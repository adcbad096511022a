"""Ranking metrics computed a second time, directly from their definitions, for rows with equal weights.

Ties count as in the report: half a win in the AUC, the whole block in average precision, a fair share at a budget.
"""

from __future__ import annotations

import numpy as np


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Share of (positive, negative) pairs in the right order; equal scores count half."""
    a, b = np.sort(score[positive]), np.sort(score[~positive])
    if not len(a) or not len(b):
        return float("nan")
    below = np.searchsorted(b, a, side="left")
    not_above = np.searchsorted(b, a, side="right")
    return float((below + not_above).sum() / (2.0 * len(a) * len(b)))


def average_precision(score: np.ndarray, positive: np.ndarray) -> float:
    """Mean over the positives of the precision among all rows that score at least as much."""
    if not positive.any():
        return float("nan")
    every, own = np.sort(score), np.sort(score[positive])
    at_least = len(every) - np.searchsorted(every, own, side="left")
    own_at_least = len(own) - np.searchsorted(own, own, side="left")
    return float((own_at_least / at_least).mean())


def k4_recall_in_top(score: np.ndarray, positive: np.ndarray, budget_frac: float) -> float:
    """Share of the positives within the `budget_frac` of rows that score highest; ties at the edge in proportion."""
    if not positive.any():
        return float("nan")
    budget = budget_frac * len(score)
    found = 0.0
    for value in np.unique(score)[::-1]:
        block = score == value
        size, hits = int(block.sum()), int(positive[block].sum())
        if budget <= 0:
            break
        found += hits * min(1.0, budget / size)
        budget -= size
    return found / int(positive.sum())
