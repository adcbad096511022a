"""Every metric of the report a second time, from its definition, row by row in plain numpy: no code of evaluation/.

Rows have equal weights. Ties count as in the report: half a win, the end of the block, a fair share at a budget.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from k4_pipeline.config import CLASS_NAMES, CLASS_VALUES, K4, N_CLASSES, SIGNAL_NAMES, SPLIT_NAMES
from k4_pipeline.leakage.oracles.metrics import auc, average_precision

VALUES = np.array(CLASS_VALUES)
BINS_OF_VOLATILITY, BINS_OF_PROBABILITY = 20, 10
VALUE, BASE = 0, 1


def bins_of_equal_count(x: np.ndarray, bins: int) -> np.ndarray:
    """Bin (n,) of each value from low to high; ties in the order given."""
    place = np.argsort(np.argsort(x, kind="stable"), kind="stable")
    return np.array([min(int(p) * bins // len(x), bins - 1) for p in place])


def taken_share(score: np.ndarray, groups: np.ndarray, budget: float) -> np.ndarray:
    """How much of each row (n,) lies within the `budget` share of its group that scores highest."""
    out = np.zeros(len(score))
    for group in pd.unique(groups):
        rows = np.flatnonzero(groups == group)
        left = budget * len(rows)
        for value in np.unique(score[rows])[::-1]:
            block = rows[score[rows] == value]
            out[block] = min(1.0, max(0.0, left / len(block)))
            left -= len(block)
    return out


def _in_groups(score: np.ndarray, hit: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """AUC over the pairs of one group, and the mean precision of the hits within their groups."""
    right, pairs, precision = 0.0, 0.0, []
    for group in pd.unique(groups):
        rows = np.flatnonzero(groups == group)
        positive = hit[rows]
        a, b = int(positive.sum()), int((~positive).sum())
        if a and b:
            right += auc(score[rows], positive) * a * b
            pairs += a * b
        for value in score[rows][positive]:
            at_least = score[rows] >= value
            precision.append(positive[at_least].mean())
    return right / pairs if pairs else np.nan, float(np.mean(precision)) if precision else np.nan


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1]) if len(x) > 1 and np.ptp(x) > 0 and np.ptp(y) > 0 else np.nan


def _correlation_inside(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    """The correlation of what is left without the means of the groups; NaN where a side is constant in each of them."""
    a, b = (pd.Series(values).groupby(groups) for values in (x, y))
    if max(a.nunique()) < 2 or max(b.nunique()) < 2:
        return np.nan
    return _correlation(x - a.transform("mean").to_numpy(), y - b.transform("mean").to_numpy())


def ranking(score: np.ndarray, rows: pd.DataFrame, budgets: tuple[float, ...]) -> dict[str, tuple[float, float]]:
    """name -> (value, base rate) of a K4 ranking of `rows` (outcome_class, month, pattern_id, volatility_60)."""
    hit = rows["outcome_class"].to_numpy(dtype=np.int64) == K4
    months, share, n_hit = rows["month"].to_numpy(), float(hit.mean()), int(hit.sum())
    precision = average_precision(score, hit)
    out = {"k4_auc": (auc(score, hit), 0.5), "k4_average_precision": (precision, share)}
    out["k4_lift"] = (precision / share if share else np.nan, 1.0)
    by_month = _in_groups(score, hit, months)
    out["k4_auc_monthly"], out["k4_average_precision_monthly"] = (by_month[0], 0.5), (by_month[1], share)
    volatility = np.nan_to_num(rows["volatility_60"].to_numpy(dtype=np.float64), nan=-1.0)
    inside = bins_of_equal_count(volatility, BINS_OF_VOLATILITY)
    out["k4_auc_inside_volatility"] = (_in_groups(score, hit, inside)[0], 0.5)
    for budget in budgets:
        for suffix, groups in (("", np.zeros(len(rows))), ("_monthly", months)):
            tag, taken = f"top_{budget * 100:g}pct{suffix}", taken_share(score, groups, budget)
            recall = float((taken * hit).sum() / n_hit) if n_hit else np.nan
            out[f"k4_recall_{tag}"] = (recall, budget)
            out[f"k4_precision_{tag}"] = (recall * share / budget, share)
            out[f"k4_lift_{tag}"] = (recall / budget, 1.0)
            if suffix and n_hit:
                best = pd.Series(taken[hit]).groupby(rows["pattern_id"].to_numpy(dtype=object)[hit]).max()
                out[f"k4_pattern_recall_{tag}"] = (float(best.mean()), budget)
    return out


def values(ev: np.ndarray, rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """name -> (value, base rate): how EV goes with the realised value."""
    value = VALUES[rows["outcome_class"].to_numpy(dtype=np.int64)]
    volatility = np.nan_to_num(rows["volatility_60"].to_numpy(dtype=np.float64), nan=-1.0)
    out = {"ev_correlation_pearson": (_correlation(ev, value), 0.0)}
    varies = np.ptp(ev) > 0 and np.ptp(value) > 0
    out["ev_correlation_spearman"] = (float(scipy.stats.spearmanr(ev, value).statistic) if varies else np.nan, 0.0)
    groups = {"monthly": rows["month"].to_numpy()}
    groups["given_volatility"] = bins_of_equal_count(volatility, BINS_OF_VOLATILITY)
    for name, group in groups.items():
        out[f"ev_correlation_{name}"] = (_correlation_inside(ev, value, group), 0.0)
    return out


def probabilities(p: np.ndarray, ev: np.ndarray, y: np.ndarray) -> dict[str, tuple[float, float]]:
    """name -> (value, base rate) of probabilities (n, 6)."""
    n, truth = len(y), np.eye(N_CLASSES)[y]
    shares = np.array([float((y == c).mean()) for c in range(N_CLASSES)])
    bins = bins_of_equal_count(p[:, K4], BINS_OF_PROBABILITY)
    gaps = [abs(float((p[bins == b, K4] - (y[bins == b] == K4)).sum())) for b in range(BINS_OF_PROBABILITY)]
    return {
        "log_loss": (float(np.mean([-np.log(max(p[i, c], 1e-12)) for i, c in enumerate(y)])), _entropy(shares)),
        "brier": (float(np.square(p - truth).sum() / n), 1.0 - float(np.square(shares).sum())),
        "k4_brier": (float(np.square(p[:, K4] - truth[:, K4]).mean()), float(shares[K4] * (1.0 - shares[K4]))),
        "k4_calibration_error": (sum(gaps) / n, float(shares[K4])),
        "ev_bias": (float(ev.mean() - VALUES[y].mean()), 0.0),
    }


def _entropy(shares: np.ndarray) -> float:
    return -sum(float(s * np.log(s)) for s in shares if s > 0)


def losses(p: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """What each row adds to the metrics that are means over rows, (n,) each."""
    truth = np.eye(N_CLASSES)[y]
    ev = (p * VALUES).sum(axis=1)
    return {
        "log_loss": -np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)),
        "brier": np.square(p - truth).sum(axis=1),
        "k4_brier": np.square(p[:, K4] - truth[:, K4]),
        "ev_bias": ev - VALUES[y],
    }


def by_label(names: np.ndarray, y: np.ndarray) -> list[dict[str, float]]:
    """What followed each signal or tier, in the order of the report."""
    out = []
    for name in SIGNAL_NAMES:
        part = y[names == name]
        known = len(part) > 0
        out.append(
            {
                "count": len(part),
                "share": len(part) / max(len(y), 1),
                "mean_realised_value": float(VALUES[part].mean()) if known else np.nan,
                "k4_share": float((part == K4).mean()) if known else np.nan,
                "k5_share": float((part == 5).mean()) if known else np.nan,
            }
        )
    return out


def by_month(score: np.ndarray, rows: pd.DataFrame, budget: float) -> list[dict[str, float]]:
    """Rows, K4, realised value and recall within the budget of every month."""
    out = []
    for month in sorted(pd.unique(rows["month"])):
        part = np.flatnonzero((rows["month"] == month).to_numpy())
        y = rows["outcome_class"].to_numpy(dtype=np.int64)[part]
        taken = taken_share(score[part], np.zeros(len(part)), budget)
        hits = int((y == K4).sum())
        recall = float(taken[y == K4].sum() / hits) if hits else np.nan
        out.append({"n": len(part), "n_k4": hits, "mean_realised_value": float(VALUES[y].mean()), "k4_recall": recall})
    return out


def curve(score: np.ndarray, hit: np.ndarray, budgets: list[float]) -> list[float]:
    """Recall at each budget."""
    zero = np.zeros(len(score))
    return [float((taken_share(score, zero, b) * hit).sum() / hit.sum()) if hit.any() else np.nan for b in budgets]


def parts(order_by: np.ndarray, bins: int = 10) -> list[np.ndarray]:
    """Rows in parts of equal count, from low to high."""
    return [p for p in np.array_split(np.argsort(order_by, kind="stable"), min(bins, len(order_by))) if len(p)]


def class_rows(split: pd.DataFrame) -> list[dict[str, Any]]:
    """`classes` of the report: number, dates, K4 and class shares of each member's rows, counted one by one."""
    out = []
    for name in SPLIT_NAMES:
        days, classes = [], []
        for member, day, outcome in zip(split["split"], split["snapshot_date"], split["outcome_class"]):
            if member == name:
                days.append(day)
                classes += [] if pd.isna(outcome) else [int(outcome)]
        out.append(
            {
                "split": name,
                "rows": len(days),
                "labelled": len(classes),
                "first": str(min(days).date()) if days else "",
                "last": str(max(days).date()) if days else "",
                "k4": classes.count(K4),
                "shares": {c: classes.count(k) / max(len(classes), 1) for k, c in enumerate(CLASS_NAMES)},
            }
        )
    return out
