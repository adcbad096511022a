"""The result of a run: collected from the store as plain JSON, and shown in a dozen lines that fit 80 columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from k4_pipeline.cli.common import out_console, print_json
from k4_pipeline.config import BUYS
from k4_pipeline.report import summary
from k4_pipeline.report.numbers import METRICS, baselines, finite, number, price, titled
from k4_pipeline.settings import Settings
from k4_pipeline.storage import ArtifactStore, read_parquet

if TYPE_CHECKING:
    from k4_pipeline.defs.run import RunOutcome

SIGNAL_COLUMNS = ("signal", "tier", "ticker", "snapshot_date", "ev", "p_4", "p_5", "power", "stop", "lower")


def collect_result(settings: Settings, as_of: str | None, outcome: RunOutcome, log: Path) -> dict[str, Any]:
    """Everything a program may want to know of the run; metrics and signals only when it succeeded."""
    missed = [c for c in outcome.checks if not c.passed]
    result: dict[str, Any] = {
        "success": outcome.success,
        "as_of": as_of,
        "home": str(settings.home),
        "runs": outcome.run_ids,
        "errors": outcome.errors,
        "checks": {
            "passed": sum(c.passed for c in outcome.checks),
            "failed": [f"{c.asset}: {c.check}" for c in missed if not summary.lacks_evidence(c.description)],
            "not_enough_evidence": [f"{c.asset}: {c.check}" for c in missed if summary.lacks_evidence(c.description)],
            "reasons": {f"{c.asset}: {c.check}": c.description for c in missed},
        },
        "log": str(log),
    }
    if not outcome.success or as_of is None:
        return result
    store = ArtifactStore(settings.artifacts_dir)
    report = json.loads(store.current("validation_report", as_of).path("report.json").read_text())
    champion = store.current("champion_model")
    return {
        **result,
        "data": report["data"],
        "classes": report["classes"],
        "metrics": report["metrics"],
        "certificate": report["certificate"],
        "tier_values": report["tier_values"],
        "integrity": report["integrity"],
        "trading": {k: v for k, v in (report.get("trading") or {}).items() if k != "curves"},
        "headline": summary.headline_lines(report),
        "next": summary.next_steps(report),
        "champion": {
            **json.loads(champion.path("champion.json").read_text()),
            "why": champion.meta["history"][-1]["why"],
        },
        "signals": read_signals(store),
        "report": str(settings.reports_dir / as_of / "report.html"),
    }


def read_signals(store: ArtifactStore) -> list[dict[str, Any]]:
    """Today's signals, best first, as plain JSON."""
    table = read_parquet(store.current("signals").path("signals.parquet"))
    columns = [c for c in SIGNAL_COLUMNS if c in table]
    return json.loads(table[columns].to_json(orient="records", date_format="iso"))


def deliver(result: dict[str, Any], command: str, *, as_json: bool) -> None:
    """Print what a run of the graph came to; exit status 1, errors and the log's path where it failed."""
    if as_json:
        print_json(result)
    elif result["success"]:
        show_result(result, out_console())
    if not result["success"]:
        for error in result["errors"]:
            typer.secho(f"{command}: {error}", fg="red", err=True)
        typer.secho(f"The full log is in {result['log']}", err=True)
        raise typer.Exit(1)


