"""Every metric of a set of predictions, for the model and for every baseline alike, and their paired differences.

Nothing here knows where rows come from; the caller passes rows of one split with known labels. Every metric comes with
its interval, its sample size and its base rate. K4 recall never stands alone: it is given within an alert budget. What
ends in `_monthly` compares rows within their month alone, as a user does who looks at one month's list; it is the
primary reading, since a pooled ranking is also rewarded for telling volatile months from quiet ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from k4_pipeline.config import CLASS_NAMES, K4, N_CLASSES, IntegrityConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.evaluation import tables
from k4_pipeline.evaluation.bootstrap import Statistic, cluster_weights, drawn_values, percentiles
from k4_pipeline.evaluation.headline import headline
from k4_pipeline.evaluation.scores import BEST_POSSIBLE, MODEL, Rows, Scores
from k4_pipeline.evaluation.weighted import Ranking, equal_bins, mean, mid_ranks, pearson, within_groups

VOLATILITY_BINS = 20
ECE_BINS = 10


@dataclass(frozen=True)
class Metric:
    """A value, its interval, the rows behind it, and what a method that knows nothing would score."""

    value: float
    low: float
    high: float
    n: int
    base_rate: float


Named = dict[str, tuple[Statistic, float]]


def _scaled(statistic: Statistic, factor: float) -> Statistic:
    return lambda w: statistic(w) * factor


def ranking_statistics(score: np.ndarray, rows: Rows, config: IntegrityConfig) -> Named:
    """Statistics of one K4 ranking, each with its base rate: 0.5, the K4 share, 1, the budget."""
    is_k4, share = rows.is_k4, float(rows.is_k4.mean())
    pooled = Ranking.of(score, is_k4)
    out: Named = {
        "k4_auc": (pooled.auc, 0.5),
        "k4_average_precision": (pooled.average_precision, share),
        "k4_lift": (pooled.lift, 1.0),
    }
    rankings = {"": pooled}
    if rows.months is not None:
        rankings["_monthly"] = Ranking.of(score, is_k4, rows.months)
        out["k4_auc_monthly"] = (rankings["_monthly"].auc, 0.5)
        out["k4_average_precision_monthly"] = (rankings["_monthly"].average_precision, share)
    if rows.volatility is not None:
        bins = equal_bins(rows.volatility, VOLATILITY_BINS)
        out["k4_auc_inside_volatility"] = (Ranking.of(score, is_k4, bins).auc, 0.5)
    for budget in config.budget_fracs:
        tag = f"top_{budget * 100:g}pct"
        for suffix, ranking in rankings.items():
            recall = partial(ranking.recall_in_top, budget_frac=budget)
            # Precision and lift are the recall rescaled by constants of the sample: same evidence, other units.
            out[f"k4_recall_{tag}{suffix}"] = (recall, budget)
            out[f"k4_precision_{tag}{suffix}"] = (_scaled(recall, share / budget), share)
            out[f"k4_lift_{tag}{suffix}"] = (_scaled(recall, 1.0 / budget), 1.0)
            if suffix and rows.patterns is not None and is_k4.any():
                out[f"k4_pattern_recall_{tag}{suffix}"] = (_pattern_recall(ranking, budget, rows), budget)
    return out


def _pattern_recall(ranking: Ranking, budget: float, rows: Rows) -> Statistic:
    """Share of the patterns with a K4 snapshot of which at least one K4 snapshot was within the budget of its month."""
    k4 = np.flatnonzero(rows.is_k4)
    assert rows.patterns is not None
    _, code = np.unique(rows.patterns[k4].astype(str), return_inverse=True)
    found = np.zeros(code.max() + 1)
    np.maximum.at(found, code, ranking.in_top(budget)[k4])
    one_each = np.zeros(len(rows.y))
    one_each[k4] = 1.0 / np.bincount(code)[code]  # a pattern weighs as the mean of its K4 rows
    hits = np.zeros(len(rows.y))
    hits[k4] = one_each[k4] * found[code]

    def recall(w: np.ndarray) -> Any:
        below = w @ one_each
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(below > 0, w @ hits / below, np.nan)[()]

    return recall


def value_statistics(ev: np.ndarray, rows: Rows) -> Named:
    """How EV goes with the realised value: pooled, within months, and given volatility."""
    out: Named = {
        "ev_correlation_pearson": (partial(pearson, ev, rows.value), 0.0),
        "ev_correlation_spearman": (partial(pearson, mid_ranks(ev), mid_ranks(rows.value)), 0.0),
    }
    groups = {"ev_correlation_monthly": rows.months}
    if rows.volatility is not None:
        groups["ev_correlation_given_volatility"] = equal_bins(rows.volatility, VOLATILITY_BINS)
    for name, group in groups.items():
        if group is not None:
            # Levels of a group are taken out of both sides: what is left is the relation inside the groups.
            out[name] = (partial(pearson, within_groups(ev, group), within_groups(rows.value, group)), 0.0)
    return out


def probability_statistics(p: np.ndarray, ev: np.ndarray, rows: Rows) -> Named:
    """Log loss, Brier scores, expected calibration error of P(K4), announced less realised value."""
    y, n = rows.y, len(rows.y)
    one_hot = np.eye(N_CLASSES)[y]
    prior = one_hot.mean(axis=0)
    entropy = float(-(prior[prior > 0] * np.log(prior[prior > 0])).sum())
    bins = np.eye(ECE_BINS)[equal_bins(p[:, K4], ECE_BINS)] * (p[:, K4] - one_hot[:, K4])[:, None]

    def ece(w: np.ndarray) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.abs(w @ bins).sum(axis=-1) / w.sum(axis=-1)

    return {
        "log_loss": (partial(mean, -np.log(np.maximum(p[np.arange(n), y], 1e-12))), entropy),
        "brier": (partial(mean, ((p - one_hot) ** 2).sum(axis=1)), float(1.0 - (prior**2).sum())),
        "k4_brier": (partial(mean, (p[:, K4] - one_hot[:, K4]) ** 2), float(prior[K4] * (1 - prior[K4]))),
        "k4_calibration_error": (ece, float(prior[K4])),
        "ev_bias": (partial(mean, ev - rows.value), 0.0),
    }


def statistics_of(scores: Scores, rows: Rows, config: IntegrityConfig) -> Named:
    """Every statistic of one method."""
    out = {**ranking_statistics(scores.k4, rows, config), **value_statistics(scores.ev, rows)}
    return out if scores.p is None else {**out, **probability_statistics(scores.p, scores.ev, rows)}


def compare(
    methods: Mapping[str, Scores], rows: Rows, config: IntegrityConfig
) -> tuple[dict[str, dict[str, Metric]], dict[str, dict[str, Metric]]]:
    """(metrics of each method, model less each other method), all on the same draws of whole tickers and months.

    In a difference `base_rate` is 0; of losses less is better, so a negative difference speaks for the model.
    """
    weights = cluster_weights(rows.tickers, config.bootstrap_draws, config.seed, rows.dates)
    n, ones = len(rows.y), np.ones(len(rows.y))
    metrics: dict[str, dict[str, Metric]] = {}
    values: dict[str, dict[str, tuple[float, np.ndarray]]] = {}
    for name, scores in methods.items():
        metrics[name], values[name] = {}, {}
        for metric, (statistic, base_rate) in statistics_of(scores, rows, config).items():
            value, drawn = float(statistic(ones)), drawn_values(statistic, weights)
            values[name][metric] = (value, drawn)
            metrics[name][metric] = Metric(value, *percentiles(drawn, config.confidence), n, base_rate)
    differences: dict[str, dict[str, Metric]] = {}
    for name in methods:
        if name == MODEL:
            continue
        differences[name] = {}
        for metric in (m for m in values[name] if m in values[MODEL]):  # in their order: a set has none
            (a, drawn_a), (b, drawn_b) = values[MODEL][metric], values[name][metric]
            low, high = percentiles(drawn_a - drawn_b, config.confidence)
            differences[name][metric] = Metric(a - b, low, high, n, 0.0)
    return metrics, differences


def _plain(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    return {name: asdict(metric) for name, metric in metrics.items()}


def evaluate(methods: Mapping[str, Scores], rows: Rows, config: IntegrityConfig) -> dict[str, Any]:
    """All metrics as a JSON-able dict.

    `methods` holds "model", any number of baselines by name, and "best_possible" where the market is simulated. Keys:
    `model`, `baselines` (by name), `best_possible` (or absent), each metric -> {value, low, high, n, base_rate};
    `differences` (model less each other method); `headline` (sentences); tables. Raises `BadInputError` without rows.
    """
    if len(rows.y) == 0:
        raise BadInputError("no labelled test rows: choose an earlier as_of, a longer test span or more tickers")
    metrics, differences = compare(methods, rows, config)
    model = methods[MODEL]
    assert model.p is not None
    confusion = np.zeros((N_CLASSES, N_CLASSES), dtype=int)
    np.add.at(confusion, (rows.y, model.p.argmax(axis=1)), 1)
    counts = np.bincount(rows.y, minlength=N_CLASSES)
    out: dict[str, Any] = {
        "n": len(rows.y),
        "n_tickers": len(np.unique(rows.tickers.astype(str))),
        "n_k4": int(rows.is_k4.sum()),
        "n_k4_tickers": len(np.unique(rows.tickers[rows.is_k4].astype(str))),
        "class_counts": {name: int(c) for name, c in zip(CLASS_NAMES, counts)},
        "mean_realised_value": float(rows.value.mean()),
        "model": _plain(metrics[MODEL]),
        "baselines": {k: _plain(m) for k, m in metrics.items() if k not in (MODEL, BEST_POSSIBLE)},
        "differences": {k: _plain(m) for k, m in differences.items()},
        "confusion": confusion.tolist(),
        "signals": tables.by_label(rows.signal, rows.y) if rows.signal is not None else [],
        "tiers": tables.by_label(rows.tier, rows.y) if rows.tier is not None else [],
        "reliability_k4": tables.reliability(model.p[:, K4], rows.is_k4, config),
        "gain_curve": {name: tables.gain_curve(scores.k4, rows.is_k4) for name, scores in methods.items()},
        "value_by_ev": tables.value_by_ev(model.ev, rows.y),
        "by_month": tables.by_month(methods, rows, max(config.budget_fracs)),
        "list_stability": tables.list_stability(model.k4, rows, max(config.budget_fracs)),
    }
    if BEST_POSSIBLE in metrics:
        out["best_possible"] = _plain(metrics[BEST_POSSIBLE])
    out["headline"] = headline(out)
    return out
