"""Every metric, interval of a mean and table of report.json against a second implementation of its definition."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import K4, KEYS
from k4_pipeline.leakage.checks.report_checks import CALIBRATED, nudged_metric, test_rows, times_drawn, volatility
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison
from k4_pipeline.leakage.oracles import report as oracle
from k4_pipeline.verdict import Verdict

RTOL = 1e-9
RTOL_OF_BASELINES = 1e-6
Reading = tuple[str, Any, float]  # what, as stored, computed again


def _table(context: AuditContext) -> pd.DataFrame:
    """The labelled test rows with month, pattern, signal, tier and volatility, in the order of the predictions."""
    full = context.full
    assert full.predictions is not None
    rows = test_rows(context)
    extra = [c for c in ("pattern_id", "signal", "tier") if c in full.predictions]
    rows = rows.merge(full.predictions[[*KEYS, *extra]], on=KEYS, how="left", validate="1:1")
    # Without the other baselines the report holds the volatility of 20 bars fixed.
    rows["volatility_60"] = volatility(full.bars, rows, 20 if context.extra.get("baselines") is None else 60)
    return rows.assign(month=rows["snapshot_date"].dt.to_period("M").astype(str))


def _methods(context: AuditContext, rows: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray | None, np.ndarray]]:
    """name -> (K4 score, probabilities or None, expected value) of the model and of the stored baselines."""
    p = rows[CALIBRATED].to_numpy(dtype=np.float64)
    out: dict[str, Any] = {"model": (p[:, K4], p, rows["ev"].to_numpy(dtype=np.float64))}
    beside = context.extra.get("baselines")
    if beside is None:
        return out
    joined = rows[KEYS].merge(beside, on=KEYS, how="left", validate="1:1")
    for column in (c for c in joined.columns if c.endswith("__score")):
        name = column.removesuffix("__score")
        score = joined[column].to_numpy(dtype=np.float64)
        if f"{name}__p_0" in joined:
            q = joined[[f"{name}__p_{c}" for c in range(6)]].to_numpy(dtype=np.float64)
            out[name] = (score, q, (q * oracle.VALUES).sum(axis=1))
    return out


def readings(context: AuditContext) -> Iterator[tuple[Reading, float]]:
    """Every number with its second reading and the relative difference that rounding may make."""
    metrics: Any = context.full.metrics
    rows, limits = _table(context), context.config.integrity
    y, tickers = rows["outcome_class"].to_numpy(dtype=np.int64), rows["ticker"].astype(str)
    budgets = tuple(limits.budget_fracs)
    times = times_drawn(rows, limits.bootstrap_draws, limits.seed)
    means: dict[str, dict[str, np.ndarray]] = {}
    for name, (score, p, ev) in _methods(context, rows).items():
        held = metrics["model"] if name == "model" else metrics["baselines"].get(name)
        if held is None:
            continue
        tolerance = RTOL if name == "model" else RTOL_OF_BASELINES
        # The volatility ranking of the report is that of the stored channel, in float32: report_checks reads it.
        found = {} if name == "volatility_20" else oracle.ranking(score, rows, budgets)
        found |= oracle.values(ev, rows)
        if p is not None:
            found |= oracle.probabilities(p, ev, y)
            means[name] = oracle.losses(p, y)
        for metric, (value, base) in found.items():
            yield (f"{name}.{metric}", held[metric]["value"], value), tolerance
            yield (f"{name}.{metric}.base_rate", held[metric]["base_rate"], base), tolerance
        yield from _intervals(name, held, means.get(name, {}), times, limits.confidence)
        if name != "model" and p is not None:
            yield from _differences(name, metrics, means, times, limits.confidence)
    yield from ((reading, RTOL) for reading in _tables(metrics, rows, y, max(budgets)))
    yield ("n", metrics["n"], float(len(rows))), 0.0
    yield ("n_k4", metrics["n_k4"], float((y == K4).sum())), 0.0
    yield ("n_tickers", metrics["n_tickers"], float(tickers.nunique())), 0.0
    yield ("mean_realised_value", metrics["mean_realised_value"], float(oracle.VALUES[y].mean())), RTOL
    guess = rows[CALIBRATED].to_numpy().argmax(axis=1)
    for i, line in enumerate(metrics["confusion"]):
        for j, count in enumerate(line):
            yield (f"confusion[{i}][{j}]", count, float(((y == i) & (guess == j)).sum())), 0.0
    for c, (name, count) in enumerate(metrics["class_counts"].items()):
        yield (f"class_counts.{name}", count, float((y == c).sum())), 0.0


def _percentiles(drawn: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = 50.0 * (1.0 - confidence)
    there = drawn[np.isfinite(drawn)]
    low, high = np.percentile(there, [tail, 100.0 - tail]) if len(there) >= max(2, len(drawn) // 2) else (np.nan,) * 2
    return float(low), float(high)


def _drawn(rows: np.ndarray, times: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return times @ rows / times.sum(axis=1)


def _intervals(
    name: str, held: dict[str, Any], means: dict[str, np.ndarray], times: np.ndarray, confidence: float
) -> Iterator[tuple[Reading, float]]:
    for metric, rows in means.items():
        for side, again in zip(("low", "high"), _percentiles(_drawn(rows, times), confidence)):
            yield (f"{name}.{metric}.{side}", held[metric][side], again), RTOL_OF_BASELINES


def _differences(
    name: str, metrics: dict[str, Any], means: dict[str, dict[str, np.ndarray]], times: np.ndarray, confidence: float
) -> Iterator[tuple[Reading, float]]:
    for metric, stored in metrics["differences"][name].items():
        a, b = (metrics["model"][metric]["value"], metrics["baselines"][name][metric]["value"])
        defined = a is not None and b is not None
        yield (f"differences.{name}.{metric}", stored["value"], a - b if defined else np.nan), RTOL
        if metric in means[name]:
            rows = means["model"][metric] - means[name][metric]
            for side, again in zip(("low", "high"), _percentiles(_drawn(rows, times), confidence)):
                yield (f"differences.{name}.{metric}.{side}", stored[side], again), RTOL_OF_BASELINES


def _tables(metrics: dict[str, Any], rows: pd.DataFrame, y: np.ndarray, budget: float) -> Iterator[Reading]:
    p = rows[CALIBRATED].to_numpy(dtype=np.float64)
    score, ev, hit = p[:, K4], rows["ev"].to_numpy(dtype=np.float64), y == K4
    for table, column in (("signals", "signal"), ("tiers", "tier")):
        if column in rows and metrics[table]:
            expected = oracle.by_label(rows[column].to_numpy(dtype=object), y)
            yield f"{table}.rows", len(metrics[table]), float(len(expected))
            for stored, again in zip(metrics[table], expected):
                for key, value in again.items():
                    yield f"{table}.{stored['signal']}.{key}", stored[key], value
    months = oracle.by_month(score, rows, budget)
    yield "by_month.months", len(metrics["by_month"]), float(len(months))
    for stored, again in zip(metrics["by_month"], months):
        flat = {**stored, "k4_recall": stored["methods"]["model"]["k4_recall"]}
        for key, value in again.items():
            yield f"by_month.{stored['month']}.{key}", flat[key], value
    for stored, part in zip(metrics["reliability_k4"], oracle.parts(score)):
        yield "reliability.announced", stored["announced"], float(score[part].mean())
        yield "reliability.realised", stored["realised"], float(hit[part].mean())
    for stored, part in zip(metrics["value_by_ev"], oracle.parts(ev)):
        yield "value_by_ev.ev", stored["ev"], float(ev[part].mean())
        yield "value_by_ev.realised", stored["realised"], float(oracle.VALUES[y[part]].mean())
    line = metrics["gain_curve"]["model"]
    for stored, recall in zip(line, oracle.curve(score, hit, [point["budget"] for point in line])):
        yield "gain_curve.model", stored["recall"], recall
    stable = _stability(score, rows, budget)
    for key, value in stable.items():
        yield f"list_stability.{key}", metrics["list_stability"][key], value


def _stability(score: np.ndarray, rows: pd.DataFrame, budget: float) -> dict[str, float]:
    """Of the tickers on a month's list that have a snapshot in the next month: the share that is on it again."""
    listed = oracle.taken_share(score, rows["month"].to_numpy(), budget) > 0
    table = pd.DataFrame({"month": rows["snapshot_date"].dt.to_period("M"), "ticker": rows["ticker"].astype(str)})
    best = table.assign(top=listed).groupby(["month", "ticker"])["top"].any()
    later = {(month, ticker): top for (month, ticker), top in best.items()}
    pairs = [(top, later[(m + 1, t)]) for (m, t), top in later.items() if (m + 1, t) in later]
    stayed = [b for a, b in pairs if a]
    share, anyway = (float(np.mean(of)) if of else np.nan for of in (stayed, [b for _, b in pairs]))
    return {"value": share, "n": float(len(stayed)), "base_rate": anyway}


