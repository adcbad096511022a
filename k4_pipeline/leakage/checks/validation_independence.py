"""What validation rows may move: the choice of the epoch and the calibrator, never a weight.

The refits of fitted_checks.py have test rows gone or destroyed. Here the validation rows are corrupted: half of them
are left out and the classes of the others are permuted. Every epoch that both fits ran must be the same epoch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.leakage.checks.refits import fitted_again
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison
from k4_pipeline.leakage.engine.fingerprints import weights_fingerprint
from k4_pipeline.pipeline.stages import Fitted, PipelineRun
from k4_pipeline.verdict import Verdict


def corrupted_validation(full: PipelineRun, rng: np.random.Generator) -> PipelineRun:
    """The path with every second validation row excluded and the classes of the others permuted."""
    assert full.split is not None
    split = full.split.copy()
    rows = np.flatnonzero((split["split"] == "validation").to_numpy())
    gone, kept = rows[1::2], rows[0::2]
    split.loc[split.index[gone], "split"] = "excluded"
    classes = split["outcome_class"].to_numpy(copy=True)
    classes[kept] = rng.permutation(classes[kept])
    split["outcome_class"] = pd.array(classes, dtype=split["outcome_class"].dtype)
    # Patience decides when to stop, not what an epoch is: the first epochs say all there is to say.
    config = dataclasses.replace(full.config, training=dataclasses.replace(full.config.training, patience=1))
    return full.unfitted(config=config, split=split)


def _of_training(epoch: dict[str, Any]) -> dict[str, Any]:
    """The numbers of an epoch that come from the train rows."""
    return {k: v for k, v in epoch.items() if "validation" not in k and "second" not in k}


def compare_training(stored: Fitted, again: Fitted) -> Comparison:
    """Class counts and scaler, and of every epoch that both ran the numbers of training; the weights, when both kept
    the same epoch."""
    out, cause = Comparison(), "validation rows were trained on, or weighed the classes"

    def expect(what: str, a: Any, b: Any) -> None:
        same = a == b
        out.add(1, int(not same), [f"{what} is {a}, with validation rows corrupted {b}; {cause}"] * (not same))

    expect("scaler: hash", stored.scaler.hash(), again.scaler.hash())
    expect("model: classes of the train rows", list(stored.class_counts), list(again.class_counts))
    pairs = zip(stored.members, again.members)
    epochs = [e for m, n in pairs for e in zip(m.get("history", []), n.get("history", []))]
    for a, b in [*zip(stored.history, again.history), *epochs]:
        mine, other = _of_training(a), _of_training(b)
        for key in sorted(set(mine) | set(other)):
            expect(f"model: epoch {a.get('epoch')}, {key}", mine.get(key), other.get(key))
    if [m.get("best_epoch") for m in stored.members] == [m.get("best_epoch") for m in again.members]:
        pair = weights_fingerprint(stored.validated), weights_fingerprint(again.validated)
        expect("model: sha256 of the weights", *pair)
    return out


def _other_train_loss(context: AuditContext) -> AuditContext:
    fitted = context.full.need_fitted()
    history = [dict(epoch) for epoch in fitted.history]
    history[0]["train_loss"] = float(np.nextafter(history[0]["train_loss"], np.inf))
    return context.with_full(fitted=dataclasses.replace(fitted, history=history))


@check(
    "fitted",
    proves="With half of the validation rows gone and the classes of the others permuted, scaler, class counts "
    "and training losses of every epoch keep their bits: validation rows choose the epoch and calibrate, no more.",
    misses="A use of validation rows that changes neither a training loss nor the kept weights.",
    needs=("split", "fitted", "refit"),
    corruptions=(_other_train_loss,),
)
def validation_rows_move_no_weight(context: AuditContext) -> Verdict:
    """Fit again with corrupted validation rows."""
    full = context.full
    again = fitted_again(context, "validation_corrupted", lambda: corrupted_validation(full, context.rng(13)))
    out = compare_training(full.need_fitted(), again)
    return verdict_of(
        out,
        epochs=min(len(full.need_fitted().history), len(again.history)),
        validation_rows_left=int(again.record["validation"]["rows"]),
    )
