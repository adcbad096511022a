"""Every metric of a set of predictions, each with its interval, its sample size and its base rate beside it.

Nothing here knows where rows come from; the caller passes rows of one split with known labels. K4 recall never stands
alone: it is given within an alert budget, next to the share that drawing at random would reach, and next to what
sorting by volatility alone reaches on the same rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from k4_pipeline.config import CLASS_NAMES, K4, K5, N_CLASSES, SIGNAL_NAMES, IntegrityConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.evaluation.bootstrap import Statistic, cluster_weights, interval
from k4_pipeline.evaluation.expected_value import realised_value
from k4_pipeline.evaluation.weighted import Ranking, mid_ranks, pearson


@dataclass(frozen=True)
class Metric:
    """A value, its interval, the rows behind it, and what a method that knows nothing would score."""

    value: float
    low: float
    high: float
    n: int
    base_rate: float


def ranking_metrics(
    score: np.ndarray, is_k4: np.ndarray, weights: np.ndarray, config: IntegrityConfig
) -> dict[str, Metric]:
    """K4 AUC, average precision, and recall, precision and lift within each budget, for one score (n,).

    `weights` (draws, n) are bootstrap weights. Base rates: 0.5, the K4 share, the budget, the K4 share, 1.
    """
    ranking = Ranking.of(score, is_k4)
    n = len(score)
    share = float(np.mean(is_k4)) if n else float("nan")

    def metric(statistic: Statistic, base_rate: float) -> Metric:
        low, high = interval(statistic, weights, config.confidence)
        return Metric(statistic(np.ones(n)), low, high, n, base_rate)

    out = {
        "k4_auc": metric(ranking.auc, 0.5),
        "k4_average_precision": metric(ranking.average_precision, share),
    }
    for budget in config.budget_fracs:
        tag = f"top_{budget * 100:g}pct"
        recall = metric(partial(ranking.recall_in_top, budget_frac=budget), budget)
        # Precision and lift are the recall rescaled by constants of the sample: same evidence, other units.
        out[f"k4_recall_{tag}"] = recall
        out[f"k4_precision_{tag}"] = Metric(
            recall.value * share / budget, recall.low * share / budget, recall.high * share / budget, n, share
        )
        out[f"k4_lift_{tag}"] = Metric(recall.value / budget, recall.low / budget, recall.high / budget, n, 1.0)
    return out


def _probability_metrics(
    y: np.ndarray, p: np.ndarray, weights: np.ndarray, config: IntegrityConfig
) -> dict[str, Metric]:
    n = len(y)
    one_hot = np.eye(N_CLASSES)[y]
    prior = one_hot.mean(axis=0)
    row_loss = -np.log(np.maximum(p[np.arange(n), y], 1e-12))
    row_brier = ((p - one_hot) ** 2).sum(axis=1)
    k4_brier = (p[:, K4] - one_hot[:, K4]) ** 2

    def mean_metric(rows: np.ndarray, base_rate: float) -> Metric:
        low, high = interval(lambda w: float(w @ rows / w.sum()), weights, config.confidence)
        return Metric(float(rows.mean()), low, high, n, base_rate)

    entropy = float(-(prior[prior > 0] * np.log(prior[prior > 0])).sum())
    return {
        "log_loss": mean_metric(row_loss, entropy),
        "brier": mean_metric(row_brier, float(1.0 - (prior**2).sum())),
        "k4_brier": mean_metric(k4_brier, float(prior[K4] * (1 - prior[K4]))),
        "k4_calibration_error": _ece(p[:, K4], one_hot[:, K4], weights, config),
    }


def _ece(p: np.ndarray, hit: np.ndarray, weights: np.ndarray, config: IntegrityConfig, bins: int = 10) -> Metric:
    """Expected calibration error over equal-count bins; base rate: the error of announcing 0 for every row."""
    bin_of = np.minimum((np.argsort(np.argsort(p, kind="stable"), kind="stable") * bins) // max(len(p), 1), bins - 1)

    def statistic(w: np.ndarray) -> float:
        gap = np.bincount(bin_of, weights=w * (p - hit), minlength=bins)
        return float(np.abs(gap).sum() / w.sum())

    low, high = interval(statistic, weights, config.confidence)
    return Metric(statistic(np.ones(len(p))), low, high, len(p), float(hit.mean()))


def _correlations(x: np.ndarray, value: np.ndarray, weights: np.ndarray, config: IntegrityConfig) -> dict[str, Metric]:
    n = len(x)
    out = {}
    for name, a, b in (("pearson", x, value), ("spearman", mid_ranks(x), mid_ranks(value))):
        low, high = interval(partial(pearson, a, b), weights, config.confidence)
        out[f"ev_correlation_{name}"] = Metric(pearson(a, b, np.ones(n)), low, high, n, 0.0)
    return out


def signal_table(signal: np.ndarray, outcome_class: np.ndarray) -> list[dict[str, Any]]:
    """Per signal: count, share, mean realised value, K4 share, K5 share (NaN where the signal never came)."""
    value = realised_value(outcome_class)
    rows = []
    for name in SIGNAL_NAMES:
        hit = np.asarray(signal) == name
        n = int(hit.sum())
        rows.append(
            {
                "signal": name,
                "count": n,
                "share": n / max(len(hit), 1),
                "mean_realised_value": float(value[hit].mean()) if n else float("nan"),
                "k4_share": float((outcome_class[hit] == K4).mean()) if n else float("nan"),
                "k5_share": float((outcome_class[hit] == K5).mean()) if n else float("nan"),
            }
        )
    return rows


def reliability_table(p: np.ndarray, hit: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """Mean announced and realised frequency over equal-count bins of `p` (n,)."""
    order = np.argsort(p, kind="stable")
    return [
        {"announced": float(p[part].mean()), "realised": float(hit[part].mean()), "count": len(part)}
        for part in np.array_split(order, min(bins, len(order)))
        if len(part)
    ]


def gain_curve(score: np.ndarray, is_k4: np.ndarray, points: int = 50) -> list[dict[str, float]]:
    """Recall against budget: the share of all K4 found when the top `budget` share of rows is looked at."""
    ranking = Ranking.of(score, is_k4)
    ones = np.ones(len(score))
    return [
        {"budget": float(b), "recall": ranking.recall_in_top(ones, float(b))} for b in np.linspace(0, 1, points + 1)
    ]


def value_by_ev(ev: np.ndarray, outcome_class: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """Mean announced EV and mean realised value over equal-count bins of EV, low to high."""
    value = realised_value(outcome_class)
    parts = [part for part in np.array_split(np.argsort(ev, kind="stable"), min(bins, len(ev))) if len(part)]
    return [{"ev": float(ev[part].mean()), "realised": float(value[part].mean()), "count": len(part)} for part in parts]


def evaluate(
    outcome_class: np.ndarray,
    probabilities: np.ndarray,
    ev: np.ndarray,
    volatility: np.ndarray,
    groups: np.ndarray,
    signal: np.ndarray,
    config: IntegrityConfig,
    *,
    dates: np.ndarray | None = None,
) -> dict[str, Any]:
    """All metrics of one split as a JSON-able dict.

    `outcome_class` (n,) int 0..5, `probabilities` (n, 6) calibrated, `ev` (n,), `volatility` (n,) the daily volatility
    at the snapshot bar (NaN ranks last), `groups` (n,) the ticker of each row (whole tickers are bootstrapped),
    `signal` (n,) str, `dates` (n,) the snapshot dates (whole months are bootstrapped too). Raises
    `BadInputError` when there is no row.
    """
    y = np.asarray(outcome_class, dtype=np.int64)
    p = np.asarray(probabilities, dtype=np.float64)
    if len(y) == 0:
        raise BadInputError("no labelled test rows: choose an earlier as_of, a longer test span or more tickers")
    is_k4 = y == K4
    value = realised_value(y)
    weights = cluster_weights(groups, config.bootstrap_draws, config.seed, dates)
    volatility = np.nan_to_num(np.asarray(volatility, dtype=np.float64), nan=-1.0)
    model = {
        **ranking_metrics(p[:, K4], is_k4, weights, config),
        **_correlations(np.asarray(ev, np.float64), value, weights, config),
        **_probability_metrics(y, p, weights, config),
    }
    baseline = {
        **ranking_metrics(volatility, is_k4, weights, config),
        **_correlations(volatility, value, weights, config),
    }
    counts = np.bincount(y, minlength=N_CLASSES)
    confusion = np.zeros((N_CLASSES, N_CLASSES), dtype=int)
    np.add.at(confusion, (y, p.argmax(axis=1)), 1)
    return {
        "n": len(y),
        "n_tickers": len(np.unique(groups)),
        "n_k4": int(is_k4.sum()),
        "class_counts": {name: int(c) for name, c in zip(CLASS_NAMES, counts)},
        "mean_realised_value": float(value.mean()),
        "model": {k: asdict(m) for k, m in model.items()},
        "volatility_ranking": {k: asdict(m) for k, m in baseline.items()},
        "confusion": confusion.tolist(),
        "signals": signal_table(signal, y),
        "reliability_k4": reliability_table(p[:, K4], is_k4),
        "gain_curve": {"model": gain_curve(p[:, K4], is_k4), "volatility": gain_curve(volatility, is_k4)},
        "value_by_ev": value_by_ev(np.asarray(ev, np.float64), y),
    }
