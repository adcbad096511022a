"""Gradient-boosted trees on the last bar's features and their context."""

from k4_pipeline.evaluation.baselines.registry import Task, baseline
from k4_pipeline.evaluation.scores import Scores
from k4_pipeline.models.tabular import GradientBoosting


@baseline("gradient_boosting")
def gradient_boosting(task: Task) -> Scores:
    """Fitted on every known row; few leaves and rounds, as the classes are few and noisy."""
    known, wanted = task.features
    return Scores.of(GradientBoosting().fit(known, task.y).predict_proba(wanted))
