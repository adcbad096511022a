"""How numbers are written, and which metrics a report lists in which order."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

# key in the report -> (title, format)
METRICS: dict[str, tuple[str, str]] = {
    "k4_auc": ("K4 AUC", "{:.3f}"),
    "k4_average_precision": ("K4 average precision", "{:.3f}"),
    "k4_recall_top_5pct": ("K4 recall in the top 5%", "{:.1%}"),
    "k4_recall_top_10pct": ("K4 recall in the top 10%", "{:.1%}"),
    "k4_precision_top_5pct": ("K4 precision in the top 5%", "{:.1%}"),
    "k4_recall_top_10pct_monthly": ("K4 recall in the monthly top 10%", "{:.1%}"),
    "k4_lift_top_5pct_monthly": ("K4 lift in the monthly top 5%", "{:.2f}"),
    "k4_lift_top_5pct": ("K4 lift in the top 5%", "{:.2f}"),
    "ev_correlation_pearson": ("EV correlation (Pearson)", "{:.3f}"),
    "ev_correlation_spearman": ("EV correlation (Spearman)", "{:.3f}"),
    "log_loss": ("log loss", "{:.3f}"),
    "brier": ("Brier score", "{:.3f}"),
    "k4_calibration_error": ("K4 calibration error", "{:.3f}"),
}
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "k4_brier", "k4_calibration_error"})


def finite(value: Any) -> TypeGuard[float]:
    """A number that is neither NaN, infinite nor absent."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any, form: str = "{:.3f}") -> str:
    """Formatted, or `n/a` where the value is not defined."""
    return form.format(value) if finite(value) else "n/a"


def price(value: Any) -> str:
    """As it is quoted: two decimals, four below 1; `n/a` where it is not defined."""
    return number(value, "{:.2f}" if finite(value) and abs(value) >= 1 else "{:.4f}")


def span(metric: dict[str, Any], form: str = "{:.3f}") -> str:
    """`0.710 to 0.802`; empty where there is no interval."""
    low, high = metric.get("low"), metric.get("high")
    return f"{number(low, form)} to {number(high, form)}" if finite(low) and finite(high) else ""


def baselines(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The metrics of every baseline by name, in the report's order."""
    found = {}
    for name, entry in (metrics.get("baselines") or {}).items():
        found[name] = entry.get("metrics", entry) if isinstance(entry, dict) else {}
    return found


def difference(metrics: dict[str, Any], baseline: str, key: str) -> dict[str, Any]:
    """Model minus baseline, on the same draws; empty where the report holds none."""
    held = (metrics.get("paired_differences") or metrics.get("differences") or {}).get(baseline) or {}
    return held.get(key) or {}


def strongest(metrics: dict[str, Any], key: str) -> str | None:
    """The baseline with the best value of a metric; None where none has one."""
    found = {n: m[key]["value"] for n, m in baselines(metrics).items() if key in m and finite(m[key]["value"])}
    sign = -1.0 if key in LOWER_IS_BETTER else 1.0
    return max(found, key=lambda name: sign * found[name]) if found else None


def best_possible(metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics of the true probabilities of a simulated market; empty for real bars."""
    held = metrics.get("best_possible") or {}
    return held.get("metrics", held)


def titled(name: str) -> str:
    """`gradient boosting` for `gradient_boosting`."""
    return name.replace("_", " ")
