"""Sorting by one volatility; class probabilities from a logit on its logarithm and the square of that."""

from __future__ import annotations

import numpy as np

from k4_pipeline.evaluation.baselines.registry import Task
from k4_pipeline.evaluation.scores import Scores
from k4_pipeline.models.tabular import Logit

_FLOOR = 1e-5  # of a volatility: a ticker whose close does not move


def _columns(volatility: np.ndarray) -> np.ndarray:
    log = np.log(np.maximum(np.nan_to_num(volatility, nan=_FLOOR), _FLOOR))
    return np.stack([log, log**2], axis=1)


def by_volatility(task: Task, bars: int) -> Scores:
    """Ranked by the volatility of so many bars itself; a row without enough history ranks last."""
    known, wanted = task.volatility[bars]
    fitted = Logit(c=1.0).fit(_columns(known), task.y)
    return Scores.of(fitted.predict_proba(_columns(wanted)), np.nan_to_num(wanted, nan=-1.0))
