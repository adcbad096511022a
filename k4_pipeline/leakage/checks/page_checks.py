"""Whether a reader of the page sees the numbers of report.json: the printed value is the value, not its upper bound."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison
from k4_pipeline.verdict import Verdict

FORMS = ("{:.3f}", "{:.1%}", "{:.2f}", "{:.2%}", "{:.4f}", "{:+.3f}", "{:+.2f}", "{:+.2%}", "{:+.1%}")
# Titles of the page and what each stands for, written down a second time.
TITLES = {
    "K4 AUC": "k4_auc",
    "K4 average precision": "k4_average_precision",
    "K4 recall in the top 5%": "k4_recall_top_5pct",
    "K4 recall in the top 10%": "k4_recall_top_10pct",
    "K4 precision in the top 5%": "k4_precision_top_5pct",
    "K4 lift in the top 5%": "k4_lift_top_5pct",
    "EV correlation (Pearson)": "ev_correlation_pearson",
    "EV correlation (Spearman)": "ev_correlation_spearman",
    "log loss": "log_loss",
    "Brier score": "brier",
    "K4 calibration error": "k4_calibration_error",
}
_WITH_INTERVAL = re.compile(r"^([-+0-9.%]+)\s*\(([-+0-9.%]+) to ([-+0-9.%]+)\)$")


def _prints(text: str, value: Any) -> bool:
    """Whether a printed number is this value in one of the formats of the page."""
    if not isinstance(value, (int, float)):
        return text in ("n/a", "")
    return any(form.format(value) == text for form in FORMS)


def _page(context: AuditContext) -> str:
    page = context.extra.get("page")
    return page if page is not None else context.extra["refs"]["validation_report"].path("report.md").read_text()


def _upper_bound_as_value(context: AuditContext) -> AuditContext:
    """Every value of the page replaced by the upper end of its interval."""
    page = re.sub(r"\| ([-+0-9.%]+) \(([-+0-9.%]+) to ([-+0-9.%]+)\)", r"| \3 (\2 to \3)", _page(context))
    page += (
        "\n| metric | model | base rate |\n| log loss | 9.999 (9.998 to 9.999) | 0.000 |\n"  # were all of them points
    )
    return dataclasses.replace(context, extra={**context.extra, "page": page})


@check(
    "report",
    proves="On the page every metric of the model, its interval and its base rate are those of report.json, found by "
    "title.",
    misses="Plots, and the arrangement of the HTML page, which is made of the same tables.",
    needs=("stored", "metrics"),
    corruptions=(_upper_bound_as_value,),
)
def the_page_prints_the_numbers_of_the_report(context: AuditContext) -> Verdict:
    """Read the tables of the Markdown page and look each number up."""
    out = Comparison()
    report = json.loads(context.extra["refs"]["validation_report"].path("report.json").read_text())
    comparison = False  # the one table whose rows are metrics and whose second column is the model
    for line in _page(context).splitlines():
        if line.startswith("| metric |") or not line.startswith("|"):
            comparison = line.startswith("| metric | model | base rate |")
        if not comparison:
            continue
        cells = [re.sub(r"[*`]", "", c).strip() for c in line.strip("|").split("|")]
        title = re.sub(r"\s*\(lower is better\)", "", cells[0])
        metric = report["metrics"]["model"].get(TITLES.get(title, ""))
        if metric is None or len(cells) < 3:
            continue
        found = _WITH_INTERVAL.match(cells[1])
        shown = found.groups() if found else (cells[1],)
        for what, text in zip(("value", "low", "high"), shown):
            wrong = not _prints(text, metric[what])
            out.add(
                1, int(wrong), [f"page: {title}: {what} is printed as {text}, report.json has {metric[what]}"] * wrong
            )
        wrong = not _prints(cells[2], metric["base_rate"])
        text = f"page: {title}: base rate is printed as {cells[2]}, report.json has {metric['base_rate']}"
        out.add(1, int(wrong), [text] * wrong)
    return verdict_of(out)