VALUES = (
    "k4_auc",
    "k4_average_precision",
    "log_loss",
    "ev_correlation_pearson",
    "ev_correlation_spearman",
    "k4_recall_top_5pct",
    "k4_auc_inside_volatility",
    "k4_lift_top_10pct_monthly",
    "k4_calibration_error",
    "brier",
    "k4_brier",
    "ev_bias",
)


def _more_rows(context: AuditContext) -> AuditContext:
    assert context.full.metrics is not None
    return context.with_full(metrics={**context.full.metrics, "n": context.full.metrics["n"] + 1})


def _other_month(context: AuditContext) -> AuditContext:
    metrics: Any = json.loads(json.dumps(context.full.metrics))
    metrics["by_month"][-1]["mean_realised_value"] += 1e-6
    return context.with_full(metrics=metrics)


def _month_less(context: AuditContext) -> AuditContext:
    metrics: Any = context.full.metrics
    return context.with_full(metrics={**metrics, "by_month": metrics["by_month"][:-1]})


@check(
    "report",
    proves="Every metric of the model and of every baseline with its base rate, the intervals of those that are means "
    "over rows, the differences, and the tables by signal, tier, month and bin are reproduced by a second "
    "implementation from the stored predictions, baselines and labels.",
    misses="Intervals of rankings other than K4 AUC; the backtest (a check of its own).",
    needs=("split", "predictions", "metrics"),
    corruptions=(
        _more_rows,
        _other_month,
        _month_less,
        *(nudged_metric("model", name, "value", 1e-7) for name in VALUES),
        *(nudged_metric("model", name, "base_rate", 1e-7) for name in ("k4_average_precision", "log_loss")),
        *(nudged_metric("model", "log_loss", side, 1e-5) for side in ("low", "high")),
    ),
)
def the_report_follows_from_the_stored_rows(context: AuditContext) -> Verdict:
    """Recompute every number by its definition."""
    out = Comparison()
    for (what, stored, again), tolerance in readings(context):
        both_undefined = again != again and (stored is None or stored != stored)
        value = float("nan") if stored is None else float(stored)
        wrong = not both_undefined and not abs(value - again) <= tolerance * max(1.0, abs(again))
        text = f"report: {what} is {stored}, the stored rows give {again:.9g}; computed on other rows or another truth"
        out.add(1, int(wrong), [text] * wrong)
    return verdict_of(out, rows=len(test_rows(context)))
