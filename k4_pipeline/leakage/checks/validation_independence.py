"""What validation rows may move: the choice of the epoch and the calibrator, never a weight.

The refit of fitted_checks.py has test rows gone. Here the validation rows are corrupted: half of them are left out and
the classes of the others are permuted. Both fits run the same epochs and keep the last one.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import torch

from k4_pipeline.leakage.checks.twin_fits import TOGETHER, twin
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison
from k4_pipeline.leakage.engine.fingerprints import weights_fingerprint
from k4_pipeline.pipeline.stages import Fitted
from k4_pipeline.verdict import Verdict


def _of_training(epoch: dict[str, Any]) -> dict[str, Any]:
    """The numbers of an epoch that come from the train rows."""
    return {k: v for k, v in epoch.items() if "validation" not in k and "second" not in k}


def compare_training(stored: Fitted, again: Fitted) -> Comparison:
    """Class counts and scaler, of every epoch the numbers of training, and the weights of the last one."""
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
    expect("model: sha256 of the weights", weights_fingerprint(stored.validated), weights_fingerprint(again.validated))
    return out


def _with_twin(context: AuditContext, **changes: Any) -> AuditContext:
    whole = twin(context)
    changed = dataclasses.replace(whole, fitted=dataclasses.replace(whole.fitted, **changes))
    return dataclasses.replace(context, extra={**context.extra, "twin": changed})


def _other_train_loss(context: AuditContext) -> AuditContext:
    history = [dict(epoch) for epoch in twin(context).fitted.history]
    history[0]["train_loss"] = float(np.nextafter(history[0]["train_loss"], np.inf))
    return _with_twin(context, history=history)


def _other_weight(context: AuditContext) -> AuditContext:
    model = copy.deepcopy(twin(context).fitted.validated)
    with torch.no_grad():
        values = next(p for p in model.parameters() if p.is_floating_point()).view(-1)
        values[0] = torch.nextafter(values[0], torch.tensor(torch.inf, dtype=values.dtype))
    return _with_twin(context, model=model)


def _other_counts(context: AuditContext) -> AuditContext:
    counts = twin(context).fitted.class_counts
    return _with_twin(context, class_counts=[counts[0] + 1, *counts[1:]])


@check(
    "fitted",
    proves="With half of the validation rows gone and the classes of the others permuted, two fits of a part of the "
    "tickers have the same scaler, class counts, training losses and weights, to the bit: validation rows choose the "
    "epoch and calibrate, no more.",
    misses="A use of validation rows that begins after the second epoch, or in tickers outside the part.",
    needs=("split",),
    corruptions=(_other_train_loss, _other_weight, _other_counts),
    together=TOGETHER,
)
def validation_rows_move_no_weight(context: AuditContext) -> Verdict:
    """Fit a part of the rows as they are, and with corrupted validation rows."""
    honest, again = context.extra.get("twin") or twin(context), twin(context, corrupted=True)
    out = compare_training(honest.fitted, again.fitted)
    rows = {name: int(honest.fitted.record[name]["rows"]) for name in ("train", "validation")}
    return verdict_of(
        out,
        epochs=min(len(honest.fitted.history), len(again.fitted.history)),
        train_rows=rows["train"],
        validation_rows=rows["validation"],
        validation_rows_left=int(again.fitted.record["validation"]["rows"]),
    )
