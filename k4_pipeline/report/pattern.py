"""The page of one pattern: chart and, where it was explained, reasons and similar rows. Computes nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from k4_pipeline.report import figures
from k4_pipeline.report.numbers import number
from k4_pipeline.report.page import Grid, Section, render_page
from k4_pipeline.report.render import share_plotly
from k4_pipeline.storage import atomic_write_text
from k4_pipeline.storage.json_values import json_safe

FOLDER = "patterns"


def pattern_sections(found: dict[str, Any]) -> list[Section]:
    """Chart first, then why."""
    chart = found["chart"]
    sections = [
        Section(
            "Chart", list(found["lines"]), figures=[figures.candles(chart, "Bars after the dotted line came later")]
        )
    ]
    if found.get("reasons"):
        rows = [[r["name"], number(r["contribution"], "{:+.3f}"), r["in_words"]] for r in found["reasons"]]
        sanity = found["sanity"]
        note = (
            f"Shapley values of the log odds of K4 against an average training row. They "
            f"{'add up' if sanity['adds_up'] else 'DO NOT add up'} (off by {sanity['sum_misses_by']:.1e}); two "
            f"estimates correlate at {number(sanity['two_estimates_correlate'], '{:.2f}')}. They say what the model "
            "used, not what causes breakouts."
        )
        sections.append(
            Section("What moved it most", tables=[Grid(["feature", "contribution", "in words"], rows)], notes=[note])
        )
        near = [
            [r["ticker"], r["snapshot_date"], r["outcome"], number(r["distance"], "{:.2f}")]
            for r in found["neighbours"]
        ]
        sections.append(
            Section(
                "Most similar training rows",
                tables=[Grid(["ticker", "day", "what followed", "distance"], near)],
                notes=["Distance over all 69 channels of the last bar, in standard deviations."],
            )
        )
    return sections


def write_pattern_page(found: dict[str, Any], reports: Path) -> Path:
    """`reports/patterns/TICKER-DATE.html`, with the shared Plotly file beside the reports."""
    share_plotly(reports)
    found = json_safe(found)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{found['chart']['ticker']}-{found['chart']['snapshot']}")
    path = reports / FOLDER / f"{name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    title = f"{found['chart']['ticker']}, {found['chart']['snapshot']}"
    atomic_write_text(path, render_page(title, pattern_sections(found)))
    return path
