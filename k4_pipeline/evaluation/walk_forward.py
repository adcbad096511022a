"""All as-of dates of a walk-forward backtest in one table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from k4_pipeline.config import KEYS, IntegrityConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.evaluation import validation
from k4_pipeline.evaluation.metrics import evaluate

# Column of the table -> (metric family of a report, metric name).
METRICS = {
    "k4_auc": ("model", "k4_auc"),
    "k4_auc_volatility": ("volatility_20", "k4_auc"),
    "k4_average_precision": ("model", "k4_average_precision"),
    "k4_recall_top_5pct": ("model", "k4_recall_top_5pct"),
    "k4_recall_top_10pct": ("model", "k4_recall_top_10pct"),
    "ev_correlation": ("model", "ev_correlation_pearson"),
}


def walk_forward_table(reports: Sequence[tuple[str, dict[str, Any], bool]]) -> pd.DataFrame:
    """One row per (as_of, report, inputs_current), ascending by as_of; metrics with `_low` and `_high` beside them.

    A metric that is not defined on its rows (no K4 among them, say) is NaN. Raises `BadInputError` without a report.
    """
    if not reports:
        raise BadInputError("no validated as_of yet: materialize validation_report for at least one partition")
    rows = []
    for as_of, report, inputs_current in sorted(reports, key=lambda item: item[0]):
        metrics = report["metrics"]
        row: dict[str, Any] = {"as_of": pd.Timestamp(as_of), "rows": metrics["n"], "k4_rows": metrics["n_k4"]}
        for column, (family, name) in METRICS.items():
            metric = (metrics["model"] if family == "model" else metrics["baselines"][family]).get(name) or {}
            for suffix, key in (("", "value"), ("_low", "low"), ("_high", "high")):
                value = metric.get(key)
                row[column + suffix] = math.nan if value is None else float(value)
        row["integrity_passed"] = bool(all(test["passed"] for test in report["integrity"]))
        row["inputs_current"] = bool(inputs_current)
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.astype({"as_of": "datetime64[us]", "rows": "int64", "k4_rows": "int64"})


def _values(found: dict[str, Any], n: int, n_k4: int) -> dict[str, Any]:
    return {**{name: metric["value"] for name, metric in found.items()}, "n": n, "n_k4": n_k4}


def flat(metrics: dict[str, Any]) -> dict[str, Any]:
    """The dict of `metrics.evaluate` with plain numbers: `model`, `baselines` (by name), `best_possible` where known.

    Each holds every metric as a number, and `n` and `n_k4`. Beside them: `intervals` (method -> metric -> [low, high]),
    `differences` (method -> metric -> value, low, high of model less method), `by_month`, `headline`.
    """
    n, n_k4 = metrics["n"], metrics["n_k4"]
    methods = {"model": metrics["model"], **metrics["baselines"]}
    out: dict[str, Any] = {
        "n": n,
        "n_k4": n_k4,
        "model": _values(metrics["model"], n, n_k4),
        "baselines": {name: _values(found, n, n_k4) for name, found in metrics["baselines"].items()},
    }
    if "best_possible" in metrics:
        methods["best_possible"] = metrics["best_possible"]
        out["best_possible"] = _values(metrics["best_possible"], n, n_k4)
    out["intervals"] = {
        name: {metric: [m["low"], m["high"]] for metric, m in found.items()} for name, found in methods.items()
    }
    out["differences"] = {
        name: {metric: {key: m[key] for key in ("value", "low", "high")} for metric, m in found.items()}
        for name, found in metrics["differences"].items()
    }
    for key in ("headline", "by_month", "value_by_ev", "reliability_k4", "signals", "tiers", "list_stability"):
        out[key] = metrics[key]
    return out


def pooled(parts: Sequence[tuple[str, pd.DataFrame, pd.DataFrame]], config: IntegrityConfig) -> dict[str, Any]:
    """`flat` metrics of the test rows of several reports together: (as_of, scored rows, what the baselines say).

    Where test spans overlap, a row counts once, in the report of the newest as_of that scored it.
    """
    scored = pd.concat([table for _, table, _ in sorted(parts, key=_as_of)], ignore_index=True)
    beside = pd.concat([table for _, _, table in sorted(parts, key=_as_of)], ignore_index=True)
    scored, beside = (t.drop_duplicates(KEYS, keep="last").reset_index(drop=True) for t in (scored, beside))
    methods, rows = validation.methods_of(scored, beside)
    return flat(evaluate(methods, rows, config))


def _as_of(part: tuple[str, pd.DataFrame, pd.DataFrame]) -> str:
    return part[0]
