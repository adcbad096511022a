"""Checks of predictions: for whom, by which model, row by row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from k4_pipeline.config import CLASS_VALUES, KEYS, N_CLASSES
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison, compare_tables, key_text, shown
from k4_pipeline.leakage.oracles.inputs import InputOracle
from k4_pipeline.leakage.oracles.signals import signal_of
from k4_pipeline.market.bars import to_days
from k4_pipeline.pipeline import stages as production
from k4_pipeline.verdict import Verdict

RAW = [f"p_raw_{i}" for i in range(N_CLASSES)]
CALIBRATED = [f"p_{i}" for i in range(N_CLASSES)]
NUMBERS = [*RAW, *CALIBRATED, "ev_raw", "ev", "signal", "p_k4_certified", "tier"]
KEY_COLUMNS = ["ticker", "pattern_id", "start_date", "snapshot_date", "split"]


def _one_missing(context: AuditContext) -> AuditContext:
    return context.with_full(predictions=context.full.predictions.iloc[1:].reset_index(drop=True))  # type: ignore[union-attr]


def _model_of_tomorrow(context: AuditContext) -> AuditContext:
    fitted = context.full.need_fitted()
    record = {k: {**v, "last_label_end": "2999-01-01"} for k, v in fitted.record.items()}
    return context.with_full(fitted=dataclasses.replace(fitted, record=record))


def _other_values(context: AuditContext) -> AuditContext:
    made = context.full.predictions.copy()  # type: ignore[union-attr]
    made["p_raw_4"] = made["p_raw_4"] * 0.999
    return context.with_full(predictions=made)


def _one_other_row(context: AuditContext) -> AuditContext:
    """The last of the rows that are scored in other company, by one unit in the last place."""
    made = context.full.predictions.copy()  # type: ignore[union-attr]
    rows, table = production.members(context.full, "test")
    some = np.sort(context.rng(9).choice(len(rows), min(len(rows), 200), replace=False))
    key = table[KEYS].iloc[some[-1]]
    at = made.index[(made[KEYS] == key).all(axis=1)]
    made.loc[at, "p_raw_0"] = np.nextafter(made.loc[at, "p_raw_0"], np.inf)
    return context.with_full(predictions=made)


def _other_signal(context: AuditContext) -> AuditContext:
    made = context.full.predictions.copy()  # type: ignore[union-attr]
    made["signal"] = made["signal"].where(made.index > 0, "STRONG" if made["signal"].iloc[0] != "STRONG" else "AVOID")
    return context.with_full(predictions=made)


def _nudged(column: str, amount: float) -> Callable[[AuditContext], AuditContext]:
    """One number of one row changed by little more than is tolerated."""

    def corrupt(context: AuditContext) -> AuditContext:
        made = context.full.predictions.copy()  # type: ignore[union-attr]
        made.loc[made.index[-1], column] += amount
        return context.with_full(predictions=made)

    corrupt.__name__ = f"{column}_by_{amount:g}"
    return corrupt


def sampled_rows(context: AuditContext) -> np.ndarray:
    """Row numbers of the predictions that are scored by hand, ascending."""
    n = len(context.full.predictions)  # type: ignore[arg-type]
    count = min(n, 64, context.sample.input_rows or 64)
    return np.sort(context.rng(10).choice(n, count, replace=False))


def _other_model(context: AuditContext) -> AuditContext:
    """Another model's score in the last of the sampled rows, with everything that follows from it."""
    made, fitted = context.full.predictions.copy(), context.full.need_fitted()  # type: ignore[union-attr]
    at = made.index[sampled_rows(context)[-1]]
    raw = made.loc[at, RAW].to_numpy(dtype=np.float64).copy()
    raw[int(raw.argmax())] *= 1.03
    raw /= raw.sum()
    p = fitted.calibrator.transform(raw[None])[0]
    made.loc[at, RAW], made.loc[at, CALIBRATED] = raw, p
    made.loc[at, "ev"], made.loc[at, "ev_raw"] = p @ np.array(CLASS_VALUES), raw @ np.array(CLASS_VALUES)
    return context.with_full(predictions=made)


