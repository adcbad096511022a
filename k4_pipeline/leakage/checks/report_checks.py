"""What stands beside the metrics of the report: the volatility ranking they are measured against, and the intervals.

A baseline that is made worse, or an interval that is made narrower, sells a model as surely as a leak does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import CLASS_VALUES, K4, KEYS
from k4_pipeline.leakage.checks.prediction_checks import CALIBRATED
from k4_pipeline.leakage.engine.audit import AuditContext, check
from k4_pipeline.leakage.engine.compare import Comparison
from k4_pipeline.leakage.oracles import metrics as metrics_oracle
from k4_pipeline.market.bars import Bars, to_days
from k4_pipeline.verdict import Verdict

_RETURNS = 20
BASELINE = "volatility_20"
_RTOL = 1e-4  # the panel holds the volatility in float32
_ATOL = 1e-7  # of an interval, whose draws are the same


def test_rows(context: AuditContext) -> pd.DataFrame:
    """The labelled test rows: keys, probabilities, ev and outcome_class, joined by key."""
    full = context.full
    assert full.split is not None
    assert full.predictions is not None
    rows = full.split[full.split["split"] == "test"][KEYS]
    rows = rows.merge(full.predictions[[*KEYS, *CALIBRATED, "ev"]], on=KEYS, how="inner", validate="1:1")
    rows = rows.merge(full.labeled[[*KEYS, "outcome_class"]], on=KEYS, how="left", validate="1:1")
    return rows[rows["outcome_class"].notna()].reset_index(drop=True)


def _changed(context: AuditContext, part: str, name: str, **values: float) -> AuditContext:
    metrics: Any = context.full.metrics
    return context.with_full(metrics={**metrics, part: {**metrics[part], name: {**metrics[part][name], **values}}})


def nudged_metric(part: str, name: str, side: str, amount: float) -> Callable[[AuditContext], AuditContext]:
    """One number of the report changed by little more than is tolerated; one that is undefined becomes defined."""

    def corrupt(context: AuditContext) -> AuditContext:
        metrics: Any = context.full.metrics
        old = metrics[part][name][side]
        defined = isinstance(old, float) and old == old
        return _changed(context, part, name, **{side: old + amount if defined else 0.5})

    corrupt.__name__ = f"{part}_{name}_{side}_by_{amount:g}"
    return corrupt


def volatility(bars: Bars, rows: pd.DataFrame, window: int = _RETURNS) -> np.ndarray:
    """Standard deviation of the last `window` log returns up to each snapshot bar, from bars; those there are where
    there are fewer, -1 below 20."""
    at = bars.locate(rows["ticker"], to_days(rows["snapshot_date"]))
    first = bars.offsets[np.searchsorted(bars.offsets, at, side="right") - 1]
    out = np.full(len(rows), -1.0)
    for i in np.flatnonzero(at - first >= _RETURNS):
        out[i] = np.diff(np.log(bars.close[max(first[i], at[i] - window) : at[i] + 1])).std()
    return out


def times_drawn(rows: pd.DataFrame, draws: int, seed: int) -> np.ndarray:
    """How often each row stands in each draw, (draws, n) int64: its ticker times its month (evaluation/bootstrap.py).

    Of g sorted groups, g are drawn with replacement, all draws of the tickers before those of the months.
    """
    rng = np.random.default_rng(seed)
    times = np.ones((draws, len(rows)), dtype=np.int64)
    for group in (rows["ticker"].astype(str), rows["snapshot_date"].dt.to_period("M")):
        codes, names = pd.factorize(group, sort=True)
        n = len(names)
        times *= rng.multinomial(n, np.full(n, 1.0 / n), size=draws)[:, codes]
    return times


def drawn_intervals(rows: pd.DataFrame, draws: int, confidence: float, seed: int) -> dict[str, tuple[float, float]]:
    """Percentile intervals of K4 AUC and EV correlation over draws of whole tickers and whole months."""
    y = rows["outcome_class"].to_numpy(dtype=np.int64)
    p, ev, value = rows["p_4"].to_numpy(), rows["ev"].to_numpy(), np.array(CLASS_VALUES)[y]
    values: dict[str, list[float]] = {"k4_auc": [], "ev_correlation_pearson": []}
    for times in times_drawn(rows, draws, seed):
        if not times.any():
            continue
        drawn = np.repeat(np.arange(len(rows)), times)
        values["k4_auc"].append(metrics_oracle.auc(p[drawn], y[drawn] == K4))
        varies = np.ptp(ev[drawn]) > 0 and np.ptp(value[drawn]) > 0
        values["ev_correlation_pearson"].append(np.corrcoef(ev[drawn], value[drawn])[0, 1] if varies else np.nan)
    tail = 50.0 * (1.0 - confidence)
    out = {}
    for name, drawn_values in values.items():
        there = np.array(drawn_values)[np.isfinite(drawn_values)]
        enough = len(there) >= max(2, draws // 2)
        low, high = np.percentile(there, [tail, 100.0 - tail]) if enough else (np.nan, np.nan)
        out[name] = (float(low), float(high))
    return out


def _worse_baseline(name: str) -> Callable[[AuditContext], AuditContext]:
    """A number of the baseline changed by little more than is tolerated."""

    def corrupt(context: AuditContext) -> AuditContext:
        metrics: Any = context.full.metrics
        baselines = metrics["baselines"]
        old = baselines[BASELINE][name]["value"]
        other = {"value": 0.5 if old is None or old != old else old - 1e-3}
        worse = {**baselines[BASELINE], name: {**baselines[BASELINE][name], **other}}
        return context.with_full(metrics={**metrics, "baselines": {**baselines, BASELINE: worse}})

    corrupt.__name__ = f"worse_{name}_of_the_baseline"
    return corrupt


INTERVALS = ("k4_auc", "ev_correlation_pearson")


@check(
    "report",
    proves="The volatility ranking beside every metric is reproduced from bars, and the intervals of K4 AUC and EV "
    "correlation from the documented draws of whole tickers and months, by a second implementation.",
    misses="The intervals of the other metrics.",
    needs=("split", "predictions", "metrics"),
    corruptions=(
        *(_worse_baseline(name) for name in ("k4_auc", "k4_average_precision")),
        *(nudged_metric("model", name, side, 1e-5) for name in INTERVALS for side in ("low", "high")),
    ),
)
def baseline_and_intervals_follow_from_the_stored_rows(context: AuditContext) -> Verdict:
    """Rank by volatility again, and draw again."""
    full, out = context.full, Comparison()
    assert full.metrics is not None
    rows = test_rows(context)
    is_k4 = rows["outcome_class"].to_numpy(dtype=np.int64) == K4
    score = volatility(full.bars, rows)
    expected = {
        "k4_auc": metrics_oracle.auc(score, is_k4),
        "k4_average_precision": metrics_oracle.average_precision(score, is_k4),
    }
    for name, again in expected.items():
        stored = full.metrics["baselines"][BASELINE][name]["value"]
        undefined = again != again and (stored is None or stored != stored)
        wrong = not undefined and not abs(float("nan" if stored is None else stored) - again) <= _RTOL
        text = f"report: {name} of the volatility ranking is {stored}, from bars it is {again:.6g}"
        out.add(len(rows), int(wrong), [f"{text}; the model was compared with another baseline"] * wrong)
    limits = context.config.integrity
    again_drawn = drawn_intervals(rows, limits.bootstrap_draws, limits.confidence, limits.seed)
    for name, interval in again_drawn.items():
        metric = full.metrics["model"][name]
        stored = tuple(float("nan" if metric[side] is None else metric[side]) for side in ("low", "high"))
        wrong = not np.allclose(stored, interval, rtol=0.0, atol=_ATOL, equal_nan=True)
        text = f"report: the interval of {name} is {stored[0]:.6g} to {stored[1]:.6g}, drawn again {interval[0]:.6g} to"
        out.add(len(rows), int(wrong), [f"{text} {interval[1]:.6g}; it promises more than the rows can"] * wrong)
    return Verdict.of(
        "baseline_and_intervals_follow_from_the_stored_rows",
        out.cases,
        out.findings,
        rows=len(rows),
        draws=limits.bootstrap_draws,
    )
