"""Metrics on weighted rows, so that a bootstrap draw is just another set of weights.

Every function takes the rows sorted once (`Ranking`) and non-negative weights; ties in the score are treated as one
block: half credit in the AUC, the end of the block in average precision, a fair share of the block at a budget's edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranking:
    """Rows sorted by descending score, with the blocks of equal scores."""

    order: np.ndarray  # (n,) row numbers
    block_end: np.ndarray  # (n_blocks,) index in `order` of each block's last row
    positive: np.ndarray  # (n,) bool, in sorted order

    @classmethod
    def of(cls, score: np.ndarray, positive: np.ndarray) -> Ranking:
        """Rank `score` (n,) float; NaN scores are refused."""
        score = np.asarray(score, dtype=np.float64)
        if not np.isfinite(score).all():
            raise ValueError("a score is not finite; every row needs a score before it can be ranked")
        order = np.argsort(-score, kind="stable")
        sorted_score = score[order]
        block_end = np.flatnonzero(np.append(sorted_score[1:] != sorted_score[:-1], True))
        return cls(order, block_end, np.asarray(positive, dtype=bool)[order])

    def _blocks(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cumulative (positive, all) weight at the end of each block."""
        w = weights[self.order]
        return np.cumsum(w * self.positive)[self.block_end], np.cumsum(w)[self.block_end]

    def auc(self, weights: np.ndarray) -> float:
        """Area under the ROC curve; NaN without both classes."""
        positives, total = self._blocks(weights)
        negatives = total - positives
        if positives[-1] <= 0 or negatives[-1] <= 0:
            return float("nan")
        pos_in = np.diff(positives, prepend=0.0)
        neg_in = np.diff(negatives, prepend=0.0)
        below = negatives[-1] - negatives
        return float((pos_in * (below + 0.5 * neg_in)).sum() / (positives[-1] * negatives[-1]))

    def average_precision(self, weights: np.ndarray) -> float:
        """Mean precision over recall steps (the step-wise sum of scikit-learn); NaN without positives."""
        positives, total = self._blocks(weights)
        if positives[-1] <= 0:
            return float("nan")
        precision = positives / np.maximum(total, 1e-300)
        return float((np.diff(positives, prepend=0.0) * precision).sum() / positives[-1])

    def recall_in_top(self, weights: np.ndarray, budget_frac: float) -> float:
        """Share of positive weight within the top `budget_frac` of all weight; NaN without positives."""
        positives, total = self._blocks(weights)
        if positives[-1] <= 0:
            return float("nan")
        budget = budget_frac * total[-1]
        reached = np.interp(budget, np.concatenate([[0.0], total]), np.concatenate([[0.0], positives]))
        return float(reached / positives[-1])


def pearson(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    """Weighted Pearson correlation; NaN when a side does not vary."""
    total = weights.sum()
    dx = x - (weights @ x) / total
    dy = y - (weights @ y) / total
    # Of equal values rounding leaves a speck of variance, whose correlation would be noise.
    drawn = weights > 0
    if not drawn.any() or np.ptp(x[drawn]) == 0 or np.ptp(y[drawn]) == 0:
        return float("nan")
    scale = np.sqrt((weights @ (dx * dx)) * (weights @ (dy * dy)))
    return float((weights @ (dx * dy)) / scale) if scale > 0 else float("nan")


def mid_ranks(x: np.ndarray) -> np.ndarray:
    """Ranks with ties at their mean, (n,) float64."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2.0)[inverse]
