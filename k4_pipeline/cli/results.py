"""The result of a run: collected from the store as plain JSON, and shown as tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from k4_pipeline.defs.run import RunOutcome
from k4_pipeline.settings import Settings
from k4_pipeline.storage import ArtifactStore, read_parquet

SHOWN_METRICS = {
    "k4_auc": "K4 AUC",
    "k4_average_precision": "K4 average precision",
    "k4_recall_top_5pct": "K4 recall in the top 5%",
    "k4_recall_top_10pct": "K4 recall in the top 10%",
    "ev_correlation_pearson": "EV correlation (Pearson)",
    "ev_correlation_spearman": "EV correlation (Spearman)",
    "log_loss": "log loss (lower is better)",
}


def collect_result(settings: Settings, as_of: str | None, outcome: RunOutcome, log: Path) -> dict[str, Any]:
    """Everything a program may want to know of the run; metrics and signals only when it succeeded."""
    result: dict[str, Any] = {
        "success": outcome.success,
        "as_of": as_of,
        "home": str(settings.home),
        "runs": outcome.run_ids,
        "errors": outcome.errors,
        "checks": {
            "passed": sum(c.passed for c in outcome.checks),
            "failed": [f"{c.asset}: {c.check}" for c in outcome.checks if not c.passed],
        },
        "log": str(log),
    }
    if not outcome.success or as_of is None:
        return result
    store = ArtifactStore(settings.artifacts_dir)
    report = json.loads(store.current("validation_report", as_of).path("report.json").read_text())
    champion = store.current("champion_model")
    signals = read_parquet(store.current("signals").path("signals.parquet"))
    keep = ("signal", "ticker", "snapshot_date", "ev", "p_4", "p_5", "power", "lower")
    return {
        **result,
        "data": report["data"],
        "classes": report["classes"],
        "metrics": report["metrics"],
        "integrity": report["integrity"],
        "champion": {
            **json.loads(champion.path("champion.json").read_text()),
            "why": champion.meta["history"][-1]["why"],
        },
        "signals": json.loads(signals[list(keep)].to_json(orient="records", date_format="iso")),
        "report": str(settings.reports_dir / as_of / "report.html"),
    }


def show_result(result: dict[str, Any], console: Console) -> None:
    """Tables: classes, metrics beside their base rates, integrity tests, signals; then the path of the report."""
    data = result["data"]
    console.print(
        f"\n[bold]As of {result['as_of']}[/]: {data['bars']:,} bars of {data['tickers']:,} tickers, "
        f"{data['bars_from']} to {data['bars_to']}"
    )
    console.print(_class_table(result["classes"]))
    console.print(_metric_table(result["metrics"]))
    console.print(_integrity_table(result["integrity"]))
    console.print(_signal_table(result["signals"]) if result["signals"] else _no_signal(data))
    failed = result["checks"]["failed"]
    console.print(f"Checks: {result['checks']['passed']} passed, {len(failed)} failed")
    for name in failed:
        console.print(f"  not passed (not blocking): {name}")
    champion = result["champion"]
    state = "provisional, see its failed checks above" if champion["failed"] else "validated"
    console.print(f"Champion: as of {champion['as_of']} ({state})")
    console.print(f"Time: {result['seconds']} s")
    console.print(f"\nReport: {result['report']}", soft_wrap=True)


def _number(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)


def _class_table(classes: list[dict[str, Any]]) -> Table:
    table = Table("split", "from", "to", title="Snapshots", title_justify="left")
    names = list(classes[0]["shares"])
    for name in ("rows", "labelled", *names):
        table.add_column(name if name in ("rows", "labelled") else name.partition("_")[0], justify="right")
    for row in classes:
        shares = [f"{row['shares'][name]:.1%}" for name in names]
        table.add_row(row["split"], row["first"], row["last"], f"{row['rows']:,}", f"{row['labelled']:,}", *shares)
    return table


def _metric_table(metrics: dict[str, Any]) -> Table:
    table = Table(
        title=f"Test: {metrics['n']:,} labelled snapshots, {metrics['n_k4']} of them K4", title_justify="left"
    )
    for name in ("metric", "model", "95% interval", "base rate", "volatility ranking"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for key, label in SHOWN_METRICS.items():
        model = metrics["model"].get(key)
        if model is None:
            continue
        baseline = metrics["baselines"]["volatility_20"].get(key) or {"value": None}
        interval = f"{_number(model['low'])} .. {_number(model['high'])}"
        table.add_row(label, _number(model["value"]), interval, _number(model["base_rate"]), _number(baseline["value"]))
    return table


def _integrity_table(tests: list[dict[str, Any]]) -> Table:
    table = Table("integrity test", "verdict", "value", "n", "limit", title="Integrity", title_justify="left")
    for test in tests:
        colour = "green" if test["passed"] else "yellow"
        table.add_row(
            test["name"], f"[{colour}]{test['status']}[/]", _number(test["value"]), f"{test['n']:,}", test["limit"]
        )
    return table


def _no_signal(data: dict[str, Any]) -> str:
    return f"\nNo pattern was open on the last day ({data['bars_to']}), so there is no signal today: nothing is wrong."


def _signal_table(signals: list[dict[str, Any]], most: int = 10) -> Table:
    shown = f"best {most} of {len(signals)}" if len(signals) > most else f"{len(signals)}"
    table = Table(title=f"Signals of the last day: {shown} open patterns", title_justify="left")
    for name in ("ticker", "day", "signal", "EV", "P(K4)", "P(K5)", "buy above", "stop below"):
        table.add_column(name, justify="left" if name in ("ticker", "day", "signal") else "right")
    for row in signals[:most]:
        table.add_row(
            row["ticker"],
            row["snapshot_date"][:10],
            row["signal"],
            _number(row["ev"], ".2f"),
            _number(row["p_4"], ".2%"),
            _number(row["p_5"], ".2%"),
            _number(row["power"], ".4g"),
            _number(row["lower"], ".4g"),
        )
    return table
