"""Metrics on weighted rows, so that a bootstrap draw is just another set of weights.

Weights are (n,) and give a float, or (draws, n) and give (draws,): all draws at once. Equal scores are one block: half
credit in the AUC, the end of the block in average precision, a fair share of the block at a budget's edge. With groups
(months, bins of volatility) rows are compared within their group alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


def _per_draw(values: np.ndarray, weights: np.ndarray) -> Any:
    return float(values[0]) if weights.ndim == 1 else values


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where there is nothing below."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, above / below, np.nan)


@dataclass(frozen=True)
class Ranking:
    """Rows sorted by group and descending score, with the blocks of equal scores."""

    order: np.ndarray  # (n,) row numbers
    block_start: np.ndarray  # (n_blocks,) index in `order` of each block's first row
    group_start: np.ndarray  # (n_groups,) first block of each group
    positive: np.ndarray  # (n,) bool, in sorted order

    @classmethod
    def of(cls, score: np.ndarray, positive: np.ndarray, groups: np.ndarray | None = None) -> Ranking:
        """Rank `score` (n,) float, within `groups` (n,) where they are given; NaN scores are refused."""
        score = np.asarray(score, dtype=np.float64)
        if not np.isfinite(score).all():
            raise ValueError("a score is not finite; every row needs a score before it can be ranked")
        codes = np.zeros(len(score), np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
        order = np.lexsort((-score, codes))
        s, g = score[order], codes[order]
        new_group = np.append(True, g[1:] != g[:-1])[: len(s)]
        start = np.flatnonzero(new_group | np.append(True, s[1:] != s[:-1])[: len(s)])
        return cls(order, start, np.flatnonzero(new_group[start]), np.asarray(positive, dtype=bool)[order])

    def _blocks(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positive weight and all weight of each block, (draws, n_blocks)."""
        w = np.atleast_2d(weights)[:, self.order]
        return np.add.reduceat(w * self.positive, self.block_start, axis=1), np.add.reduceat(
            w, self.block_start, axis=1
        )

    def _within(self, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of each block: the sum over its group before it, and the sum of its whole group."""
        before = np.cumsum(blocks, axis=1) - blocks
        sizes = np.diff(np.append(self.group_start, blocks.shape[1]))
        before -= np.repeat(before[:, self.group_start], sizes, axis=1)
        return before, np.repeat(np.add.reduceat(blocks, self.group_start, axis=1), sizes, axis=1)

    def auc(self, weights: np.ndarray) -> Any:
        """Share of (positive, negative) pairs of one group in the right order; NaN without such a pair."""
        positives, total = self._blocks(weights)
        negatives = total - positives
        before, all_negatives = self._within(negatives)
        right = (positives * (all_negatives - before - 0.5 * negatives)).sum(axis=1)
        return _per_draw(_ratio(right, (positives * all_negatives).sum(axis=1)), weights)

    def average_precision(self, weights: np.ndarray) -> Any:
        """Mean over the positives of the precision at their block (of their group); NaN without positives."""
        positives, total = self._blocks(weights)
        precision = (self._within(positives)[0] + positives) / np.maximum(self._within(total)[0] + total, 1e-300)
        return _per_draw(_ratio((positives * precision).sum(axis=1), positives.sum(axis=1)), weights)

    def lift(self, weights: np.ndarray) -> Any:
        """Average precision over the share of positives."""
        positives, total = self._blocks(weights)
        share = _ratio(positives.sum(axis=1), total.sum(axis=1))
        return _per_draw(_ratio(np.atleast_1d(self.average_precision(np.atleast_2d(weights))), share), weights)

    def _taken(self, total: np.ndarray, budget_frac: float) -> np.ndarray:
        """Share of each block that lies within the budget of its group."""
        before, whole = self._within(total)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.clip(np.where(total > 0, (budget_frac * whole - before) / total, 0.0), 0.0, 1.0)

    def recall_in_top(self, weights: np.ndarray, budget_frac: float) -> Any:
        """Share of positive weight within the top `budget_frac` of every group's weight; NaN without positives."""
        positives, total = self._blocks(weights)
        found = (self._taken(total, budget_frac) * positives).sum(axis=1)
        return _per_draw(_ratio(found, positives.sum(axis=1)), weights)

    def in_top(self, budget_frac: float) -> np.ndarray:
        """Of each row, in the order given to `of`: how much of it lies within the top `budget_frac` of its group."""
        _, total = self._blocks(np.ones(len(self.order)))
        out = np.empty(len(self.order))
        sizes = np.diff(np.append(self.block_start, len(self.order)))
        out[self.order] = np.repeat(self._taken(total, budget_frac)[0], sizes)
        return out


def mean(rows: np.ndarray, weights: np.ndarray) -> Any:
    """Weighted mean of `rows` (n,)."""
    w = np.atleast_2d(weights)
    return _per_draw(_ratio(w @ rows, w.sum(axis=1)), weights)


def pearson(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Any:
    """Weighted Pearson correlation; NaN when a side does not vary."""
    w = np.atleast_2d(weights)
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    # Subtracting a value that occurs keeps a constant side exactly at zero; a mean would leave a speck of variance.
    dx, dy = x - x[0], y - y[0]
    for centred in (dx, dy):
        if np.ptp(centred) > 0:
            centred -= centred.mean()
    total = np.maximum(w.sum(axis=1), 1e-300)
    mx, my = w @ dx / total, w @ dy / total
    vx, vy = w @ (dx * dx) / total - mx**2, w @ (dy * dy) / total - my**2
    varies = (vx > 1e-12 * max(dx @ dx / len(dx), 1e-300)) & (vy > 1e-12 * max(dy @ dy / len(dy), 1e-300))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (w @ (dx * dy) / total - mx * my) / np.sqrt(vx * vy)
    return _per_draw(np.where(varies, np.clip(r, -1.0, 1.0), np.nan), weights)


def mid_ranks(x: np.ndarray) -> np.ndarray:
    """Ranks with ties at their mean, (n,) float64."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2.0)[inverse]


def equal_bins(x: np.ndarray, bins: int) -> np.ndarray:
    """Bin (n,) int of each value, bins of equal counts from low to high; ties in the order given."""
    rank = np.empty(len(x), np.int64)
    rank[np.argsort(x, kind="stable")] = np.arange(len(x))
    return np.minimum(rank * bins // max(len(x), 1), bins - 1)


def within_groups(x: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """`x` (n,) less the mean of its group."""
    _, first, codes = np.unique(groups, return_index=True, return_inverse=True)
    x = x - x[first][codes]  # exactly 0 where a group is constant; its mean alone would leave a speck of variance
    return x - (np.bincount(codes, weights=x) / np.bincount(codes))[codes]
