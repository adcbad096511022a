"""Writes a validation report as JSON, Markdown and one HTML page, with the Plotly library once beside all reports."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k4_pipeline.report.markdown_page import DOCS, markdown_page
from k4_pipeline.report.page import CARD_FILE, plotly_file, plotly_source, render_page
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


NOT_AUDITED = "These predictions were not audited yet (k4 audit)."
_PROOFS = re.compile(r'<p class="soft proofs">.*?</p>', re.DOTALL)


def with_proofs(page: str, words: str) -> str:
    """The page with a line below its title that says which proofs were made; an older line gives way."""
    line = f'<p class="soft proofs">{html.escape(words)}</p>'
    if _PROOFS.search(page):
        return _PROOFS.sub(lambda _: line, page, count=1)
    return page.replace("</h1>", f"</h1>\n{line}", 1)


def render_html(report: dict[str, Any], *, single_file: bool = False) -> str:
    """One page; with `single_file` the Plotly library is inside, else it is read from the folder above."""
    report = json_safe(report)
    kind, word = state(report)
    head = {"state": kind, "word": word, "lines": headline_lines(report), "next": next_steps(report)}
    title = f"K4 validation report, as of {report['as_of']}"
    linked = not single_file and model_card().is_file()
    sections = report_sections(report, linked=linked)
    page = render_page(title, sections, head, plotly_folder=None if single_file else "..")
    return with_proofs(page, NOT_AUDITED)


def model_card() -> Path:
    """The model card of a checkout."""
    return DOCS / "model-card.md"


def share_plotly(folder: Path) -> Path:
    """Put the Plotly library and the model card into `folder`, where the pages of its subfolders look for them.

    Written again if they were changed. Returns the place of the library.
    """
    beside = {plotly_file(): plotly_source().read_bytes()}
    if model_card().is_file():
        beside[CARD_FILE] = markdown_page(model_card(), alone=True).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, wanted in beside.items():
        if not (folder / name).is_file() or (folder / name).read_bytes() != wanted:
            atomic_write_bytes(folder / name, wanted)
    return folder / plotly_file()


def render_report(report: dict[str, Any], folder: Path) -> ReportFiles:
    """Write `report.json`, `report.md` and `report.html` into `folder` (made if missing), each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    files = ReportFiles(folder / "report.html", folder / "report.md", folder / "report.json")
    atomic_write_text(files.json, json.dumps(json_safe(report), indent=1, allow_nan=False))
    atomic_write_text(files.markdown, render_markdown(json_safe(report)))
    atomic_write_text(files.html, render_html(report))
    return files
