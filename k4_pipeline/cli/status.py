"""`k4 status`: what lies in a home folder, whether it may be used, and what to do next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from k4_pipeline.cli.common import HomeOption, JsonOption, explained, out_console, print_json, settings_for
from k4_pipeline.defs.graph import ASSET_ORDER, PARTITIONED_ASSETS
from k4_pipeline.errors import K4Error
from k4_pipeline.settings import Settings
from k4_pipeline.storage import ArtifactStore


@explained
def status(json_: bool = JsonOption, home: Path | None = HomeOption) -> None:
    """What is stored in this home folder: data, reports, champion, signals, and which tables may be used.

    Reads only; starts nothing. Exit status 0 also where nothing was made yet.
    """
    found = collect(settings_for(home))
    if json_:
        print_json(found)
        return
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for title, line in _lines(found):
        grid.add_row(title, Text(line))
    out_console().print(grid)


def collect(settings: Settings) -> dict[str, Any]:
    """Facts of a home folder, JSON-able."""
    from k4_pipeline.evaluation import champion
    from k4_pipeline.storage.writer_lock import writer_of

    store, source = ArtifactStore(settings.artifacts_dir), settings.config.source
    writer = writer_of(settings.home)
    assets = []
    for name in ASSET_ORDER:
        partitions: list[Any] = list(store.partitions(name)) if name in PARTITIONED_ASSETS else []
        assets += [_asset(store, name, partition) for partition in partitions or [None]]
    record, damage = None, ""
    try:
        serving = champion.serving(store) if (store.root / champion.CHAMPION).is_dir() else None
        record = None if serving is None else champion.Record.read(serving)
    except K4Error as problem:
        damage = str(problem)
    found: dict[str, Any] = {
        "home": str(settings.home),
        "source": source.source,
        "path": source.path,
        "writer": None if writer is None else writer.in_words(),
        "data": _meta(store, "daily_bars"),
        "reports": [_report(store, as_of) for as_of in store.partitions("validation_report")],
        "champion_damage": damage,
        "champion": None if record is None else {"as_of": record.as_of, "failed": list(record.failed)},
        "signals": _meta(store, "signals"),
        "ledger": _meta(store, "prediction_ledger"),
        "assets": assets,
    }
    return {**found, "next": _next(found)}


def _meta(store: ArtifactStore, asset: str) -> dict[str, Any] | None:
    try:
        return store.last_good(asset).meta
    except K4Error:
        return None


def _asset(store: ArtifactStore, name: str, partition: str | None) -> dict[str, Any]:
    """State of one table: `good`, `never made`, `stale` (its inputs or its code have changed) or `failed`."""
    at, state, why = "", "good", ""
    try:
        history = store.history(name, partition)
        at = history[-1]["at"] if history else ""
        if not history:
            state = "never made"
        else:
            store.verify_chain([store.current(name, partition)])
    except K4Error as problem:
        why = str(problem)
        state = "stale" if "was made" in why and "failed its checks" not in why else "failed"
    return {"asset": name, "as_of": partition, "state": state, "at": at, "why": why}


def _report(store: ArtifactStore, as_of: str) -> dict[str, Any]:
    from k4_pipeline.report.summary import headline_lines, state

    try:
        content = json.loads(store.last_good("validation_report", as_of).path("report.json").read_text())
    except K4Error as problem:
        return {"as_of": as_of, "verdict": "NOT PUBLISHED", "headline": [str(problem)]}
    return {"as_of": as_of, "verdict": state(content)[1], "headline": headline_lines(content)}


def _next(found: dict[str, Any]) -> str:
    if found["writer"]:
        return f"Wait for {found['writer']}, or look at it with `k4 ui`."
    states = {row["state"] for row in found["assets"]}
    if states == {"never made"}:
        return (
            "Nothing was made here yet: `k4 run` makes everything, `k4 data check --path DIR` looks at your bars first."
        )
    broken = next((row for row in found["assets"] if row["state"] == "failed"), None)
    if broken:
        return f"Mend the cause that {broken['asset']} names, then `k4 run --again`."
    if "stale" in states:
        return "What is stale was made by other code or from other data: `k4 run --again` makes it anew."
    return "`k4 signals` lists today's patterns, `k4 nightly` reads new bars, `k4 report --open` shows the report."


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    data, signals, ledger = found["data"], found["signals"], found["ledger"]
    lines = [("Home", found["home"]), ("Source", f"{found['source']} {found['path']}".strip())]
    lines.append(("Running", found["writer"] or "nothing"))
    if data:
        lines.append(("Data", f"{data['rows']:,} bars of {data['tickers']:,} tickers to {data['last_date']}"))
        lines += [("", f"{text}; `k4 export revisions`") for text in data.get("restated", [])]
    not_good = {(row["asset"], row["as_of"]) for row in found["assets"] if row["state"] != "good"}
    for report in found["reports"][-3:]:
        stale = " (stale)" if ("validation_report", report["as_of"]) in not_good else ""
        lines.append(("Report", f"as of {report['as_of']}{stale}: {report['verdict']}. {report['headline'][0]}"))
    champion = found["champion"]
    if champion:
        state = (
            f"provisional, {len(champion['failed'])} checks failed or lacked evidence"
            if champion["failed"]
            else "validated"
        )
        lines.append(("Champion", f"as of {champion['as_of']} ({state})"))
    if found["champion_damage"]:
        lines.append(("Champion", found["champion_damage"]))
    if signals:
        lines.append(("Signals", f"{signals['rows']:,} open patterns"))
    if ledger:
        lines.append(("Ledger", f"{ledger['rows']:,} signals given so far"))
    by_state: dict[str, list[str]] = {}
    for row in found["assets"]:
        by_state.setdefault(row["state"], []).append(row["asset"] + (f" @ {row['as_of']}" if row["as_of"] else ""))
    for state, names in by_state.items():
        whole = len(names) == len(found["assets"])
        lines.append(("Tables", f"{state}: {f'all {len(names)}' if whole else ', '.join(names)}"))
    lines += [("Why", f"{row['asset']}: {row['why']}") for row in found["assets"] if row["why"]][:1]
    return [*lines, ("Next", found["next"])]
