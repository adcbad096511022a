"""Sorting by the volatility of the last 20 bars."""

from k4_pipeline.evaluation.baselines.by_volatility import by_volatility
from k4_pipeline.evaluation.baselines.registry import Task, baseline
from k4_pipeline.evaluation.scores import Scores


@baseline("volatility_20")
def volatility_20(task: Task) -> Scores:
    """The most volatile first."""
    return by_volatility(task, 20)
