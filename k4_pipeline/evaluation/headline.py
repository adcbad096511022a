"""What the figures say, in sentences: which method wins, and whether the model is worth having on these rows."""

from __future__ import annotations

import math
from typing import Any

# What decides, in this order: ranking within the month, and the probabilities.
RANKING, PROBABILITY = "k4_recall_top_10pct_monthly", "log_loss"
NAMES = {
    "class_mix": "the class mix",
    "volatility_20": "sorting by 20-day volatility",
    "volatility_250": "sorting by 250-day volatility",
    "logit": "the logit",
    "gradient_boosting": "gradient boosting",
    "bilstm": "the BiLSTM",
}


def method_name(name: str) -> str:
    """A baseline in words."""
    return NAMES.get(name, name.replace("_", " "))


def _value(metrics: dict[str, Any], name: str) -> float:
    value = (metrics.get(name) or {}).get("value")
    return math.nan if value is None else float(value)


def _against(metrics: dict[str, Any], name: str, metric: str) -> str:
    """better, worse or undecided, by the paired interval of model less baseline."""
    difference = metrics["differences"].get(name, {}).get(metric)
    if difference is None or not math.isfinite(difference["low"]):
        return "undecided"
    sign = -1.0 if metric == PROBABILITY else 1.0
    low, high = sorted((sign * difference["low"], sign * difference["high"]))
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def _strongest(metrics: dict[str, Any], metric: str) -> str | None:
    sign = -1.0 if metric == PROBABILITY else 1.0
    found = {n: sign * _value(m, metric) for n, m in metrics["baselines"].items()}
    found = {n: v for n, v in found.items() if math.isfinite(v)}
    return max(found, key=lambda n: found[n]) if found else None


def headline(metrics: dict[str, Any]) -> list[str]:
    """Sentences, the most important first; `metrics` is the dict of `metrics.evaluate`."""
    out = []
    loss = _value(metrics["model"], PROBABILITY)
    mix = _against(metrics, "class_mix", PROBABILITY)
    if "class_mix" in metrics["baselines"]:
        other = _value(metrics["baselines"]["class_mix"], PROBABILITY)
        figures = f"(log loss {loss:.3f} against {other:.3f})"
        if mix == "worse":
            out.append(f"Worse than the class mix {figures}: its probabilities are not worth having on these rows.")
        elif mix == "better":
            out.append(f"Probabilities better than the class mix {figures}.")
        else:
            side = "no better than" if loss >= other else "not certainly better than"
            out.append(f"Probabilities {side} the class mix {figures}.")
    strongest = _strongest(metrics, RANKING)
    recall = _value(metrics["model"], RANKING)
    if not math.isfinite(recall):
        out.append("No K4 among these rows: nothing can be said of how they are ranked.")
    elif strongest is not None:
        difference = metrics["differences"][strongest][RANKING]
        who = method_name(strongest)
        other = _value(metrics["baselines"][strongest], RANKING)
        figures = (
            f"{recall:.1%} of the K4 in the monthly top 10% against {other:.1%}, "
            f"difference {difference['low']:+.1%} to {difference['high']:+.1%}"
        )
        word = _against(metrics, strongest, RANKING)
        if word == "better":
            out.append(f"The model finds more K4 than every baseline; the strongest is {who} ({figures}).")
        elif word == "worse":
            out.append(f"{who[0].upper()}{who[1:]} wins: it finds more K4 than the model ({figures}).")
        else:
            first, second = ("the model", who) if recall > other else (who, "the model")
            out.append(f"{first[0].upper()}{first[1:]} is ahead of {second}, but not certainly ({figures}).")
    if math.isfinite(recall) and "best_possible" in metrics:
        out.append(f"The best possible on this simulated market is {_value(metrics['best_possible'], RANKING):.1%}.")
    return out
