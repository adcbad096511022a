"""Writes a validation report as JSON, Markdown and one self-contained HTML page. Computes nothing."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import markdown

from k4_pipeline.report.plots import all_plots
from k4_pipeline.report.text import headline, render_markdown
from k4_pipeline.storage import atomic_write_text

STYLE = """
:root { color-scheme: light; --ink:#1b2733; --soft:#5b6874; --line:#dde3e8; --ok:#2e7d4f; --bad:#b3261e; }
body { font: 15px/1.55 system-ui, sans-serif; color: var(--ink); }
body { max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .3rem; } h2 { margin-top: 2.2rem; font-size: 1.2rem; }
.banner { padding: .9rem 1.1rem; border-radius: 8px; color: #fff; background: var(--bad); }
.banner.ok { background: var(--ok); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .8rem 0; font-size: 13.5px; }
th, td { border-bottom: 1px solid var(--line); padding: .32rem .7rem .32rem 0; text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; } td { font-variant-numeric: tabular-nums; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(440px, 1fr)); gap: 8px; margin: 1.2rem 0; }
.plots > div { min-width: 0; overflow: hidden; }
code { font-size: 12.5px; color: var(--soft); }
"""


@dataclass(frozen=True)
class ReportFiles:
    """Paths of what was written."""

    html: Path
    markdown: Path
    json: Path


def json_safe(value: Any) -> Any:
    """NaN and infinity become null, so that any JSON reader takes the file."""
    if isinstance(value, dict):
        return {str(k): json_safe(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def render_html(report: dict[str, Any]) -> str:
    """One page with its plots inside; opens without a network."""
    body = markdown.markdown(render_markdown(report), extensions=["tables"])
    body = body.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    title, _, rest = body.partition("</h1>")
    _, _, rest = rest.partition("</p>")
    plots = "".join(
        f"<div>{figure.to_html(full_html=False, include_plotlyjs=i == 0, config={'responsive': True})}</div>"
        for i, figure in enumerate(all_plots(report))
    )
    state = "ok" if report["passed"] else ""
    word = "PASSED" if report["passed"] else "NOT PASSED"
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>K4 validation {report['as_of']}</title>"
        f"<meta name='viewport' content='width=device-width'><style>{STYLE}</style></head><body>{title}</h1>"
        f"<div class='banner {state}'><b>{word}.</b> {headline(report)}</div><div class='plots'>{plots}</div>{rest}"
        "</body></html>"
    )


def render_report(report: dict[str, Any], folder: Path) -> ReportFiles:
    """Write `report.json`, `report.md` and `report.html` into `folder` (made if missing), each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    files = ReportFiles(folder / "report.html", folder / "report.md", folder / "report.json")
    atomic_write_text(files.json, json.dumps(json_safe(report), indent=1, allow_nan=False))
    atomic_write_text(files.markdown, render_markdown(report))
    atomic_write_text(files.html, render_html(report))
    return files