def show_result(result: dict[str, Any], console: Console) -> None:
    """Data, model against baselines, trading, tiers, today, checks, what to do next; then the report's path."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for title, text, style in _lines(result):
        grid.add_row(title, Text(text, style=style))
    console.print()
    console.print(grid)
    # Alone on its line and never folded, so that it can be copied.
    console.print(f"Report: {result['report']}", soft_wrap=True, highlight=False, markup=False)


def _lines(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    data, metrics, checks = result["data"], result["metrics"], result["checks"]
    lines = [
        (
            "Data",
            f"{data['bars']:,} bars of {data['tickers']:,} tickers, {data['bars_from']} to {data['bars_to']}; "
            f"as of {result['as_of']}",
            "",
        ),
        ("Test", summary.evidence(result), ""),
        ("Model", f"{summary.against_baselines(result)} {summary.judgement(result)}".strip(), ""),
        ("Budget", _budget(metrics), ""),
        ("Warning", summary.worse_than_class_mix(result), "yellow"),
        ("Trading", summary.money(result), ""),
        ("Tiers", _tiers(result), ""),
        ("Today", _today(result), ""),
        ("Checks", _checks(checks), ""),
        ("Champion", _champion(result["champion"]), ""),
        ("Next", " ".join(f"{i}. {step}" for i, step in enumerate(result["next"], 1)), "cyan"),
    ]
    return [line for line in lines if line[1]]


def _tiers(result: dict[str, Any]) -> str:
    """How many test rows each certified tier has, and why there is none; the signals where one says buy."""
    counts = {row["signal"]: row["count"] for row in result["tier_values"]}
    words = ", ".join(f"{name} {n:,}" for name, n in counts.items())
    none = result["certificate"]["why_none"]
    text = f"{none.rstrip('.')}: all test rows are AVOID." if none else f"of the test rows, as certified: {words}."
    signals = {s["signal"]: s["count"] for s in result["metrics"]["signals"] if s["count"]}
    if set(signals) & set(BUYS):
        text += " Signals by expected value: " + ", ".join(f"{name} {n:,}" for name, n in signals.items()) + "."
    return text


def _budget(metrics: dict[str, Any]) -> str:
    key = "k4_recall_top_5pct"
    recall = metrics["model"].get(key)
    if not recall or not finite(recall["value"]):
        return ""
    title, form = METRICS[key]
    others = [f"{titled(n)} {number(m[key]['value'], form)}" for n, m in baselines(metrics).items() if key in m]
    return f"{title}: {number(recall['value'], form)}, chance {number(recall['base_rate'], form)}, {', '.join(others)}"


def _today(result: dict[str, Any]) -> str:
    rows, day = result["signals"], result["data"]["bars_to"]
    if not rows:
        return f"no pattern was open on {day}, so there is no signal: nothing is wrong"
    good = [r for r in rows if r["signal"] in BUYS]
    best = good[0] if good else rows[0]
    words = f"{len(good)} above AVOID" if good else "none above AVOID"
    return (
        f"{len(rows)} open patterns on {day}, {words}; first {best['ticker']} (EV {best['ev']:+.2f}, P(K4) "
        f"{best['p_4']:.1%}, breakout above {price(best['power'])}). `k4 signals` lists them"
    )


def _checks(checks: dict[str, Any]) -> str:
    failed, thin = checks["failed"], checks["not_enough_evidence"]
    text = f"{checks['passed']} passed, {len(failed)} failed, {len(thin)} without enough evidence"
    for word, names in (("failed", failed), ("without enough evidence", thin)):
        if names:
            text += f"\n{word}: " + "; ".join(name.partition(": ")[2].replace("_", " ") for name in names[:4])
            text += f" and {len(names) - 4} more" if len(names) > 4 else ""
    return text


def _champion(champion: dict[str, Any]) -> str:
    state = "provisional: some of its checks failed or lacked evidence" if champion["failed"] else "validated"
    return f"as of {champion['as_of']} ({state})"


def signal_table(rows: list[dict[str, Any]]) -> Table:
    """Rows of today's list; 80 columns."""
    table = Table(box=None, pad_edge=False)
    for name in ("ticker", "day", "tier", "EV", "P(K4)", "P(K5)", "entry", "stop", "box"):
        table.add_column(name, justify="left" if name in ("ticker", "day", "tier") else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(row["ticker"]),
            row["snapshot_date"][:10],
            row.get("tier") or row["signal"],
            number(row["ev"], "{:+.2f}"),
            number(row["p_4"], "{:.1%}"),
            number(row["p_5"], "{:.1%}"),
            price(row["power"]),
            price(row["stop"]),
            f"{price(row['lower'])}-{price(row['upper'])}",
        )
    return table
