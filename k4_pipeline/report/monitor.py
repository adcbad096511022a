"""The monitor page: what was said against what came, with certificates, intervals and drift. Computes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from k4_pipeline.report.figures import BAD, GOOD, GREY, MODEL, axis, curve, figure
from k4_pipeline.report.numbers import number
from k4_pipeline.report.page import Grid, Section, render_page
from k4_pipeline.report.render import share_plotly
from k4_pipeline.storage import atomic_write_text
from k4_pipeline.storage.json_values import json_safe

FOLDER = "monitor"
MONTHS = axis("", type="category")  # names, not the first days of months
HOLDS = {None: "none", True: "not refuted", False: "REFUTED"}


def _bars(values: list[float | None], low: list[float | None], high: list[float | None]) -> dict[str, Any]:
    up = [None if v is None or h is None else h - v for v, h in zip(values, high)]
    down = [None if v is None or w is None else v - w for v, w in zip(values, low)]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1}


def hit_rates(shown: dict[str, Any]) -> dict[str, Any] | None:
    """Hit rate of each tier with its interval, beside what was certified."""
    rows = [t for t in shown["tiers"] if t["n"]]
    if not rows:
        return None
    names, rate = [f"{t['tier']} ({t['hits']} of {t['n']})" for t in rows], [t["hit_rate"] for t in rows]
    error = _bars(rate, [t["low"] for t in rows], [t["high"] for t in rows])
    data = [
        {"type": "bar", "name": "hit rate (95%)", "x": names, "y": rate, "error_y": error, "marker": {"color": MODEL}}
    ]
    promised = [t["certified"] for t in rows]
    if any(promised):
        data.append(
            curve(
                "certified",
                names,
                promised,
                BAD,
                mode="markers",
                marker={"symbol": "line-ew-open", "size": 34, "line": {"width": 3}},
            )
        )
    note = "One row per pattern and tier. Red lines: the precision that was certified before the model served."
    return figure("Hit rate by tier against its certificate", data, "", "share of K4", note)


def calibration(shown: dict[str, Any]) -> dict[str, Any] | None:
    """Claimed against realised share of K4."""
    rows = shown["calibration"]
    if not rows:
        return None
    claimed, realised = [r["claimed"] for r in rows], [r["realised"] for r in rows]
    top = max(claimed + [r["high"] for r in rows])
    error = _bars(realised, [r["low"] for r in rows], [r["high"] for r in rows])
    data = [
        curve("as claimed", [0, top], [0, top], GREY, line={"color": GREY, "dash": "dot"}),
        curve("realised (95%)", claimed, realised, MODEL, mode="markers", error_y=error),
    ]
    return figure(
        "Calibration", data, "P(K4) claimed", "share of K4 realised", "Groups of equal size by claimed P(K4)."
    )


def by_month(shown: dict[str, Any]) -> list[dict[str, Any]]:
    """Expected value, K4 share and recall by month: claimed in the night, realised later."""
    rows = shown["months"]
    if not rows:
        return []
    months = [m["month"] for m in rows]

    def pair(title: str, unit: str, claimed: str, realised: str, note: str = "") -> dict[str, Any]:
        values = [m[realised] for m in rows]
        more: dict[str, Any] = {}
        if f"{realised}_low" in rows[0]:
            more["error_y"] = _bars(values, [m[f"{realised}_low"] for m in rows], [m[f"{realised}_high"] for m in rows])
        lines = [
            curve("claimed", months, [m[claimed] for m in rows], GREY, mode="lines+markers"),
            curve("realised", months, values, MODEL, mode="lines+markers", **more),
        ]
        return figure(title, lines, "", unit, note, xaxis=MONTHS)

    return [
        pair(
            "Expected value by month of the night",
            "strategic value",
            "ev_claimed",
            "ev_realised",
            "95% by whole tickers",
        ),
        pair("K4 by month of the night", "share of K4", "k4_claimed", "k4_realised", "95% by whole tickers"),
        pair(
            "Recall of K4 in the best tenth of each month",
            "share of the K4 caught",
            "k4_recall_top_10pct_expected",
            "k4_recall_top_10pct",
            "Claimed: what calibrated probabilities promise before any label is known.",
        ),
    ]


def drift(shown: dict[str, Any]) -> dict[str, Any] | None:
    """Drift by month of the night."""
    rows = shown.get("drift_months") or []
    if not rows:
        return None
    months = [m["month"] for m in rows]
    names = {
        "domain_auc": ("classifier's AUC", MODEL),
        "psi_mean": ("mean PSI", GOOD),
        "p_k4_psi": ("PSI of P(K4)", GREY),
        "outside_frac": ("share refused", BAD),
    }
    lines = [
        curve(title, months, [m.get(key) for m in rows], colour, mode="lines+markers")
        for key, (title, colour) in names.items()
    ]
    note = "Known in the night itself; compare with what came of that month."
    return figure("Drift by month of the night", lines, "", "", note, xaxis=MONTHS)


def monitor_sections(shown: dict[str, Any]) -> list[Section]:
    """Tiers and calibration, months, drift."""
    lead = [
        f"{shown['rows']:,} signals given from {shown['first_night']} to {shown['last_night']}, "
        f"{shown['matured']:,} with a known "
        "outcome."
    ]
    waiting = shown["waiting"]
    if waiting and waiting["n"]:
        lead.append(
            f"{waiting['n']:,} wait for their outcome; their own probabilities promise "
            f"{waiting['n_k4_expected']:.1f} K4 and a mean "
            f"value of {waiting['ev_expected']:.2f}."
        )
    if not shown["matured"]:
        lead.append("No label is known yet: it takes the whole horizon after the night of the signal.")
    tiers = [
        [
            t["tier"],
            str(t["n"]),
            str(t["hits"]),
            _span(t["hit_rate"], t["low"], t["high"], "{:.1%}"),
            number(t["certified"], "{:.1%}") if t["certified"] else "-",
            {"text": HOLDS[t["claim_holds"]], "small": f"{t['hits_judged']} of {t['n_judged']}"}
            if t["n_judged"]
            else HOLDS[t["claim_holds"]],
        ]
        for t in shown["tiers"]
    ]
    months = [
        [
            m["month"],
            str(m["n"]),
            str(m["n_k4"]),
            number(m["k4_claimed"], "{:.1%}"),
            number(m["ev_claimed"], "{:+.2f}"),
            _span(m["ev_realised"], m["ev_realised_low"], m["ev_realised_high"], "{:+.2f}"),
            number(m.get("drift", {}).get("domain_auc"), "{:.2f}"),
        ]
        for m in shown["months"]
    ]
    refused = [
        [
            r["rows"],
            str(r["n"]),
            str(r["hits"]),
            number(r["ev_claimed"], "{:+.2f}"),
            number(r["ev_realised"], "{:+.2f}"),
        ]
        for r in shown["refusals"]
    ]
    headings = ["month", "signals", "K4", "K4 claimed", "EV claimed", "EV realised (95%)", "drift (AUC)"]
    return [
        Section(
            "Tiers and certificates",
            lead,
            [Grid(["tier", "patterns", "K4", "hit rate (95%)", "certified", "this tier or better"], tiers)]
            if tiers
            else [],
            [f for f in (hit_rates(shown), calibration(shown)) if f],
            notes=[
                "A certificate speaks of its tier or better under the champion that serves. It is refuted by a "
                "sequential test that may be looked at every night: over all nights and tiers together it raises a "
                "false alarm with probability 5%, where the patterns of one night tell nothing about the next."
            ],
        ),
        Section("By month", [], [Grid(headings, months)] if months else [], by_month(shown)),
        Section(
            "Drift and refusals",
            [],
            [Grid(["rows", "patterns", "K4", "EV claimed", "EV realised"], refused)] if refused else [],
            [f for f in (drift(shown),) if f],
        ),
    ]


def _span(value: Any, low: Any, high: Any, form: str) -> Any:
    return (
        {"text": number(value, form), "small": f"{number(low, form)} to {number(high, form)}"}
        if value is not None
        else "-"
    )


def write_monitor_page(shown: dict[str, Any], reports: Path) -> Path:
    """`reports/monitor/monitor.html`, with the shared Plotly file beside the reports."""
    share_plotly(reports)
    path = reports / FOLDER / "monitor.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, render_page("What was said, and what came", monitor_sections(json_safe(shown))))
    return path
