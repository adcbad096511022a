"""A bidirectional LSTM on the sequence: what a standard recurrent network makes of the same bars."""

from k4_pipeline.evaluation.baselines.registry import Task, baseline
from k4_pipeline.evaluation.scores import Scores


@baseline("bilstm")
def bilstm(task: Task) -> Scores:
    """Trained on train, stopped and calibrated on validation, as any sequence model here."""
    return Scores.of(task.train_sequence("bilstm"))
