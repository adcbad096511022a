"""Every stored table made again, from the stored tables it names, by the stages of the pipeline and as asked for.

An asset is load, one domain call, store. Whatever an asset body, a reader of inputs or the store adds to that shows
here; what the domain calls themselves do is proved by the replays and the oracles.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS
from k4_pipeline.evaluation import validation, value
from k4_pipeline.features import compute, context as features_context
from k4_pipeline.features.context import CONTEXT_NAMES
from k4_pipeline.features.spec import MARKET_NAMES
from k4_pipeline.leakage.checks.replay_at_cutoffs import LABELS
from k4_pipeline.leakage.checks.report_checks import volatility
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison, compare_arrays, compare_tables
from k4_pipeline.leakage.engine.corruptions import (
    corrupt_context,
    corrupt_label,
    corrupt_panel,
    corrupt_prediction,
    corrupt_sequence,
    corrupt_snapshot,
    corrupt_window,
    drop_snapshot,
)
from k4_pipeline.leakage.oracles import baselines as oracle
from k4_pipeline.leakage.oracles.report import class_rows
from k4_pipeline.patterns import snapshots
from k4_pipeline.pipeline import baselines, stages as production, training_windows
from k4_pipeline.pipeline.fit import PREDICTED_KEYS
from k4_pipeline.pipeline.report_reasons import with_reasons
from k4_pipeline.sequences import windows
from k4_pipeline.sequences.assemble import END, N_VALID
from k4_pipeline.sequences.model_inputs import assemble_scale_free
from k4_pipeline.splits import walk_forward
from k4_pipeline.verdict import Verdict

# With another number of threads a recurrent network rounds otherwise; all else has the same bits.
SEQUENCE_BASELINE, ROUNDING_OF_SEQUENCES = "bilstm", 1e-4
ROUNDING_OF_FITS = 1e-7  # of trees and logits fitted by the second implementation
WHEN, CAUSE = "made again", "the asset stored something else than its stage of the pipeline gives"


def _other_weight(context: AuditContext) -> AuditContext:
    assert context.full.split is not None
    split = context.full.split.copy()
    split.loc[split.index[-1], "weight"] += 1e-12
    return context.with_full(split=split)


def _table(name: str, stored: pd.DataFrame, again: pd.DataFrame) -> Comparison:
    columns = [c for c in {**dict.fromkeys(stored.columns), **dict.fromkeys(again.columns)} if c not in KEYS]
    return compare_tables(name, stored, again, KEYS, columns, when=WHEN, cause=CAUSE)


@check(
    "stored",
    proves="Features, context, snapshots, labels, training windows, sequences, split and predictions are reproduced to "
    "the bit, in every column and row, from the stored tables they name and the settings asked for; test rows are "
    "scored without their classes.",
    misses="What the stages themselves do (replays and oracles).",
    needs=("split", "fitted", "predictions"),
    corruptions=(
        corrupt_panel,
        corrupt_snapshot,
        drop_snapshot,
        corrupt_label,
        corrupt_sequence,
        corrupt_prediction,
        _other_weight,
        corrupt_context,
        corrupt_window,
    ),
)
def stored_tables_are_those_the_stages_make(context: AuditContext) -> Verdict:
    """Run every stage on the stored inputs of its asset."""
    full, config, out = context.full, context.config, Comparison()
    panel = compute.compute_market_features(full.bars)
    keys = full.bars.to_frame()[["ticker", "date"]]
    columns = ("ticker", "date")
    stored = np.asarray(full.panel)
    arrays = ("market_features", keys, stored, panel, MARKET_NAMES)
    out.merge(compare_arrays(*arrays, when=WHEN, cause=CAUSE, key_columns=columns))
    if full.given is None:
        out.merge(_table("snapshots", full.snapshots, snapshots.make_snapshots(full.bars, config.patterns)))
    if not context.extra.get("labels_of_file"):
        again = production.label(full.bars, full.snapshots, config)
        out.merge(_table("labeled_snapshots", full.labeled, again[list(full.labeled.columns)]))
        missing = set(again.columns) - set(full.labeled.columns)
        out.add(1, len(missing), [f"labeled_snapshots lack {', '.join(sorted(missing))}"] * bool(missing))
    out.merge(_table("sequences", full.sequences, windows.index_sequences(full.bars, full.snapshots)))
    split, manifest = walk_forward.split_snapshots(full.labeled, str(full.as_of), config.split)
    assert full.split is not None
    out.merge(_table("dataset_split", full.split, split))
    if full.manifest is not None:
        stored_text, text = full.manifest.to_json(), manifest.to_json()
        out.add(
            1,
            int(stored_text != text),
            ["dataset_split: the manifest is not that of the split"] * (stored_text != text),
        )
    if full.context is not None:
        again = features_context.compute_context(full.bars)
        pair = (keys, np.asarray(full.context), again, CONTEXT_NAMES)
        out.merge(compare_arrays("context_features", *pair, when=WHEN, cause=CAUSE, key_columns=columns))
    if full.windows is not None:
        again = training_windows.index_windows(full.bars, config)
        out.merge(_table("training_windows", full.windows, again[list(full.windows.columns)]))
    # Of a test row no more is handed in than its name: no class can have moved its score.
    rows, table = production.members(full, "test")
    made = production.predict(full, table[PREDICTED_KEYS], rows, full.need_fitted())
    assert full.predictions is not None
    out.merge(_table("predictions", full.predictions, made))
    return verdict_of(out, labels=len(LABELS))


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every number, word and truth value of a JSON document by its path."""
    if isinstance(value, dict):
        return {k: v for name, part in value.items() for k, v in _leaves(part, f"{path}.{name}").items()}
    if isinstance(value, (list, tuple)):
        return {k: v for i, part in enumerate(value) for k, v in _leaves(part, f"{path}[{i}]").items()}
    if isinstance(value, (float, np.floating)) and not np.isfinite(value):
        return {path: None}
    return {path: value}


