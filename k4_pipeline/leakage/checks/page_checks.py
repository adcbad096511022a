"""Whether a reader of the pages sees the numbers of report.json: every table of the Markdown page, and the HTML page,
which has to hold the same tables.
"""

from __future__ import annotations

import dataclasses
import html
import html.parser
import json
import re
from collections.abc import Iterator
from typing import Any

from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison
from k4_pipeline.verdict import Verdict

FORMS = ("{:.3f}", "{:.1%}", "{:.2f}", "{:.2%}", "{:.4f}", "{:+.3f}", "{:+.2f}", "{:+.2%}", "{:+.1%}", "{:,}")
# Titles of the page and what each stands for, written down a second time.
TITLES = {
    "K4 AUC": "k4_auc",
    "K4 average precision": "k4_average_precision",
    "K4 recall in the top 5%": "k4_recall_top_5pct",
    "K4 recall in the top 10%": "k4_recall_top_10pct",
    "K4 precision in the top 5%": "k4_precision_top_5pct",
    "K4 recall in the monthly top 10%": "k4_recall_top_10pct_monthly",
    "K4 lift in the monthly top 5%": "k4_lift_top_5pct_monthly",
    "K4 lift in the top 5%": "k4_lift_top_5pct",
    "EV correlation (Pearson)": "ev_correlation_pearson",
    "EV correlation (Spearman)": "ev_correlation_spearman",
    "log loss": "log_loss",
    "Brier score": "brier",
    "K4 calibration error": "k4_calibration_error",
}
COLUMNS = {
    "test rows": "count",
    "mean realised value": "mean_realised_value",
    "K4 share": "k4_share",
    "K5 share": "k5_share",
    "rows": "rows",
    "labelled": "labelled",
    "K4 rows": "k4",
}
_NUMBER = r"[-+]?[0-9][0-9,]*\.?[0-9]*%?|n/a"
_THREE = re.compile(rf"^({_NUMBER})\s*\(({_NUMBER}) to ({_NUMBER})\)$")
_AND_DIFFERENCE = re.compile(rf"^({_NUMBER})(?: \(({_NUMBER})\s+({_NUMBER}) to ({_NUMBER})\))?$")
_AND_NAME = re.compile(rf"^({_NUMBER}) \((.+)\)$")
Pair = tuple[str, str, Any]  # where, as printed, as in report.json


def prints(text: str, value: Any) -> bool:
    """Whether a printed number is this value in one of the formats of the page."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return text in ("n/a", "")
    return any(form.format(value) == text for form in (FORMS if isinstance(value, float) else FORMS[-1:]))


def tables_of(page: str) -> list[list[list[str]]]:
    """The tables of a Markdown page: rows of cells, the heading first."""
    found: list[list[list[str]]] = [[]]
    for line in page.splitlines():
        if not line.startswith("|"):
            found += [[]] * bool(found[-1])
        elif not set(line) <= set("|-: "):
            cells = re.split(r"(?<!\\)\|", line.strip()[1:-1])
            found[-1] = [*found[-1], [re.sub(r"[*`]", "", c).strip() for c in cells]]
    return [table for table in found if table]


class PageTables(html.parser.HTMLParser):
    """The tables of an HTML page, and the word of its headline."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.word, self._in, self._in_word = "", False, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._in = True
        self._in_word = tag == "span" and ("class", "word") in attrs

    def handle_endtag(self, tag: str) -> None:
        self._in = self._in and tag not in ("td", "th")
        self._in_word = False

    def handle_data(self, data: str) -> None:
        if self._in:
            self.tables[-1][-1][-1] += f" {data} "
        if self._in_word:
            self.word += data


def _bare(table: list[list[str]]) -> list[list[str]]:
    """What stands in the cells, without the marks of either format."""
    return [[re.sub(r"[^0-9A-Za-z.%+-]", "", html.unescape(cell)) for cell in row] for row in table]


def _file(context: AuditContext, name: str) -> str:
    changed = context.extra.get("pages", {}).get(name)
    return changed if changed is not None else context.extra["refs"]["validation_report"].path(name).read_text()


