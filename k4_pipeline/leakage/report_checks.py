"""What stands beside the metrics of the report: the volatility ranking they are measured against, and the intervals.

A baseline that is made worse, or an interval that is made narrower, sells a model as surely as a leak does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import CLASS_VALUES
from k4_pipeline.leakage import metrics_oracle
from k4_pipeline.leakage.audit import AuditContext, check
from k4_pipeline.leakage.compare import Comparison
from k4_pipeline.leakage.path import KEYS
from k4_pipeline.leakage.verdict import Verdict
from k4_pipeline.market.bars import Bars, to_days

_RETURNS = 20
_DRAWS = 200
# Two bootstraps of the same rows differ by chance, most with few draws; a fifth of the width is not chance.
_NARROWEST = 0.4
_RTOL = 1e-4  # the panel holds the volatility in float32


def test_rows(context: AuditContext) -> pd.DataFrame:
    """The labelled test rows: keys, p_4, ev and outcome_class, joined by key."""
    full = context.full
    assert full.split is not None
    assert full.predictions is not None
    rows = full.split[full.split["split"] == "test"][KEYS]
    rows = rows.merge(full.predictions[[*KEYS, "p_4", "ev"]], on=KEYS, how="inner", validate="1:1")
    rows = rows.merge(full.labeled[[*KEYS, "outcome_class"]], on=KEYS, how="left", validate="1:1")
    return rows[rows["outcome_class"].notna()].reset_index(drop=True)


def volatility(bars: Bars, rows: pd.DataFrame) -> np.ndarray:
    """Standard deviation of the last 20 log returns up to each snapshot bar, from bars; -1 where there are fewer."""
    at = bars.locate(rows["ticker"], to_days(rows["snapshot_date"]))
    first = bars.offsets[np.searchsorted(bars.offsets, at, side="right") - 1]
    out = np.full(len(rows), -1.0)
    for i in np.flatnonzero(at - first >= _RETURNS):
        out[i] = np.diff(np.log(bars.close[at[i] - _RETURNS : at[i] + 1])).std()
    return out


def drawn_widths(rows: pd.DataFrame, confidence: float, rng: np.random.Generator) -> dict[str, float]:
    """Width of the percentile intervals of K4 AUC and EV correlation when whole tickers and whole months are drawn."""
    y = rows["outcome_class"].to_numpy(dtype=np.int64)
    p, ev, value = rows["p_4"].to_numpy(), rows["ev"].to_numpy(), np.array(CLASS_VALUES)[y]
    ticker = pd.factorize(rows["ticker"])[0]
    month = pd.factorize(rows["snapshot_date"].dt.to_period("M"))[0]
    values: dict[str, list[float]] = {"k4_auc": [], "ev_correlation_pearson": []}
    for _ in range(_DRAWS):
        times = np.ones(len(rows), dtype=np.int64)
        for group in (ticker, month):
            n = int(group.max()) + 1
            times *= np.bincount(rng.integers(0, n, n), minlength=n)[group]
        drawn = np.repeat(np.arange(len(rows)), times)  # a row as often as its ticker times its month
        values["k4_auc"].append(metrics_oracle.auc(p[drawn], y[drawn] == 4))
        varies = len(drawn) > 2 and ev[drawn].std() > 0 and value[drawn].std() > 0
        values["ev_correlation_pearson"].append(np.corrcoef(ev[drawn], value[drawn])[0, 1] if varies else np.nan)
    tail = 50.0 * (1.0 - confidence)
    widths = {}
    for name, drawn_values in values.items():
        there = np.array(drawn_values)[np.isfinite(drawn_values)]
        enough = len(there) >= _DRAWS // 2
        widths[name] = float(np.subtract(*np.percentile(there, [100.0 - tail, tail]))) if enough else float("nan")
    return widths


def _changed(context: AuditContext, part: str, name: str, **values: float) -> AuditContext:
    metrics: Any = context.full.metrics
    return context.with_full(metrics={**metrics, part: {**metrics[part], name: {**metrics[part][name], **values}}})


def _worse_baseline(context: AuditContext) -> AuditContext:
    assert context.full.metrics is not None
    old = context.full.metrics["volatility_ranking"]["k4_auc"]["value"]
    return _changed(context, "volatility_ranking", "k4_auc", value=0.5 * (old or 0.5))


def _narrow_interval(context: AuditContext) -> AuditContext:
    assert context.full.metrics is not None
    value = context.full.metrics["model"]["ev_correlation_pearson"]["value"]
    return _changed(context, "model", "ev_correlation_pearson", low=value - 1e-4, high=value + 1e-4)


@check(
    "report",
    proves="The volatility ranking beside every metric comes out again from bars, and the intervals of K4 AUC and EV "
    "correlation are not narrower than a second bootstrap of whole tickers and months can explain.",
    misses="Intervals that are a little too narrow, and those of the other metrics.",
    needs=("split", "predictions", "metrics"),
    tampers=(_worse_baseline, _narrow_interval),
)
def baseline_and_intervals_follow_from_the_stored_rows(context: AuditContext) -> Verdict:
    """Rank by volatility again, and draw again."""
    full, out = context.full, Comparison()
    assert full.metrics is not None
    rows = test_rows(context)
    is_k4 = rows["outcome_class"].to_numpy(dtype=np.int64) == 4
    score = volatility(full.bars, rows)
    expected = {
        "k4_auc": metrics_oracle.auc(score, is_k4),
        "k4_average_precision": metrics_oracle.average_precision(score, is_k4),
    }
    for name, again in expected.items():
        stored = full.metrics["volatility_ranking"][name]["value"]
        undefined = again != again and (stored is None or stored != stored)
        wrong = not undefined and not abs(float("nan" if stored is None else stored) - again) <= _RTOL
        text = f"report: {name} of the volatility ranking is {stored}, from bars it is {again:.6g}"
        out.add(len(rows), int(wrong), [f"{text}; the model was compared with another baseline"] * wrong)
    widths = drawn_widths(rows, context.config.integrity.confidence, context.rng(14))
    for name, width in widths.items():
        metric = full.metrics["model"][name]
        low, high = metric["low"], metric["high"]
        if width != width or low is None or low != low:
            continue  # too few K4 rows for an interval: the report says so itself
        narrow = high - low < _NARROWEST * width
        text = f"report: the interval of {name} is {high - low:.4g} wide, drawn again {width:.4g}"
        out.add(len(rows), int(narrow), [f"{text}; it promises more than the rows can"] * narrow)
    return Verdict.of(
        "baseline_and_intervals_follow_from_the_stored_rows",
        out.cases,
        out.findings,
        rows=len(rows),
        widths_drawn_again={k: round(v, 4) for k, v in widths.items()},
    )