def _report_of(context: AuditContext) -> dict[str, Any]:
    stored = context.extra.get("report")
    if stored is None:
        stored = json.loads(context.extra["refs"]["validation_report"].path("report.json").read_text())
    return stored


def without_outcomes(table: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """The table with nothing known of what became of `rows` (n,) bool."""
    out = table.copy()
    out.loc[rows, "outcome_class"] = pd.NA
    out.loc[rows, "label_end_date"] = pd.NaT
    return out


def sequence_baseline_again(context: AuditContext) -> pd.DataFrame:
    """What the network among the baselines (and, on a simulated market, the truth) says of the test rows, made in a
    world in which no outcome of a test row is known."""
    full = context.full
    assert full.split is not None
    test = full.split["split"].to_numpy() == "test"
    tested = pd.MultiIndex.from_frame(full.labeled[KEYS]).isin(pd.MultiIndex.from_frame(full.split.loc[test, KEYS]))
    blind = dataclasses.replace(full, split=without_outcomes(full.split, test), _cache={})
    labeled, scaler = without_outcomes(full.labeled, tested), full.need_fitted().scaler
    where = production.tables(blind), scaler, context.config, full.bars, labeled
    return baselines.baseline_table(*where, context=full.context, names=(SEQUENCE_BASELINE,))


def _features(context: AuditContext, rows: np.ndarray) -> np.ndarray:
    """The last bar's model inputs before scaling, and the context of that bar: (n, 69 + k), NaN where unavailable."""
    full = context.full
    assert full.context is not None
    index, parts = production.tables(full).index, []
    for start in range(0, len(rows), 2048):
        some = index.take(rows[start : start + 2048])
        some.rows[:, N_VALID] = 1
        x = assemble_scale_free(full.panel, some, np.arange(len(some)))[0][:, -1]
        parts.append(np.where(np.isfinite(x), x, np.float32(np.nan)))
    return np.concatenate([np.concatenate(parts), full.context[index.rows[rows, END]]], axis=1)


def other_baselines_again(context: AuditContext) -> pd.DataFrame:
    """What the others say, by the second implementation, from the rows of train and validation alone."""
    full = context.full
    assert full.split is not None
    places = full.sequences[KEYS].assign(_row=np.arange(len(full.sequences)))
    placed = full.split.merge(places, on=KEYS, how="inner", validate="1:1").sort_values("_row")
    member = {name: placed[placed["split"] == name] for name in ("train", "validation", "test")}
    known, wanted = pd.concat([member["train"], member["validation"]]), member["test"]
    y = known["outcome_class"].to_numpy(dtype=np.int64)
    x, x_wanted = (_features(context, t["_row"].to_numpy()) for t in (known, wanted))
    of_bars = {n: [volatility(full.bars, t, n) for t in (known, wanted)] for n in (20, 250)}
    said = {
        "class_mix": oracle.class_mix(y, len(wanted)),
        **{f"volatility_{n}": oracle.by_volatility(a, y, b) for n, (a, b) in of_bars.items()},
        "logit": oracle.logit(x, y, x_wanted, 0.01),
        "gradient_boosting": oracle.trees(x, y, x_wanted),
    }
    out: dict[str, Any] = {}
    for name, (score, p) in said.items():
        out |= {f"{name}__score": score} | {f"{name}__p_{c}": p[:, c] for c in range(6)}
    return wanted[KEYS].reset_index(drop=True).assign(**out)


def report_again(context: AuditContext, stored: dict[str, Any], beside: pd.DataFrame) -> dict[str, Any]:
    """The parts of the report that follow from stored tables, computed from them; `beside`: the baselines."""
    full = context.full
    assert full.predictions is not None
    assert full.split is not None
    scored = validation.score_labelled(full.predictions, full.labeled, full.sequences, full.panel)
    metrics = validation.evaluate_scored(scored, context.config, beside)
    rows = value.test_rows(full.predictions, full.labeled, full.sequences, full.panel)
    sections = value.value_sections(rows, full.bars, context.config)
    fitted = full.need_fitted()
    sections["top_signals"] = with_reasons(
        sections["top_signals"], fitted.model, fitted.scaler, context.extra["reference"], production.tables(full)
    )
    tests = validation.run_integrity_tests(
        full.split,
        pd.Timestamp(str(full.as_of)),
        scored,
        metrics,
        context.config.integrity,
        audit_passed=stored.get("audit_passed"),
    )
    dates = full.bars.to_frame()["date"]
    data: dict[str, Any] = {"bars": len(full.bars), "tickers": full.bars.n_tickers}
    data |= {"bars_from": str(dates.min().date()), "bars_to": str(dates.max().date())}
    data["rejected_rows"] = len(full.rejects) if full.rejects is not None else 0
    return {
        "as_of": full.as_of,
        "classes": class_rows(full.split),
        "metrics": metrics,
        "integrity": [test.to_dict() for test in tests],
        "unlabelled_test_rows": len(full.predictions) - len(scored),
        "data": data,
        **sections,
    }


def _other_number(context: AuditContext) -> AuditContext:
    report = json.loads(json.dumps(_report_of(context)))
    report["metrics"]["model"]["brier"]["value"] += 1e-9
    return dataclasses.replace(context, extra={**context.extra, "report": report})


def _other_baseline(name: str, by: float) -> Callable[[AuditContext], AuditContext]:
    """One probability of one test row moved by little more than is tolerated."""

    def corrupt(context: AuditContext) -> AuditContext:
        table = context.extra["baselines"].copy()
        table.loc[table.index[-1], f"{name}__p_4"] += by
        return dataclasses.replace(context, extra={**context.extra, "baselines": table})

    corrupt.__name__ = f"another_{name}"
    return corrupt


def _a_baseline_less(context: AuditContext) -> AuditContext:
    table = context.extra["baselines"]
    gone = [c for c in table.columns if c.startswith("gradient_boosting__")]
    return dataclasses.replace(context, extra={**context.extra, "baselines": table.drop(columns=gone)})


def _other_share(context: AuditContext) -> AuditContext:
    report = json.loads(json.dumps(_report_of(context)))
    report["classes"][-1]["rows"] += 1
    return dataclasses.replace(context, extra={**context.extra, "report": report})


@check(
    "report",
    proves="Every number of report.json about data, classes, metrics, baselines and integrity tests is reproduced to "
    "the last digit from the stored tables; every baseline was fitted, as documented, on all rows known at as_of: a "
    "second implementation gives the same, and the network gives it again where no outcome of a test row is known.",
    misses="The arithmetic of the metrics (a second implementation recomputes those).",
    needs=("stored", "split", "fitted", "predictions", "metrics"),
    corruptions=(
        _other_number,
        _other_share,
        _a_baseline_less,
        _other_baseline(SEQUENCE_BASELINE, 2 * ROUNDING_OF_SEQUENCES),
        *(_other_baseline(n, 2 * ROUNDING_OF_FITS) for n in ("class_mix", "volatility_20", "volatility_250")),
        *(_other_baseline(n, 2 * ROUNDING_OF_FITS) for n in ("logit", "gradient_boosting")),
    ),
)
def every_number_of_the_report_comes_from_the_stored_tables(context: AuditContext) -> Verdict:
    """Compute the report again and compare leaf by leaf."""
    stored, out = _report_of(context), Comparison()
    kept = context.extra["baselines"]
    network = context.once(("network",), lambda: sequence_baseline_again(context), context.full.split, context.config)
    others = context.once(("others",), lambda: other_baselines_again(context), context.full.split, context.config)
    rest = [c for c in network.columns if c not in KEYS and SEQUENCE_BASELINE not in c]
    when, cause = "made again without test outcomes", "a baseline was fitted on other rows, or is another one"
    out.merge(compare_tables("baselines", kept, network, KEYS, rest, when=when, cause=cause))
    unread = [c for c in kept.columns if c not in {*KEYS, *network.columns, *others.columns}]
    out.add(1, len(unread), [f"baselines: no second reading has {', '.join(unread)}"] * bool(unread))
    for again, tolerance in ((others, ROUNDING_OF_FITS), (network, ROUNDING_OF_SEQUENCES)):
        joined = kept[KEYS].merge(again, on=KEYS, how="left")
        for column in (c for c in again.columns if "__" in c and c not in rest):
            mine = kept[column].to_numpy() if column in kept else np.full(len(kept), np.nan)
            apart = np.abs(mine - joined[column].to_numpy())
            off = ~(apart <= tolerance)
            text = f"baselines: {column} differs by up to {apart.max():.3g}, {when}; {cause}"
            out.add(len(off), int(off.sum()), [text] * bool(off.any()))
    if out.findings:  # the report is that of other baselines
        return verdict_of(out)
    for part, content in report_again(context, stored, kept).items():
        known = _leaves(stored.get(part), part)
        again = _leaves(json.loads(json.dumps(content, default=float)), part)
        for path in sorted({*known, *again}):
            wrong = known.get(path) != again.get(path)
            text = f"report.json: {path} is {known.get(path)}, the stored tables give {again.get(path)}"
            out.add(1, int(wrong), [text] * wrong)
    return verdict_of(out)
