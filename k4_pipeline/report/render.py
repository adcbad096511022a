"""Writes a validation report as JSON, Markdown and one HTML page, with the Plotly library once beside all reports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k4_pipeline.report.page import plotly_file, plotly_source, render_page
from k4_pipeline.report.sections import report_sections
from k4_pipeline.report.summary import headline_lines, next_steps, state
from k4_pipeline.report.text import render_markdown
from k4_pipeline.storage import atomic_write_bytes, atomic_write_text
from k4_pipeline.storage.json_values import json_safe


@dataclass(frozen=True)
class ReportFiles:
    """Paths of what was written."""

    html: Path
    markdown: Path
    json: Path


def render_html(report: dict[str, Any], *, single_file: bool = False) -> str:
    """One page; with `single_file` the Plotly library is inside, else it is read from the folder above."""
    report = json_safe(report)
    kind, word = state(report)
    head = {"state": kind, "word": word, "lines": headline_lines(report), "next": next_steps(report)}
    title = f"K4 validation report, as of {report['as_of']}"
    return render_page(title, report_sections(report), head, plotly_folder=None if single_file else "..")


def share_plotly(folder: Path) -> Path:
    """Put the Plotly library into `folder`, where the pages of its subfolders look for it; again if it was changed."""
    target, wanted = folder / plotly_file(), plotly_source().read_bytes()
    if not target.is_file() or target.read_bytes() != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(target, wanted)
    return target


def render_report(report: dict[str, Any], folder: Path) -> ReportFiles:
    """Write `report.json`, `report.md` and `report.html` into `folder` (made if missing), each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    files = ReportFiles(folder / "report.html", folder / "report.md", folder / "report.json")
    atomic_write_text(files.json, json.dumps(json_safe(report), indent=1, allow_nan=False))
    atomic_write_text(files.markdown, render_markdown(json_safe(report)))
    atomic_write_text(files.html, render_html(report))
    return files