@check(
    "predictions",
    proves="The predictions are the test rows of the split, each once, none dated before as_of; the model's train and "
    "validation labels all end before as_of.",
    misses="What the scores are (the other prediction checks).",
    needs=("split", "fitted", "predictions"),
    corruptions=(_one_missing, _model_of_tomorrow),
)
def predictions_are_for_later_rows_only(context: AuditContext) -> Verdict:
    """Rows, dates and the age of the model."""
    full, fitted, out = context.full, context.full.need_fitted(), Comparison()
    assert full.predictions is not None
    assert full.split is not None
    as_of = pd.Timestamp(str(full.as_of))
    test = full.split[full.split["split"] == "test"].reset_index(drop=True)
    out.merge(
        compare_tables(
            "predictions",
            full.predictions,
            test,
            KEYS,
            ["pattern_id", "split"],
            when="from the split",
            cause="rows of another member are scored, or test rows are left out",
        )
    )
    early = full.predictions["snapshot_date"] < as_of
    out.add(
        len(early),
        int(early.sum()),
        (
            f"predictions: {key_text(r, KEYS)} lies before as_of {as_of.date()}"
            for _, r in full.predictions[early].head(5).iterrows()
        ),
    )
    first = full.predictions["snapshot_date"].min()
    for member in ("train", "validation"):
        end = pd.Timestamp(fitted.record.get(member, {}).get("last_label_end", "2999-01-01"))
        late = not (end < as_of and end < first)
        text = (
            f"model: its last {member} label ends {shown(end)}; as_of is {as_of.date()}, the first prediction "
            f"{shown(first)}"
        )
        out.add(1, int(late), [text + "; it was trained after what it predicts"] * late)
    return Verdict.of("predictions_are_for_later_rows_only", out.cases, out.findings, rows=len(full.predictions))


