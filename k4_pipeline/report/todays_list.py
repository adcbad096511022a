"""The page of today's list: one card per row with levels, reasons, similar patterns and candlesticks. Computes
nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from k4_pipeline.report import figures
from k4_pipeline.report.numbers import number, price
from k4_pipeline.report.page import Grid, Section, render_page
from k4_pipeline.report.render import share_plotly
from k4_pipeline.storage import atomic_write_text
from k4_pipeline.storage.json_values import json_safe

FOLDER = "signals"


def list_sections(found: dict[str, Any]) -> list[Section]:
    """The table, then the cards; `found`: night, none_because, open, rows."""
    lead = [found["none_because"]] if found["none_because"] else []
    if not lead:
        lead = [
            f"{found['open']} patterns were open on {found['night']}; {found['left_out']} are left out by the filters, "
            f"{found['refused']} refused as too far outside what the champion was trained on."
        ]
        if found["rows"] and all(row["tier"] == "AVOID" for row in found["rows"]):
            lead.append("No pattern reaches a certified tier tonight: none of these is a reason to buy.")
        if not found["rows"]:
            lead.append("No row is left, so there is nothing to list: nothing is wrong.")
    table = [
        [
            row["ticker"],
            row["tier"],
            number(row["p_k4"], "{:.1%}"),
            number(row["ev"], "{:+.2f}"),
            price(row["entry"]),
            price(row["stop"]),
            f"{price(row['lower'])} to {price(row['upper'])}",
            number(row["dollar_volume"] / 1e6, "{:.1f} M"),
        ]
        for row in found["rows"]
    ]
    headings = ["ticker", "tier", "P(K4)", "EV", "entry", "stop", "box", "dollar volume a day"]
    sections = [Section("The list", lead, [Grid(headings, table)] if table else [])]
    if found["rows"]:
        notes = [
            "Reasons: what each channel adds to the raw P(K4) of an average train row, in points of probability. They "
            "say what the model used, not what causes breakouts. Similar patterns had ended before this night."
        ]
        sections.append(Section("Row by row", cards=[_card(row) for row in found["rows"]], notes=notes))
    return sections


def _card(row: dict[str, Any]) -> dict[str, Any]:
    line = (
        f"{row['tier']}, P(K4) {number(row['p_k4'], '{:.1%}')}, P(K5) {number(row['p_k5'], '{:.1%}')}, EV "
        f"{number(row['ev'], '{:+.2f}')}; {_levels(row)}."
    )
    said = "; ".join(r["in_words"] for r in row.get("reasons") or [])
    near = "; ".join(f"{s['ticker']} {s['snapshot_date']}: {s['outcome']}" for s in row.get("similar") or [])
    why = f"{said}. Most similar: {near}" if said and near else said
    title = f"{row['ticker']}, {row['snapshot_date']}"
    return {"title": title, "line": line, "figure": figures.candles(row["chart"], ""), "reasons": why}


def _levels(row: dict[str, Any]) -> str:
    """What to do at which price; of AVOID nothing is to be bought."""
    entry, stop = price(row["entry"]), price(row["stop"])
    if row["tier"] == "AVOID":
        return f"do nothing; a close above {entry} would be the breakout, the stop lies at {stop}"
    return f"buy above {entry}, stop {stop}"


def write_list_page(found: dict[str, Any], reports: Path) -> Path:
    """`reports/signals/signals.html`, with the shared Plotly file beside the reports."""
    share_plotly(reports)
    path = reports / FOLDER / "signals.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, render_page(f"Signals of {found['night']}", list_sections(json_safe(found))))
    return path
