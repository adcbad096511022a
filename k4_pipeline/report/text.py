"""The validation report as Markdown, from the dict of `evaluation.validation.build_validation`. Computes nothing."""

from __future__ import annotations

import math
from typing import Any

METRIC_ROWS = (
    ("k4_auc", "K4 AUC", "{:.3f}"),
    ("k4_average_precision", "K4 average precision", "{:.3f}"),
    ("k4_recall_top_5pct", "K4 recall in the top 5%", "{:.1%}"),
    ("k4_recall_top_10pct", "K4 recall in the top 10%", "{:.1%}"),
    ("k4_precision_top_5pct", "K4 precision in the top 5%", "{:.1%}"),
    ("k4_lift_top_5pct", "K4 lift in the top 5%", "{:.2f}"),
    ("ev_correlation_pearson", "EV correlation (Pearson)", "{:.3f}"),
    ("ev_correlation_spearman", "EV correlation (Spearman)", "{:.3f}"),
    ("log_loss", "log loss (lower is better)", "{:.3f}"),
    ("brier", "Brier score (lower is better)", "{:.3f}"),
    ("k4_calibration_error", "K4 calibration error (lower is better)", "{:.3f}"),
)


def number(value: float, form: str = "{:.3f}") -> str:
    """Formatted, or `n/a` where the value is not defined."""
    return form.format(value) if isinstance(value, (int, float)) and math.isfinite(value) else "n/a"


