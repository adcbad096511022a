"""Tables of the report: what followed each signal and tier, month by month, reliability, gain, value by EV."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from k4_pipeline.config import K4, K5, SIGNAL_NAMES, IntegrityConfig
from k4_pipeline.evaluation.expected_value import realised_value
from k4_pipeline.evaluation.scores import Rows, Scores
from k4_pipeline.evaluation.weighted import Ranking


def by_label(label: np.ndarray, outcome_class: np.ndarray) -> list[dict[str, Any]]:
    """Per signal or tier: count, share, mean realised value, K4 and K5 share (NaN where it never came)."""
    value = realised_value(outcome_class)
    rows = []
    for name in SIGNAL_NAMES:
        hit = np.asarray(label) == name
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


def reliability(p: np.ndarray, hit: np.ndarray, config: IntegrityConfig, bins: int = 10) -> list[dict[str, float]]:
    """Announced and realised frequency over equal-count bins of `p` (n,), with the exact binomial interval."""
    from scipy.stats import beta

    tail, out = (1.0 - config.confidence) / 2.0, []
    for part in np.array_split(np.argsort(p, kind="stable"), min(bins, len(p))):
        if not len(part):
            continue
        n, k = len(part), int(hit[part].sum())
        low = float(beta.ppf(tail, k, n - k + 1)) if k else 0.0
        high = float(beta.ppf(1.0 - tail, k + 1, n - k)) if k < n else 1.0
        out.append({"announced": float(p[part].mean()), "realised": k / n, "low": low, "high": high, "count": n})
    return out


def gain_curve(score: np.ndarray, is_k4: np.ndarray, points: int = 50) -> list[dict[str, float]]:
    """Recall against budget: the share of all K4 found when the top `budget` share of rows is looked at."""
    ranking, ones = Ranking.of(score, is_k4), np.ones(len(score))
    return [
        {"budget": float(b), "recall": ranking.recall_in_top(ones, float(b))} for b in np.linspace(0, 1, points + 1)
    ]


def value_by_ev(ev: np.ndarray, outcome_class: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """Mean announced EV and mean realised value over equal-count bins of EV, low to high."""
    value = realised_value(outcome_class)
    parts = [part for part in np.array_split(np.argsort(ev, kind="stable"), min(bins, len(ev))) if len(part)]
    return [{"ev": float(ev[part].mean()), "realised": float(value[part].mean()), "count": len(part)} for part in parts]


def by_month(methods: Mapping[str, Scores], rows: Rows, budget: float) -> list[dict[str, Any]]:
    """Per month: rows, K4, realised value; for every method K4 recall within `budget`, its lift, log loss, mean EV."""
    if rows.months is None:
        return []
    out = []
    for month in np.unique(rows.months):
        part = np.flatnonzero(rows.months == month)
        y, is_k4, ones = rows.y[part], rows.is_k4[part], np.ones(len(part))
        by_method = {}
        for name, scores in methods.items():
            s = scores.take(part)
            recall = Ranking.of(s.k4, is_k4).recall_in_top(ones, budget)
            by_method[name] = {"k4_recall": recall, "k4_lift": recall / budget}
            if s.p is not None:
                loss = -np.log(np.maximum(s.p[np.arange(len(y)), y], 1e-12))
                by_method[name] |= {"log_loss": float(loss.mean()), "ev": float(s.ev.mean())}
        out.append(
            {
                "month": str(month),
                "n": len(part),
                "n_k4": int(is_k4.sum()),
                "mean_realised_value": float(rows.value[part].mean()),
                "budget": budget,
                "methods": by_method,
            }
        )
    return out


def list_stability(score: np.ndarray, rows: Rows, budget: float) -> dict[str, Any]:
    """Of the tickers in a month's top list that have a snapshot in the next month too: the share that is in it again.

    A ticker counts with its best row of the month. `base_rate` is what drawing at random would give.
    """
    if rows.months is None:
        return {"value": float("nan"), "n": 0, "base_rate": budget}
    in_top = Ranking.of(score, rows.is_k4, rows.months).in_top(budget) > 0
    best: dict[Any, dict[str, bool]] = {}
    for month, ticker, top in zip(rows.months, rows.tickers.astype(str), in_top):
        seen = best.setdefault(month, {})
        seen[ticker] = seen.get(ticker, False) or bool(top)
    stayed = listed = both = again = 0
    for month in sorted(best):
        later = best.get(month + np.timedelta64(1, "M"), {})
        for ticker in best[month].keys() & later.keys():
            both += 1
            again += later[ticker]
            if best[month][ticker]:
                listed += 1
                stayed += later[ticker]
    share = stayed / listed if listed else float("nan")
    return {"value": share, "n": listed, "base_rate": again / both if both else float("nan")}