@check(
    "predictions",
    proves="A row's prediction has the same bits alone, in reverse order and among other rows.",
    misses="A dependence on the batch during training, which is how training works.",
    needs=("split", "fitted", "predictions"),
    corruptions=(_other_values, _one_other_row),
)
def predictions_do_not_depend_on_their_batch(context: AuditContext) -> Verdict:
    """Score sampled test rows in other company."""
    full, fitted, out = context.full, context.full.need_fitted(), Comparison()
    rows, table = production.members(full, "test")
    assert full.predictions is not None
    stored = table[KEYS].merge(full.predictions, on=KEYS, how="left", validate="1:1")
    rng = context.rng(9)
    n = len(rows)
    some = np.sort(rng.choice(n, min(n, 200), replace=False))
    company = rng.choice(len(full.sequences), 40)
    everyone = table[KEY_COLUMNS]
    ways: list[tuple[str, np.ndarray]] = [
        ("in reverse order", some[::-1]),
        *((f"alone ({i})", some[[i]]) for i in (0, len(some) // 2)),
    ]
    for what, chosen in ways:
        made = production.predict(full, everyone.iloc[chosen], rows[chosen], fitted)
        known = stored.iloc[chosen].reset_index(drop=True)
        out.merge(
            compare_tables(
                "predictions", known, made, KEYS, NUMBERS, when=what, cause="the row's score depends on its batch"
            )
        )
    # In company: the sampled rows come last, behind rows of other members.
    others = full.sequences.iloc[company][["ticker", "pattern_id", "start_date", "snapshot_date"]].assign(split="test")
    mixed = pd.concat([others, everyone.iloc[some[:60]]], ignore_index=True)
    made = production.predict(full, mixed, np.concatenate([company, rows[some[:60]]]), fitted).iloc[len(company) :]
    out.merge(
        compare_tables(
            "predictions",
            stored.iloc[some[:60]].reset_index(drop=True),
            made.reset_index(drop=True),
            KEYS,
            NUMBERS,
            when="among other rows",
            cause="the row's score depends on its batch",
        )
    )
    return verdict_of(out, rows=len(some))


@check(
    "predictions",
    proves="Sampled scores follow from the stored scaler, weights and calibrator and inputs computed independently; "
    "every expected value and signal follows from its row's own probabilities and the settings.",
    misses="Weights that know the future (the refit checks).",
    needs=("split", "fitted", "predictions"),
    corruptions=(
        _other_values,
        _other_signal,
        _other_model,
        _nudged("ev", 1e-8),
        _nudged("ev_raw", 1e-8),
        _nudged("p_4", 1e-8),
        _nudged("p_0", 1e-8),
    ),
)
def predictions_follow_from_the_stored_model(context: AuditContext) -> Verdict:
    """Score sampled rows by hand."""
    full, fitted, out = context.full, context.full.need_fitted(), Comparison()
    assert full.predictions is not None
    made = full.predictions
    some = sampled_rows(context)
    wanted = made.iloc[some][KEYS].merge(full.snapshots, on=KEYS, how="left", validate="1:1")
    oracle, s = InputOracle(full.bars, full.panel), fitted.scaler
    center, scale = s.center.astype(np.float64), s.scale.astype(np.float64)
    windows = [oracle.canonical(row) for _, row in wanted.iterrows()]
    x = np.stack([oracle.inputs(window, center, scale, s.clip_sigmas) for window in windows])
    mask = np.stack([window[1] for window in windows])
    first = next(fitted.model.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    extra = []
    if full.context is not None:
        ends = full.bars.locate(wanted["ticker"], to_days(wanted["snapshot_date"]))
        extra = [torch.tensor(np.asarray(full.context[ends]), dtype=torch.float32, device=device)]
    with torch.inference_mode():
        logits = fitted.model.eval()(
            torch.tensor(x, dtype=torch.float32, device=device), torch.tensor(mask, device=device), *extra
        )
    e = np.exp(logits.double().cpu().numpy())
    p = e / e.sum(axis=1, keepdims=True)
    stored = made.iloc[some][RAW].to_numpy(dtype=np.float64)
    off = np.abs(stored - p) > 2e-3 * np.maximum(p, 0.01)
    out.add(
        off.size,
        int(off.sum()),
        (
            f"predictions: {key_text(made.iloc[some[i]], KEYS)}: p_raw_{c} is {shown(stored[i, c])}, the stored "
            "model gives "
            f"{shown(p[i, c])}; another model, scaler or input was used"
            for i, c in np.argwhere(off)[:5]
        ),
    )
    raw = made[RAW].to_numpy(dtype=np.float64)
    z = np.log(np.maximum(raw, 1e-7)) * fitted.calibrator.scale + fitted.calibrator.bias
    q = np.exp(z - z.max(axis=1, keepdims=True))
    q /= q.sum(axis=1, keepdims=True)
    own = made[CALIBRATED].to_numpy(dtype=np.float64)
    for column, got, want in (
        *((c, own[:, i], q[:, i]) for i, c in enumerate(CALIBRATED)),
        ("ev", made["ev"].to_numpy(), own @ np.array(CLASS_VALUES)),
        ("ev_raw", made["ev_raw"].to_numpy(), raw @ np.array(CLASS_VALUES)),
    ):
        wrong = ~(np.abs(got - want) <= 1e-9)
        out.add(
            len(got),
            int(wrong.sum()),
            (
                f"predictions: {key_text(made.iloc[i], KEYS)}: {column} is {shown(got[i])}, its own probabilities give "
                f"{shown(want[i])}"
                for i in np.flatnonzero(wrong)[:5]
            ),
        )
    config = context.config.signals
    ev, k5 = own @ np.array(CLASS_VALUES), own[:, 5]
    signal = np.array([signal_of(e, p, config) for e, p in zip(ev.tolist(), k5.tolist())], dtype=object)
    near = (
        np.min(np.abs(ev[:, None] - np.array([0, config.strong_ev, config.good_ev, config.moderate_ev])), axis=1) < 1e-9
    )
    wrong = (made["signal"].to_numpy(dtype=object) != signal) & ~near
    out.add(
        len(signal),
        int(wrong.sum()),
        (
            f"predictions: {key_text(made.iloc[i], KEYS)}: signal {made['signal'].iloc[i]}, the settings give "
            f"{signal[i]}; the "
            "thresholds are others than configured"
            for i in np.flatnonzero(wrong)[:5]
        ),
    )
    return verdict_of(out, rows=len(some), of_rows=len(made))
