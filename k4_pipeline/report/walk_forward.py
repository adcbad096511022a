"""A walk-forward result as a Markdown page: what the model card shows."""

from __future__ import annotations

from typing import Any

from k4_pipeline.markdown import markdown_table

COLUMNS = {
    "k4_auc": "AUC",
    "k4_lift": "lift",
    "k4_recall_top_5pct_monthly": "r5",
    "k4_recall_top_10pct_monthly": "r10",
    "k4_auc_inside_volatility": "in vol",
    "log_loss": "log loss",
    "ev_correlation_pearson": "EV r",
    "k4_calibration_error": "ECE",
}
COMPARED = {
    "k4_lift": "lift",
    "k4_recall_top_10pct_monthly": "r10",
    "k4_auc_inside_volatility": "in vol",
    "log_loss": "log loss",
    "ev_correlation_pearson": "EV r",
}
LEGEND = (
    "r5, r10: share of the K4 in the top 5% and 10% of every month; lift: average precision over base rate; in vol: "
    "K4 AUC inside 20 bins of 60-day volatility; EV r: correlation of EV with the realised value; ECE: calibration "
    "error of P(K4). Log loss and ECE: less is better. Intervals are 95%, from draws of whole tickers and months."
)


def methods_in(part: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every method of a part by name: the model first, the best possible last."""
    best = {"best_possible": part["best_possible"]} if "best_possible" in part else {}
    return {"model": part["model"], **part["baselines"], **best}


def page(result: dict[str, Any], title: str = "Walk-forward") -> str:
    """The whole result: pooled table, differences, promises, months, then every as-of date."""
    pooled, settings = result["pooled"], result["settings"]
    span = f"as of {settings['from']} to {settings['to']}, every {settings['every_months']} months"
    lines = [f"# {title}", f"{span}; trial {result['trials']} on these bars. {LEGEND}", ""]
    if "answer" in result:
        lines += [result["answer"], ""]
    lines += [*_together(pooled), *_kept_promises(result["partitions"])]
    for part in result["partitions"]:
        lines += ["", *_part(f"As of {part['as_of']}", part)]
    return "\n".join([*lines, "", "## Months", "", _months(pooled), ""])


def pooled_page(found: dict[str, Any]) -> str:
    """The pooled rows of the stored reports (`pooled`, `promises`, `left_out`)."""
    lines = (
        [f"Left out, since their bars, settings or code have changed: {', '.join(found['left_out'])}", ""]
        if found["left_out"]
        else []
    )
    if found["pooled"]:
        lines += _together(found["pooled"])
    return "\n".join([*lines, *_kept_promises(found["promises"]), "", LEGEND])


def _together(pooled: dict[str, Any]) -> list[str]:
    lines = [" ".join(pooled["headline"]), "", *_part("All dates pooled", pooled)]
    if pooled["differences"]:
        lines += ["", "Model less method:", "", _differences(pooled)]
    return lines


def _kept_promises(partitions: list[dict[str, Any]]) -> list[str]:
    promises = [(p["as_of"], t) for p in partitions for t in p.get("promises", [])]
    lines = []
    if promises:
        lines += ["", "What was certified before, and what held afterwards:", "", _promises(promises)]
    none = [f"{p['as_of']}: {_why_none(p)}" for p in partitions if _why_none(p)]
    return [*lines, "", "  \n".join(none)] if none else lines


def _why_none(part: dict[str, Any]) -> str:
    return str(part.get("certificate", {}).get("why_none") or "")


def _part(title: str, part: dict[str, Any]) -> list[str]:
    rows = [
        [name.replace("_", " "), *(_figure(found.get(metric)) for metric in COLUMNS)]
        for name, found in methods_in(part).items()
    ]
    head = f"## {title}: {part['n']:,} rows, {part['n_k4']:,} K4"
    return [head, "", markdown_table(["method", *COLUMNS.values()], rows)]


def _figure(value: Any) -> str:
    return "" if value is None or value != value else f"{value:.3f}"


def _differences(pooled: dict[str, Any]) -> str:
    def cell(found: dict[str, Any] | None) -> str:
        if found is None or found["value"] is None or found["low"] is None:
            return ""
        return f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"

    rows = [
        [name.replace("_", " "), *(cell(found.get(metric)) for metric in COMPARED)]
        for name, found in pooled["differences"].items()
    ]
    return markdown_table(["method", *COMPARED.values()], rows)


def _promises(found: list[tuple[str, dict[str, Any]]]) -> str:
    words = {True: "yes", False: "no", None: "lower, which may be chance"}
    rows = [
        [
            as_of,
            t["tier"],
            f"{t['multiple']:g} times the base rate: {t['promised']:.1%}",
            f"{t['hits']} of {t['rows']}, at least {t['bound']:.1%}",
            f"{t['test_hits']} of {t['test_rows']}",
            words[t["kept"]],
        ]
        for as_of, t in found
    ]
    return markdown_table(["as of", "tier", "promised K4 rate", "certified on", "test rows", "kept"], rows)


def _months(pooled: dict[str, Any]) -> str:
    names = ["model", *pooled["baselines"]]
    rows = []
    for month in pooled["by_month"]:
        methods = month["methods"]
        recalls = [_figure(methods[n]["k4_recall"]) for n in names]
        losses = [_figure(methods[n].get("log_loss")) for n in ("model", "class_mix") if n in names]
        rows.append([month["month"], month["n"], month["n_k4"], *recalls, *losses])
    head = ["month", "rows", "K4", *(f"r10: {n.replace('_', ' ')}" for n in names)]
    head += [f"log loss: {n.replace('_', ' ')}" for n in ("model", "class_mix") if n in names]
    return markdown_table(head, rows)
