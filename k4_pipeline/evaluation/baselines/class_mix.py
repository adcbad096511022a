"""The class mix of the known rows, the same for every row: what log loss and EV have to beat."""

import numpy as np

from k4_pipeline.evaluation.baselines.registry import Task, baseline
from k4_pipeline.evaluation.scores import Scores


@baseline("class_mix")
def class_mix(task: Task) -> Scores:
    """Every row gets the class shares of the known rows; nothing is ranked."""
    return Scores.of(np.tile(task.prior, (task.n_wanted, 1)))
