"""The validation report as Markdown, from the dict of `evaluation.validation.build_validation`. Computes nothing."""

from __future__ import annotations

import html
from typing import Any

from k4_pipeline.markdown import markdown_table
from k4_pipeline.report.page import Grid, Section
from k4_pipeline.report.sections import demo_lines, report_sections, signal_grid
from k4_pipeline.report.summary import headline, next_steps


def escaped(value: Any) -> str:
    """A value as inert text: no HTML, no cell border, no line break."""
    return html.escape(str(value), quote=False).replace("|", "\\|").replace("\n", " ")


def _cell(cell: Any) -> str:
    if isinstance(cell, dict):
        return escaped(cell["text"]) + (f" ({escaped(cell['small'])})" if cell.get("small") else "")
    return escaped(cell)


def table(grid: Grid) -> str:
    """A grid as a Markdown table."""
    lines = markdown_table([escaped(h) for h in grid.header], [[_cell(c) for c in row] for row in grid.rows])
    return (f"**{escaped(grid.title)}**\n\n" if grid.title else "") + lines


def signal_table(report: dict[str, Any]) -> str:
    """What each signal was followed by."""
    return table(signal_grid(report))


def demo_section(demo: dict[str, Any]) -> str:
    """What leakage looks like, or why it is not shown."""
    lines, grids = demo_lines(demo)
    return "\n\n".join([*map(escaped, lines), *map(table, grids)])


def _section(section: Section) -> str:
    parts = [
        f"## {escaped(section.title)}",
        *(escaped(line) for line in section.lead if line),
        *map(table, section.tables),
    ]
    parts += [
        f"- **{escaped(c['title'])}**: {escaped(c['line'])} {escaped(c['reasons'])}".rstrip() for c in section.cards
    ]
    for group in section.groups:
        parts += [f"### {escaped(group['title'])}", table(group["table"])]
    return "\n\n".join([*parts, *map(escaped, section.notes)])


def render_markdown(report: dict[str, Any]) -> str:
    """The whole report as Markdown."""
    todo = "\n".join(f"- {escaped(step)}" for step in next_steps(report))
    parts = [f"# Validation report, as of {escaped(report['as_of'])}", escaped(headline(report))]
    parts += [f"**What to do next**\n\n{todo}", *map(_section, report_sections(report))]
    return "\n\n".join(parts) + "\n"
