"""The negative controls of every retraining, as propositions about trained_model; leakage/controls does the work."""

from __future__ import annotations

import functools

from k4_pipeline.defs.checks.factory import Evidence, Proposition
from k4_pipeline.verdict import Verdict

DESCRIPTIONS = {
    "shuffled_labels_teach_nothing": "Labels permuted within their month: the cheap model scores as under "
    "any other permutation of the same labels.",
    "labels_one_horizon_late_teach_nothing": "Labels of a race one horizon later: the cheap model knows no more than "
    "volatility and momentum of the bars up to the snapshot tell.",
    "reversed_time_teaches_nothing": "Bars in reverse order of time: the cheap model knows no more than volatility "
    "and momentum of the bars up to the snapshot tell.",
    "a_martingale_teaches_nothing": "A simulated market of martingales: the cheap model knows no more than volatility "
    "and place in the box tell.",
}
SWITCHED_OFF = "the negative controls are switched off (controls.enabled is false); switch them on and check again"


def _control(name: str, evidence: Evidence) -> Verdict:
    from k4_pipeline.defs.checks.leakage import path_of_partition
    from k4_pipeline.leakage.controls.negative_controls import run_control

    if not evidence.config.controls.enabled:
        return Verdict.of(name, 0, [SWITCHED_OFF], evidence=False)
    path = path_of_partition(evidence, "dataset_split")
    return run_control(name, path, str(evidence.ref.partition), seed=path.config.training.seed)


def _objects(verdict: Verdict) -> bool:
    from k4_pipeline.leakage.controls.negative_controls import blocks

    return blocks(verdict)


CONTROL_PROPOSITIONS = [
    Proposition(
        name,
        functools.partial(_control, name),
        description=f"Negative control. {text} An alarm blocks; too little evidence fails as a warning.",
        objects=_objects,
    )
    for name, text in DESCRIPTIONS.items()
]
