"""Puts together what the validation report says of one as-of date: metrics, integrity tests, verdicts, provenance.

It computes through `evaluation` and `evaluation.integrity` and returns one JSON-able dict; `report/` only renders it.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import CLASS_NAMES, K4, N_CLASSES, PipelineConfig, to_dict
from k4_pipeline.errors import BadInputError
from k4_pipeline.evaluation import metrics
from k4_pipeline.evaluation.integrity import run_integrity_tests
from k4_pipeline.features.spec import FEATURE_NAMES, MARKET_CHANNELS
from k4_pipeline.verdict import Verdict

KEYS = ["ticker", "start_date", "snapshot_date"]
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


def evaluate_scored(scored: pd.DataFrame, config: PipelineConfig) -> dict[str, Any]:
    """The metrics of the report from its rows (`score_labelled`)."""
    return metrics.evaluate(
        scored["outcome_class"].to_numpy(),
        scored[[f"p_{i}" for i in range(N_CLASSES)]].to_numpy(),
        scored["ev"].to_numpy(),
        scored["volatility"].to_numpy(),
        scored["ticker"].to_numpy(dtype=object),
        scored["signal"].to_numpy(dtype=object),
        config.integrity,
        dates=scored["snapshot_date"].to_numpy(),
    )


def class_table(split: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows, K4 count and class shares of every member of the split."""
    rows = []
    for name in ("train", "validation", "test"):
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
    leak_demo: dict[str, Any] | None = None,
    code: dict[str, str] | None = None,
    sections: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The whole content of one validation report.

    `model`: facts of the checkpoint (architecture, parameters, history, calibration ...); `data`: facts of the bars;
    `provenance`: fingerprints by asset; `code`: what made each of them, in words; `leak_demo`: the section of
    `leakage.controls.report_demo`; `sections`: those of `evaluation.value`.
    Raises `BadInputError` when no test row has a known label yet.
    """
    scored = score_labelled(predictions, labeled, sequences, panel_values)
    if scored.empty:
        raise BadInputError(
            f"as_of {as_of}: none of the {len(predictions)} test snapshots has a known label yet; choose an earlier "
            "as_of or wait until the label horizon has passed"
        )
    metrics_of_test = evaluate_scored(scored, config)
    tests = run_integrity_tests(
        split, pd.Timestamp(as_of), scored, metrics_of_test, config.integrity, audit_passed=audit_passed
    )
    return {
        "as_of": as_of,
        "data": data,
        "classes": class_table(split),
        "model": model,
        "metrics": metrics_of_test,
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