def pairs(table: list[list[str]], report: dict[str, Any]) -> Iterator[Pair]:
    """Every printed number of a table that is found by its title, with what report.json has."""
    head, metrics = table[0], report["metrics"]
    if head[:3] == ["metric", "model", "base rate"]:
        for cells in table[1:]:
            name = TITLES.get(re.sub(r"\s*\(lower is better\)", "", cells[0]), "")
            if name in metrics["model"]:
                yield from _of_the_model(cells, name, metrics)
    elif head[0] == "metric":
        for cells in table[1:]:
            for title, cell in zip(head[1:], cells[1:]):
                method, name = title.replace(" ", "_"), TITLES.get(cells[0], "")
                found = _AND_DIFFERENCE.match(cell)
                if found and name in metrics["baselines"].get(method, {}):
                    held, against = metrics["baselines"][method][name], metrics["differences"][method].get(name, {})
                    values = (held["value"], *(against.get(k) for k in ("value", "low", "high")))
                    yield from ((f"{name} of {method}", t, v) for t, v in zip(found.groups(), values) if t)
    for key, rows, title in (
        ("signal", metrics["signals"], "signal"),
        ("signal", metrics["tiers"], "tier"),
        ("split", report["classes"], "split"),
    ):
        if head[0] == title and head[1] in ("test rows", "rows"):
            stored = {row[key]: row for row in rows}
            for cells in table[1:]:
                for column, cell in zip(head[1:], cells[1:]):
                    if column in COLUMNS and cells[0] in stored:
                        yield f"{column} of {cells[0]}", cell, stored[cells[0]][COLUMNS[column]]


def _of_the_model(cells: list[str], name: str, metrics: dict[str, Any]) -> Iterator[Pair]:
    metric, found = metrics["model"][name], _THREE.match(cells[1])
    texts = found.groups() if found else (cells[1],)
    yield from ((f"{name}, {what}", t, metric[what]) for what, t in zip(("value", "low", "high"), texts))
    yield f"{name}, base rate", cells[2], metric["base_rate"]
    strongest = _AND_NAME.match(cells[3]) if len(cells) > 3 else None
    if strongest:
        method = strongest[2].replace(" ", "_")
        yield f"{name} of {method}", strongest[1], metrics["baselines"][method][name]["value"]
        against, found = metrics["differences"][method].get(name, {}), _THREE.match(cells[4])
        if found and against:
            yield from (
                (f"{name} less {method}", t, against[k]) for t, k in zip(found.groups(), ("value", "low", "high"))
            )


def _page_with(context: AuditContext, name: str, old: str, new: str) -> AuditContext:
    pages = {**context.extra.get("pages", {}), name: re.sub(old, new, _file(context, name))}
    return dataclasses.replace(context, extra={**context.extra, "pages": pages})


def _upper_bound_as_value(context: AuditContext) -> AuditContext:
    """Every value of the Markdown page replaced by the upper end of its interval, and one that nothing resembles."""
    changed = _page_with(context, "report.md", r"\| ([-+0-9.%]+) \(([-+0-9.%]+) to ([-+0-9.%]+)\)", r"| \3 (\2 to \3)")
    return _page_with(changed, "report.md", r"(\| log loss[^|]*\|) [-+0-9.]+", r"\1 9.999")


def _other_html(context: AuditContext) -> AuditContext:
    """One digit of a table of the HTML page."""
    return _page_with(context, "report.html", r"(<td[^>]*>)([0-9]\.[0-9]{2})([0-9])", r"\g<1>\g<2>99")


def _fewer_signals(context: AuditContext) -> AuditContext:
    return _page_with(context, "report.md", r"(?m)^(\| AVOID \|) [0-9,]+", r"\1 999,999")


@check(
    "report",
    proves="Every number in the tables of metrics, baselines, signals, tiers and classes of the page is that of "
    "report.json, found by title, and the HTML page holds the same tables; it says passed only of a report that did.",
    misses="Plots and sentences.",
    needs=("stored", "metrics"),
    reads_files=True,
    corruptions=(_upper_bound_as_value, _other_html, _fewer_signals),
)
def the_page_prints_the_numbers_of_the_report(context: AuditContext) -> Verdict:
    """Read the tables of both pages and look each number up."""
    out, report = Comparison(), json.loads(_file(context, "report.json"))
    tables = tables_of(_file(context, "report.md"))
    for table in tables:
        for where, text, value in pairs(table, report):
            wrong = not prints(text, value)
            out.add(1, int(wrong), [f"page: {where} is printed as {text}, report.json has {value}"] * wrong)
    parsed = PageTables()
    parsed.feed(_file(context, "report.html"))
    on_page, in_text = [_bare(t) for t in parsed.tables], [_bare(t) for t in tables]
    for drawn, written in zip(on_page, in_text):
        wrong = drawn != written
        differing = next((a for a, b in zip(drawn, written) if a != b), [])
        out.add(1, int(wrong), [f"HTML page: another row than in report.md: {differing[:3]}"] * wrong)
    wrong = len(on_page) != len(in_text)
    out.add(1, int(wrong), [f"HTML page: {len(on_page)} tables, report.md has {len(in_text)}"] * wrong)
    good = bool(report["passed"]) and all(t["passed"] for t in report["integrity"])
    wrong = parsed.word.strip().lower() == "passed" and not good
    out.add(1, int(wrong), ["HTML page: it says passed, report.json does not"] * wrong)
    return verdict_of(out, tables=len(tables))
