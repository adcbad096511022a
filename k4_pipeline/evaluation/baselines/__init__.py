"""What every model is measured against: one baseline per file, each listed here.

A baseline learns from the rows whose label is known at as_of (train and validation) and scores the test rows. To add
one: write a file that decorates a function with `@baseline`, and import it below.
"""

from k4_pipeline.evaluation.baselines.registry import BASELINES, Baseline, Task, baseline, score_all

from k4_pipeline.evaluation.baselines import (  # isort: skip
    class_mix as class_mix,
    volatility_20 as volatility_20,
    volatility_250 as volatility_250,
    logit as logit,
    gradient_boosting as gradient_boosting,
    bilstm as bilstm,
)

__all__ = ["BASELINES", "Baseline", "Task", "baseline", "score_all"]
