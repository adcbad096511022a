"""Puts together what the validation report says of one as-of date: metrics, integrity tests, verdicts, provenance.

It computes through `evaluation` and `evaluation.integrity` and returns one JSON-able dict; `report/` only renders it.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import CLASS_NAMES, K4, KEYS, N_CLASSES, SPLIT_NAMES, PipelineConfig, to_dict
from k4_pipeline.errors import BadInputError
from k4_pipeline.evaluation import metrics, tiers
from k4_pipeline.evaluation.integrity import TOO_LITTLE, run_integrity_tests
from k4_pipeline.evaluation.predict_table import CERTIFIED_SCORE
from k4_pipeline.evaluation.scores import MODEL, Rows, Scores, model_scores, scores_in
from k4_pipeline.evaluation.tables import by_label
from k4_pipeline.features.spec import FEATURE_NAMES, MARKET_CHANNELS
from k4_pipeline.verdict import Verdict

LIBRARIES = ("numpy", "pandas", "pyarrow", "numba", "scikit-learn", "torch", "dagster", "k4-pipeline")


def volatility_at_snapshot(sequences: pd.DataFrame, panel_values: np.ndarray) -> pd.DataFrame:
    """Keys plus `volatility`: the channel daily_volatility at each snapshot's own bar, the baseline ranking."""
    channels = [FEATURE_NAMES[i] for i in MARKET_CHANNELS]
    column = channels.index("daily_volatility")
    values = panel_values[sequences["end_row"].to_numpy(), column]
    return sequences[KEYS].assign(volatility=values.astype(np.float64))


def score_labelled(
    predictions: pd.DataFrame, labeled: pd.DataFrame, sequences: pd.DataFrame, panel_values: np.ndarray
) -> pd.DataFrame:
    """Predictions of test rows whose label is known by now, with `outcome_class` (int64) and `volatility`."""
    test = predictions[predictions["split"] == "test"]
    joined = test.merge(labeled[[*KEYS, "outcome_class", "label_end_date"]], on=KEYS, how="left", validate="1:1")
    joined = joined.merge(volatility_at_snapshot(sequences, panel_values), on=KEYS, how="left", validate="1:1")
    scored = joined[joined["outcome_class"].notna()].reset_index(drop=True)
    return scored.astype({"outcome_class": np.int64})


def evaluate_scored(scored: pd.DataFrame, config: PipelineConfig, beside: pd.DataFrame | None = None) -> dict[str, Any]:
    """The metrics of the report from its rows (`score_labelled`).

    `beside`: the table of `pipeline.baselines.baseline_table`, which holds what every other method says of these rows;
    without it the model is compared with 20-day volatility alone.
    """
    methods, rows = methods_of(scored, beside)
    return metrics.evaluate(methods, rows, config.integrity)


def methods_of(scored: pd.DataFrame, beside: pd.DataFrame | None = None) -> tuple[dict[str, Scores], Rows]:
    """The model and every other method on the rows of `scored`, and what is known of those rows."""
    methods = {MODEL: model_scores(scored)}
    twenty = np.nan_to_num(scored["volatility"].to_numpy(np.float64), nan=-1.0)
    if beside is None:
        methods["volatility_20"] = Scores(twenty, None, twenty)
        return methods, Rows.of(scored)
    joined = scored[KEYS].merge(beside, on=KEYS, how="left", validate="1:1")
    found = scores_in(joined)
    missing = [name for name, scores in found.items() if not np.isfinite(scores.k4).all()]
    if missing:
        raise BadInputError(f"baselines have no score for some test rows: {', '.join(missing)}; make the report again")
    # The ranking is that of the stored channel, which the audit recomputes from bars.
    found["volatility_20"] = replace(found["volatility_20"], k4=twenty)
    return methods | found, Rows.of(scored.assign(volatility_60=joined["volatility_60"].to_numpy()))


def certified(scored: pd.DataFrame, found: tiers.Certificates) -> dict[str, Any]:
    """`certificate` (what was certified, or why nothing) `tiers` (every promise beside what the test rows did) and
    `tier_values` (what the rows of each tier were worth)."""
    checked = tiers.checked_on_test(found, scored, scored[CERTIFIED_SCORE].to_numpy()) if found.tiers else []
    values = by_label(scored["tier"].to_numpy(), scored["outcome_class"].to_numpy())
    return {"certificate": found.to_dict(), "tiers": checked, "tier_values": values}


def class_table(split: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows, K4 count and class shares of every member of the split."""
    rows = []
    for name in SPLIT_NAMES:
        part = split[split["split"] == name]
        known = part["outcome_class"].dropna().astype(np.int64)
        counts = np.bincount(known, minlength=N_CLASSES)
        rows.append(
            {
                "split": name,
                "rows": len(part),
                "labelled": len(known),
                "first": str(part["snapshot_date"].min().date()) if len(part) else "",
                "last": str(part["snapshot_date"].max().date()) if len(part) else "",
                "k4": int(counts[K4]),
                "shares": {c: float(n / max(len(known), 1)) for c, n in zip(CLASS_NAMES, counts)},
            }
        )
    return rows


def library_versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def build_validation(
    *,
    as_of: str,
    predictions: pd.DataFrame,
    labeled: pd.DataFrame,
    split: pd.DataFrame,
    sequences: pd.DataFrame,
    panel_values: np.ndarray,
    config: PipelineConfig,
    verdicts: list[Verdict],
    audit_passed: bool | None,
    model: dict[str, Any],
    data: dict[str, Any],
    provenance: dict[str, str],
    beside: pd.DataFrame | None = None,
    leak_demo: dict[str, Any] | None = None,
    code: dict[str, str] | None = None,
    sections: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The whole content of one validation report.

    `model`: facts of the checkpoint (architecture, parameters, history, calibration ...); `data`: facts of the bars;
    `beside`: what every baseline says of the test rows (`pipeline.baselines`); `provenance`: fingerprints by asset;
    `code`: what made each of them, in words; `leak_demo`: the section of `leakage.controls.report_demo`; `sections`:
    those of `evaluation.value`. Raises `BadInputError` when no test row has a known label yet.
    """
    scored = score_labelled(predictions, labeled, sequences, panel_values)
    if scored.empty:
        raise BadInputError(
            f"as_of {as_of}: none of the {len(predictions)} test snapshots has a known label yet; choose an earlier "
            "as_of or wait until the label horizon has passed"
        )
    metrics_of_test = evaluate_scored(scored, config, beside)
    tests = run_integrity_tests(
        split, pd.Timestamp(as_of), scored, metrics_of_test, config.integrity, audit_passed=audit_passed
    )
    return {
        "as_of": as_of,
        "data": data,
        "classes": class_table(split),
        "model": model,
        "metrics": metrics_of_test,
        **certified(scored, tiers.Certificates.from_dict(model["certificate"])),
        "not_enough_evidence": [t.name for t in tests if t.status == TOO_LITTLE],
        "unlabelled_test_rows": int(len(predictions) - len(scored)),
        "integrity": [t.to_dict() for t in tests],
        "verdicts": [v.to_dict() for v in verdicts],
        "audit_passed": audit_passed,
        "passed": bool(all(t.passed for t in tests) and verdicts and all(v.holds for v in verdicts)),
        "provenance": provenance,
        "code": code or {},
        "leak_demo": leak_demo or {},
        **(sections or {}),
        "config": to_dict(config),
        "versions": library_versions(),
    }