def table(header: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table; bars inside cells are escaped."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join("---" for _ in header) + "|"]
    lines += ["| " + " | ".join(str(c).replace("|", "\\|") for c in row) + " |" for row in rows]
    return "\n".join(lines)


def metric_table(report: dict[str, Any]) -> str:
    """Each metric with interval, base rate and what volatility ranking reaches on the same rows."""
    model, base = report["metrics"]["model"], report["metrics"]["volatility_ranking"]
    rows = []
    for key, title, form in METRIC_ROWS:
        if key not in model:
            continue
        m = model[key]
        span = f"{number(m['low'], form)} to {number(m['high'], form)}"
        other = number(base[key]["value"], form) if key in base else ""
        rows.append([title, f"**{number(m['value'], form)}**", span, number(m["base_rate"], form), other])
    return table(["metric", "model", "95% interval", "base rate", "volatility ranking"], rows)


def integrity_table(report: dict[str, Any]) -> str:
    """The five tests."""
    rows = [
        [
            t["name"],
            f"**{t['status'].upper()}**" if not t["passed"] else "passed",
            number(t["value"]),
            f"{number(t['low'])} to {number(t['high'])}",
            t["n"],
            t["limit"],
            t["explanation"],
        ]
        for t in report["integrity"]
    ]
    return table(["test", "result", "value", "interval", "rows", "limit", "in words"], rows)


def verdict_table(report: dict[str, Any]) -> str:
    """Every proposition that was checked, with the number of cases."""
    rows = [
        [
            v["name"].replace("_", " "),
            "passed" if v["passed"] else "**FAILED**",
            v["cases"],
            "; ".join(v["findings"][:3]),
        ]
        for v in report["verdicts"]
    ]
    return table(["proposition", "result", "cases", "findings"], rows)


def class_table(report: dict[str, Any]) -> str:
    """Row counts and class shares by split."""
    names = list(report["classes"][0]["shares"])
    rows = [
        [r["split"], r["rows"], r["labelled"], f"{r['first']} to {r['last']}", r["k4"]]
        + [f"{r['shares'][n]:.1%}" for n in names]
        for r in report["classes"]
    ]
    return table(["split", "rows", "labelled", "snapshots", "K4 rows", *[n.split("_")[0] for n in names]], rows)


def signal_table(report: dict[str, Any]) -> str:
    """What each signal was followed by."""
    rows = [
        [
            s["signal"],
            s["count"],
            number(s["mean_realised_value"], "{:+.2f}"),
            number(s["k4_share"], "{:.1%}"),
            number(s["k5_share"], "{:.1%}"),
        ]
        for s in report["metrics"]["signals"]
    ]
    mean = report["metrics"]["mean_realised_value"]
    return table(["signal", "test rows", "mean realised value", "K4 share", "K5 share"], rows) + (
        f"\n\nMean realised value of all test rows: {mean:+.2f}."
    )


def demo_section(demo: dict[str, Any]) -> str:
    """What leakage looks like: the dict of `run_demo`, one table per market, or why there is none."""
    if not demo.get("markets"):
        return str(demo.get("left_out") or "This report was made without it. `k4 audit --demo` shows it.")

    def cell(metric: dict[str, float]) -> str:
        return f"**{number(metric['value'])}** ({number(metric['low'])} to {number(metric['high'])})"

    parts = [demo["in_words"]]
    for market in demo["markets"]:
        test = market["test"]
        rows = [[row["metric"], cell(row["honest"]), cell(row["random"])] for row in market["rows"]]
        rows.append(["test rows (K4)", *(f"{test[n]['rows']} ({test[n]['k4']})" for n in ("honest", "random"))])
        title = f"{market['market']}, as of {market['as_of']}"
        parts.append(table([title, "honest split (by date, purged)", "random split (leaks)"], rows))
    return "\n\n".join(parts)


def headline(report: dict[str, Any]) -> str:
    """Three sentences that say what was found, before any table."""
    metrics = report["metrics"]
    auc, base = metrics["model"]["k4_auc"], metrics["volatility_ranking"]["k4_auc"]["value"]
    n, k4 = metrics["n"], metrics["n_k4"]
    first = (
        f"{n} labelled test snapshots of {metrics['n_tickers']} tickers, {k4} of them K4 ({k4 / n:.2%})."
        if n
        else "No labelled test snapshots."
    )
    if not math.isfinite(auc["value"]):
        second = "K4 metrics are not defined on these rows."
    elif auc["low"] > base:
        second = f"K4 AUC {auc['value']:.3f} lies above volatility ranking ({base:.3f}) with its whole interval."
    else:
        second = (
            f"K4 AUC {auc['value']:.3f} (interval {auc['low']:.3f} to {auc['high']:.3f}) is not clearly better than "
            f"sorting by volatility alone ({base:.3f})."
        )
    failed = [t["name"] for t in report["integrity"] if not t["passed"]]
    failed += [v["name"].replace("_", " ") for v in report["verdicts"] if not v["passed"]]
    third = "Every integrity test and proposition passed." if not failed else "Not passed: " + ", ".join(failed) + "."
    return " ".join([first, second, third])


def render_markdown(report: dict[str, Any]) -> str:
    """The whole report as Markdown."""
    model, data = report["model"], report["data"]
    facts = {**data, **{k: v for k, v in model.items() if isinstance(v, (str, int, float))}}
    parts = [
        f"# Validation report, as of {report['as_of']}",
        headline(report),
        "## Integrity tests",
        integrity_table(report),
        "A test with too little evidence counts as not passed. Intervals are 95% bootstraps over whole tickers and "
        "whole months.",
        "## How good is it",
        metric_table(report),
        "K4 recall is given within an alert budget only: calling everything K4 would find all of them. The base rate "
        "is what drawing at random scores; volatility ranking sorts by 20-day volatility and nothing else.",
        "## What the signals were followed by",
        signal_table(report),
        "## The split",
        class_table(report),
        f"Test rows whose label is not known yet: {report['unlabelled_test_rows']}.",
        "## What leakage looks like",
        "The smallest model, trained twice on a part of these rows: on the split by date with purge, as above, and on "
        "one dealt at random, as is often done. It judges nothing here; it shows how a leak flatters.",
        demo_section(report.get("leak_demo") or {}),
        "## Propositions checked",
        verdict_table(report),
        "## Data and model",
        table(["what", "value"], [[k.replace("_", " "), v] for k, v in facts.items()]),
        "## Provenance",
        table(
            ["artifact", "fingerprint", "made by"],
            [[k, f"`{v[:16]}`", report.get("code", {}).get(k, "")] for k, v in report["provenance"].items()],
        ),
        table(["library", "version"], [[k, v] for k, v in report["versions"].items()]),
        "These numbers describe the past of one universe. They do not include costs, slippage or delisted names that "
        "the source never had, and no interval covers a change of regime.",
    ]
    return "\n\n".join(parts) + "\n"
