"""Checks of everything that is fitted or chosen: scaler, weights, best epoch, calibrator, and what they say they saw.

The strongest of them fits again with nothing there but the permitted rows: test and excluded rows are gone, and every
bar dated as_of or later is NaN. What comes out must be what is stored, bit for bit.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pandas as pd
import torch

from k4_pipeline.config import K4, KEYS, N_CLASSES
from k4_pipeline.evaluation import calibration
from k4_pipeline.leakage.checks.refits import fitted_again, permitted_only, world_of_as_of
from k4_pipeline.leakage.checks.replay_at_cutoffs import CUT_AT_DATES
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison, shown
from k4_pipeline.leakage.engine.fingerprints import weights_fingerprint
from k4_pipeline.leakage.oracles.membership import oracle_calibration, oracle_stopping
from k4_pipeline.leakage.oracles.metrics import average_precision, k4_recall_in_top
from k4_pipeline.models.ensemble import TABULAR_KINDS, Ensemble
from k4_pipeline.pipeline import fit as candidate, stages as production
from k4_pipeline.pipeline.stages import Fitted, PipelineRun
from k4_pipeline.sequences import scaler
from k4_pipeline.storage.keys import keys_hash
from k4_pipeline.training import predict as prediction
from k4_pipeline.verdict import Verdict


def _without_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in epoch.items() if "second" not in k} for epoch in history]


def compare_fitted(stored: Fitted, again: Fitted, *, when: str) -> Comparison:
    """Scaler, weights, history, best epoch, class counts and calibrator, bit for bit."""
    out = Comparison()
    cause = "it was fitted or chosen with rows that must not be seen"

    def expect(what: str, a: Any, b: Any) -> None:
        same = a == b
        out.add(1, int(not same), [f"{what} is {a}, {when} {b}; {cause}"] * (not same))

    for name in ("center", "scale", "lower", "upper"):
        a, b = getattr(stored.scaler, name), getattr(again.scaler, name)
        wrong = np.flatnonzero(a != b)
        first = int(wrong[0]) if len(wrong) else 0
        line = f"scaler: {name} of channel {first + 1} is {shown(a[first])}, {when} {shown(b[first])}; {cause}"
        out.add(len(a), len(wrong), [line] * bool(len(wrong)))
    expect("scaler: rows it saw", stored.scaler.meta["keys_hash"], again.scaler.meta["keys_hash"])
    expect("model: classes of the train rows", list(stored.class_counts), list(again.class_counts))
    expect("model: members", [m["kind"] for m in stored.members], [m["kind"] for m in again.members])
    for mine, other in zip(stored.members, again.members):
        who = f"model: {mine['kind']}"
        before, after = _without_times(mine.get("history", [])), _without_times(other.get("history", []))
        for a, b in zip(before, after):
            for key in sorted(set(a) | set(b)):
                expect(f"{who}, epoch {a.get('epoch')}, {key}", a.get(key), b.get(key))
        expect(f"{who}, epochs", len(before), len(after))
        for key in ("best_epoch", "window_rows", "class_counts", "train_rows"):
            expect(f"{who}, {key}", mine.get(key), other.get(key))
    expect("model: best epoch", stored.best_epoch, again.best_epoch)
    expect("model: sha256 of the weights", weights_fingerprint(stored.model), weights_fingerprint(again.model))
    for name in ("scale", "bias"):
        expect(
            f"calibrator: {name}", getattr(stored.calibrator, name).tolist(), getattr(again.calibrator, name).tolist()
        )
    expect("certified tiers", *(json.dumps(f.certificates.to_dict(), sort_keys=True) for f in (stored, again)))
    return out


def _fitted_with(context: AuditContext, **changes: Any) -> AuditContext:
    return context.with_full(fitted=dataclasses.replace(context.full.need_fitted(), **changes))


def _nudged_scaler(context: AuditContext) -> AuditContext:
    old = context.full.need_fitted().scaler
    center = old.center.copy()
    center[5] = np.nextafter(center[5], np.float32(np.inf))
    return _fitted_with(context, scaler=dataclasses.replace(old, center=center))


def _nudged_calibrator(context: AuditContext) -> AuditContext:
    old = context.full.need_fitted().calibrator
    return _fitted_with(context, calibrator=dataclasses.replace(old, bias=old.bias + 1e-12))


def _other_certificate(context: AuditContext) -> AuditContext:
    old = context.full.need_fitted().certificates
    return _fitted_with(context, certificates=dataclasses.replace(old, calibration_k4=old.calibration_k4 + 1))


def _other_best_epoch(context: AuditContext) -> AuditContext:
    fitted = context.full.need_fitted()
    other = fitted.best_epoch - 1 if fitted.best_epoch > 1 else len(fitted.history)
    return _fitted_with(context, best_epoch=other if other != fitted.best_epoch else 99)


@check(
    "fitted",
    proves="Scaler, weights, every number of the history, best epoch and calibrator are reproduced to the bit with "
    "nothing there but train and validation rows, and NaN for all bars from as_of on (test rows corrupted or absent).",
    misses="Train and validation rows that are wrong themselves; other machines or thread counts (bits may "
    "differ there).",
    needs=("split", "fitted", "refit"),
    corruptions=(_nudged_scaler, _nudged_calibrator, _other_certificate),
    together=CUT_AT_DATES,
)
def everything_fitted_comes_from_the_permitted_rows_alone(context: AuditContext) -> Verdict:
    """Fit again on the permitted rows."""
    again = fitted_again(context, "world", lambda: world_of_as_of(context))
    out = compare_fitted(context.full.need_fitted(), again, when="fitted again on the permitted rows alone")
    rows = int(again.record["train"]["rows"] + again.record["validation"]["rows"])
    return verdict_of(out, rows=rows)


@check(
    "fitted",
    proves="The scaler is reproduced, to the bit, from an index that holds the train rows alone and a panel that is "
    "NaN outside their windows.",
    misses="Train rows that are wrong themselves.",
    needs=("split", "fitted"),
    corruptions=(_nudged_scaler,),
)
def the_scaler_comes_from_train_rows_alone(context: AuditContext) -> Verdict:
    """Refit the scaler where nothing else exists."""
    full = context.full
    rows, table = production.members(full, "train")
    index = full.index.take(rows)
    used = np.zeros(len(full.panel), dtype=bool)
    end, valid = index.rows[:, 0], index.rows[:, 1]
    for last, n in zip(end.tolist(), valid.tolist()):
        used[last - n + 1 : last + 1] = True
    panel = np.where(used[:, None], full.panel, np.float32(np.nan))
    again = scaler.fit_scaler(panel, index, np.arange(len(rows)), context.config.scaler, keys=table[KEYS])
    stored, out = full.need_fitted().scaler, Comparison()
    for array in ("center", "scale", "lower", "upper"):
        a, b = getattr(stored, array), getattr(again, array)
        wrong = np.flatnonzero(a != b)
        lines = (
            f"scaler: {array} of channel {int(c) + 1} is {shown(a[c])}, from the train rows alone {shown(b[c])}; "
            "other rows "
            "were used"
            for c in wrong[:5]
        )
        out.add(len(a), len(wrong), lines)
    if stored.hash() != again.hash():
        different = sorted(k for k in stored.meta if stored.meta[k] != again.meta.get(k))
        out.add(1, 1, [f"scaler: its record differs from the train rows in {', '.join(different) or 'its values'}"])
    return verdict_of(out, rows=len(rows))


def monitor_order(name: str) -> tuple[str, ...]:
    """What decides between epochs, written down a second time from docs/design.md."""
    return {
        "k4_recall_at_budget": ("k4_recall_at_budget", "k4_average_precision", "loss"),
        "k4_recall": ("k4_recall", "k4_average_precision", "loss"),
        "k4_average_precision": ("k4_average_precision", "loss"),
        "loss": ("loss",),
        "log_loss": ("log_loss",),
    }[name]


@check(
    "fitted",
    proves="The kept epoch is the best by its own history, and the numbers of that epoch are reproduced when the "
    "stored weights score the validation rows: it was chosen on validation, not on test.",
    misses="Choices between runs (model size, settings), which are not made in this pipeline.",
    needs=("split", "fitted"),
    corruptions=(_other_best_epoch,),
)
def the_best_epoch_was_chosen_on_validation_rows(context: AuditContext) -> Verdict:
    """Choose the epoch of every network again, and measure it again."""
    full, fitted, out, epochs = context.full, context.full.need_fitted(), Comparison(), 0
    for i, member in enumerate(fitted.members):
        history = member.get("history", [])
        if not history:
            odd = member["kind"] not in TABULAR_KINDS
            out.add(1, int(odd), [f"model: {member['kind']} has no history of epochs"] * odd)
            continue
        epochs += len(history)
        if member["monitor_name"] == "none":  # nothing was chosen: all epochs were run
            fixed = int(member["best_epoch"]) == len(history)
            out.add(
                len(history), int(not fixed), [f"model: epoch {member['best_epoch']} of {len(history)}"] * (not fixed)
            )
            continue
        best, best_rank = 0, None
        for epoch, values in enumerate(history, start=1):
            order = monitor_order(member["monitor_name"])
            rank = tuple((-1 if m in ("loss", "log_loss") else 1) * values[f"validation_{m}"] for m in order)
            if best_rank is None or rank > best_rank:
                best, best_rank = epoch, rank
        # The lead's epoch is on record twice.
        chosen = fitted.best_epoch if history == fitted.history else int(member["best_epoch"])
        wrong = best != chosen
        out.add(len(history), int(wrong), [f"model: epoch {chosen} was kept, the history says {best}"] * wrong)
        if 1 <= chosen <= len(history):
            out.merge(_measured_again(full, fitted, i, history[chosen - 1], chosen))
    return verdict_of(out, epochs=epochs)


def _measured_again(full: PipelineRun, fitted: Fitted, i: int, kept: dict[str, Any], epoch: int) -> Comparison:
    """The stored weights of network i, as validation saw them, on the rows it was stopped on."""
    out, model = Comparison(), fitted.validated
    rows, table = production.members(full, "validation")
    stopping = oracle_stopping(table["ticker"], full.config.recipe.stopping_frac)
    table = table[stopping]
    use = {"context": full.context is not None}
    data = candidate.rows_for(production.tables(full), rows[stopping], table, fitted.scaler, **use).sequences()
    # In double precision, as training measures: rounded, close scores of a weak model tie and change their ranks.
    network = model.member(i) if isinstance(model, Ensemble) else model
    logits = prediction.predict_logits(network, data, precision=full.config.training.precision)
    p = torch.softmax(logits.double(), dim=-1).numpy()
    is_k4 = table["outcome_class"].to_numpy(dtype=np.int64) == K4
    measured = {"validation_k4_count": float(is_k4.sum())}
    if is_k4.any():
        budget = full.config.training.budget_frac
        measured["validation_k4_average_precision"] = average_precision(p[:, 4], is_k4)
        measured["validation_k4_recall_at_budget"] = k4_recall_in_top(p[:, 4], is_k4, budget)
    for key, value in measured.items():
        stored = kept.get(key)
        off = stored is None or not abs(float(stored) - value) <= 1e-3 * max(1.0, abs(value))
        text = f"model: epoch {epoch} records {key} {stored}, the stored weights give {value:.6g} on validation"
        out.add(int(stopping.sum()), int(off), [text + "; it was measured on other rows"] * off)
    return out


@check(
    "fitted",
    proves="The calibrator is reproduced from the stored weights' scores of the validation rows and their labels.",
    misses="Validation rows that are wrong themselves.",
    needs=("split", "fitted"),
    corruptions=(_nudged_calibrator,),
)
def the_calibrator_comes_from_validation_rows_alone(context: AuditContext) -> Verdict:
    """Score the validation rows and fit again."""
    full, fitted, out = context.full, context.full.need_fitted(), Comparison()
    reduced = dataclasses.replace(permitted_only(full), fitted=fitted)
    rows, table = production.members(reduced, "validation")
    held = oracle_calibration(table["ticker"], full.config.recipe.stopping_frac)
    table, use = table[held].reset_index(drop=True), {"context": full.context is not None}
    data = candidate.rows_for(production.tables(reduced), rows[held], table, fitted.scaler, **use).sequences()
    p = prediction.predict_probabilities(fitted.validated, data)
    labels = table.merge(
        full.labeled[[*KEYS, "outcome_class"]], on=KEYS, how="left", validate="1:1", suffixes=("", "_own")
    )
    y = labels["outcome_class_own"].to_numpy(dtype=np.int64)
    again = calibration.fit_calibrator(p, y, keys=table[KEYS], method=full.config.recipe.calibration)
    for array in ("scale", "bias"):
        a, b = getattr(fitted.calibrator, array), getattr(again, array)
        wrong = np.flatnonzero(a != b)
        lines = (f"calibrator: {array} of K{c} is {shown(a[c])}, from validation rows {shown(b[c])}" for c in wrong)
        out.add(len(a), len(wrong), lines)
    for key in ("rows", "keys_hash", "class_counts", "first_snapshot", "last_snapshot"):
        a, b = fitted.calibrator.meta.get(key), again.meta[key]
        out.add(1, int(a != b), [f"calibrator: it records {key} {a}, the validation rows have {b}"] * (a != b))
    return verdict_of(out, rows=len(y))


def _train_end(full: PipelineRun) -> pd.Timestamp:
    """Labels known before this day may be trained on, before validation chooses."""
    split = full.config.split
    start = pd.Timestamp(str(full.as_of)) - pd.DateOffset(months=split.validation_months)
    return start - pd.Timedelta(days=split.embargo_days)


def _wrong_record(context: AuditContext) -> AuditContext:
    fitted = context.full.need_fitted()
    record = {k: dict(v) for k, v in fitted.record.items()}
    record["train"]["rows"] += 1
    return _fitted_with(context, record=record)


def _wrong_counts(context: AuditContext) -> AuditContext:
    counts = list(context.full.need_fitted().class_counts)
    counts[0] += 5
    return _fitted_with(context, class_counts=counts)


@check(
    "fitted",
    proves="The rows that scaler, model and calibrator say they saw (number, keys, classes, dates) are the train and "
    "validation rows of the split, each once, and every label among them was known before as_of.",
    misses="A record that lies consistently; the refits look at what was really used.",
    needs=("split", "fitted"),
    corruptions=(_wrong_record, _wrong_counts),
)
def what_was_seen_is_what_was_permitted(context: AuditContext) -> Verdict:
    """Compare every record of seen rows with the split."""
    full, fitted, out = context.full, context.full.need_fitted(), Comparison()
    as_of = pd.Timestamp(str(full.as_of))

    def expect(what: str, a: Any, b: Any) -> None:
        out.add(1, int(a != b), [f"{what}: recorded {a}, the split has {b}; other rows were used"] * (a != b))

    allowed = permitted_only(full)
    assert allowed.split is not None
    members = {m: full.split[full.split["split"] == m] for m in ("train", "validation")}  # type: ignore[index]
    if full.config.recipe.refit and "refit" in fitted.record:
        known = allowed.split["outcome_class"].notna() & (allowed.split["label_end_date"] < as_of)
        members["refit"] = allowed.split[known]
    for member, rows in members.items():
        seen = fitted.record.get(member)
        if seen is None:
            out.add(1, 1, [f"model: nothing is recorded of the {member} rows it saw"])
            continue
        for key, value in production.seen(rows).items():
            expect(f"model, {member} {key}", seen.get(key), value)
        late = not pd.Timestamp(seen["last_label_end"]) < as_of
        out.add(
            1, int(late), [f"model: a {member} label ends {seen['last_label_end']}, not before {as_of.date()}"] * late
        )
    for member, day in (("windows", _train_end(full)), ("refit windows", as_of)):
        seen = fitted.record.get(member)
        if seen is not None:
            late = not pd.Timestamp(seen["last_label_end"]) < day
            text = f"model: a label of the {member} ends {seen['last_label_end']}, not before {day.date()}"
            out.add(1, int(late), [text] * late)
    train = full.split[full.split["split"] == "train"]  # type: ignore[index]
    counts = np.bincount(train["outcome_class"].dropna().to_numpy(dtype=np.int64), minlength=N_CLASSES).tolist()
    expect("model: train classes", list(fitted.class_counts), counts)
    expect("scaler: rows", fitted.scaler.meta.get("rows"), len(train))
    expect("scaler: keys", fitted.scaler.meta.get("keys_hash"), keys_hash(train))
    expect("model: as_of", fitted.as_of, str(full.as_of))
    return verdict_of(out)
