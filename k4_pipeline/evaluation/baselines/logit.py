"""A multinomial logit on the last bar's features and their context."""

from k4_pipeline.evaluation.baselines.registry import Task, baseline
from k4_pipeline.evaluation.scores import Scores
from k4_pipeline.models.tabular import Logit


@baseline("logit")
def logit(task: Task) -> Scores:
    """Fitted on every known row."""
    known, wanted = task.features
    return Scores.of(Logit().fit(known, task.y).predict_proba(wanted))
