"""The result of a suite of planted leaks as Markdown and in one line. Numbers come from the dict of `run_mutations`."""

from __future__ import annotations

from typing import Any

from k4_pipeline.leakage.engine.audit import load_checks

MARKS = ("<!-- {}: begin, generated -->", "<!-- {}: end -->")


def _cells(values: list[Any]) -> str:
    return "| " + " | ".join(str(v).replace("|", "\\|") for v in values) + " |"


def _table(header: list[str], rows: list[list[Any]]) -> str:
    return "\n".join([_cells(header), "|" + "---|" * len(header), *map(_cells, rows)])


def headline(result: dict[str, Any]) -> str:
    """One sentence with all counts."""
    text = (
        f"{result['detected']} of {result['planted']} planted leaks detected in every run "
        f"({result['detected_runs']} of {result['planted_runs']} runs; seeds {result['seeds']}; universes "
        f"{', '.join(result['universes'])}); {result['false_alarms']} false alarms in {result['clean_runs']} clean "
        f"runs and {result['benign_alarms']} in {result['benign_runs']} runs of benign mutants; "
        f"{result['seconds']:.0f} s"
    )
    if "cpu_seconds" in result:
        text += f" in {result['workers']} processes, {result['cpu_seconds']:.0f} s of processor time"
    if result["universes_left_out"]:
        text += f"; left out, because it cannot be made here: {', '.join(result['universes_left_out'])}"
    return text + "."


def detection_matrix(result: dict[str, Any]) -> str:
    """One row per mutation: in how many of its runs it was detected, and by which checks."""
    rows = []
    for row in result["by_mutation"]:
        fired = ", ".join(f"`{name}`" for name in row["fired"]) or "**none**"
        rows.append(
            [
                row["stage"],
                f"`{row['name']}`: {row['description']}",
                f"{row['detected']}/{row['runs']}"
                if row["detected"] == row["runs"]
                else f"**{row['detected']}/{row['runs']}**",
                len(row["fired"]) if row["all_checks_run"] else "",
                fired,
            ]
        )
    return _table(["stage", "planted leak", "detected", "checks that fire", "which"], rows)


def check_table(result: dict[str, Any]) -> str:
    """One row per check: mutations it noticed (where all checks were run), and its mean time."""
    whole = [row for row in result["by_mutation"] if row["all_checks_run"]]
    alone = {row["fired"][0] for row in whole if len(row["fired"]) == 1}
    rows: list[list[Any]] = []
    for name, seconds in result["seconds_per_check"].items():
        noticed = sum(name in row["fired"] for row in whole)
        rows.append([f"`{name}`", noticed, "yes" if name in alone else "", f"{seconds:.2f}"])
    rows.sort(key=lambda r: -r[1])
    return _table(["check", f"notices, of {len(whole)}", "the only one for some leak", "mean seconds"], rows)


def to_markdown(result: dict[str, Any]) -> str:
    """The published part of docs/leakage.md."""
    parts = [headline(result), detection_matrix(result), "Power and cost of each check:", check_table(result)]
    if result["not_detected"]:
        parts.append("Not detected: " + ", ".join(result["not_detected"]) + ".")
    if result["alarms"]:
        lines = [f"- {a['what']} {a['leak']} on {a['universe']}: {a['findings']}" for a in result["alarms"]]
        parts.append("False alarms:\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def checks_in_words() -> str:
    """What each check of the audit proves and what it does not, from the registry."""
    checks = sorted(load_checks().values(), key=lambda item: (item.stage, item.name))
    rows = [[item.stage, f"`{item.name}`", item.proves, item.misses] for item in checks]
    return _table(["stage", "check", "proves", "does not see"], rows) + "\n"


def published(document: str, part: str, text: str) -> str:
    """`document` with the generated `part` between its two marks replaced by `text`; `ValueError` without the marks."""
    begin, end = (mark.format(part) for mark in MARKS)
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the document lacks the marks {begin} and {end}")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"
