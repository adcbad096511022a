"""What is measured on the validation rows after every epoch, and when an epoch counts as better than another.

The K4 quantities follow evaluation/weighted.py: rows with equal scores are one block, entered as a whole in average
precision and in proportion at the edge of the budget, so that no result depends on the order of the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from k4_pipeline.config import K4, TrainConfig
from k4_pipeline.errors import ConfigError

FEW_K4 = 10

# Better first; the later ones decide only between epochs that are equal in the earlier ones.
ORDER_OF = {
    "k4_recall_at_budget": ("k4_recall_at_budget", "k4_average_precision", "loss"),
    "k4_recall": ("k4_recall", "k4_average_precision", "loss"),
    "k4_average_precision": ("k4_average_precision", "loss"),
    "loss": ("loss",),
    "log_loss": ("log_loss",),
}
_LOWER_IS_BETTER = ("loss", "log_loss")


def _blocks(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cumulated rows and positives at the end of each block of equal scores, best score first."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    return ends + 1.0, np.cumsum(positive[order].astype(np.float64))[ends]


def recall_at_budget(score: np.ndarray, positive: np.ndarray, budget_frac: float) -> float:
    """Share of the positives among the `budget_frac` of rows with the highest score; NaN without positives."""
    if not positive.any():
        return math.nan
    rows, hits = _blocks(score, positive)
    reached = np.interp(budget_frac * len(score), np.append(0.0, rows), np.append(0.0, hits))
    return float(reached / hits[-1])


def average_precision(score: np.ndarray, positive: np.ndarray) -> float:
    """Sum over blocks of (gain in recall) * precision, as scikit-learn's; NaN without positives."""
    if not positive.any():
        return math.nan
    rows, hits = _blocks(score, positive)
    return float(np.sum(np.diff(np.append(0.0, hits)) * hits / rows) / hits[-1])


def validation_metrics(p: np.ndarray, y: np.ndarray, loss: float, budget_frac: float) -> dict[str, float]:
    """Metrics of probabilities p (n, classes) against classes y (n,); those of K4 are NaN without a K4 row."""
    is_k4 = y == K4
    predicted = p.argmax(axis=1)
    return {
        "loss": loss,
        "log_loss": float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean()),
        "accuracy": float((predicted == y).mean()),
        "k4_count": int(is_k4.sum()),
        "k4_recall": float((predicted[is_k4] == K4).mean()) if is_k4.any() else math.nan,
        "k4_recall_at_budget": recall_at_budget(p[:, K4], is_k4, budget_frac),
        "k4_average_precision": average_precision(p[:, K4], is_k4),
    }


@dataclass(frozen=True)
class Monitor:
    """Which quantity decides, what breaks its ties, and what should be known about it."""

    name: str  # the quantity in use
    order: tuple[str, ...]
    note: str  # "" when it is the one asked for, on enough K4 rows

    @classmethod
    def choose(cls, config: TrainConfig, k4_count: int) -> Monitor:
        """The configured quantity; `loss` when there is no K4 row to measure it on. Both cases are put in words."""
        if config.monitor not in ORDER_OF:
            raise ConfigError(f"monitor {config.monitor!r} is unknown; use one of {', '.join(ORDER_OF)}")
        order = ORDER_OF[config.monitor]
        if config.monitor in _LOWER_IS_BETTER:
            return cls(config.monitor, order, "")
        if k4_count == 0:
            note = f"validation holds no K4 row, so {config.monitor} is not defined; the loss decides instead"
            return cls("loss", ORDER_OF["loss"], note)
        note = ""
        if k4_count < FEW_K4:
            note = (
                f"validation holds only {k4_count} K4 rows: {config.monitor} moves in coarse steps, so that "
                f"{' and then '.join(order[1:])} often decide"
            )
        return cls(config.monitor, order, note)

    def key(self, metrics: dict[str, float]) -> tuple[float, ...]:
        """Compares epochs: a larger tuple is better."""
        return tuple(-metrics[name] if name in _LOWER_IS_BETTER else metrics[name] for name in self.order)


NO_MONITOR = Monitor("none", (), "no validation rows were given, so every epoch was run")
