"""`k4 signals`: today's list as the champion sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from k4_pipeline.cli.common import (
    DebugOption,
    HomeOption,
    JsonOption,
    err_console,
    explained,
    out_console,
    print_json,
    settings_for,
)
from k4_pipeline.errors import BadInputError

TOO_OLD = 4
EXPLAINED = 5  # rows with their reasons on the terminal; the page has them all


@explained
def signals(
    top: Annotated[int, typer.Option(help="How many to show, best tier and expected value first.")] = 20,
    all_: Annotated[
        bool, typer.Option("--all", help="Also what the filters leave out or the model refuses, with the reason.")
    ] = False,
    min_price: Annotated[float | None, typer.Option(help="Least median close of the last bars, for this list.")] = None,
    min_dollar_volume: Annotated[
        float | None, typer.Option(help="Least median of close times volume of the last bars, for this list.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="TICKER", help="Leave a ticker out of this list; may be repeated.")
    ] = None,
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
    debug: bool = DebugOption,
) -> None:
    """List the open patterns of the last night: tier, P(K4), expected value, entry, stop, box, reasons, similar
    patterns.

    Filters: least dollar volume and price over the last bars, excluded tickers and kinds, as the settings `serving.*`
    say; the options change them for this list alone, and nothing that is stored. Exit
    status 4 when the champion is past its age limit and gives no signals.
    """
    if top < 1:
        raise BadInputError(f"--top is {top}; give 1 or more")
    settings = settings_for(home)
    asked = {"min_price": min_price, "min_dollar_volume": min_dollar_volume}
    changed: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if exclude:
        changed["excluded_tickers"] = (*settings.config.serving.excluded_tickers, *exclude)
    for name, value in asked.items():
        if value is not None and not 0 <= value < float("inf"):
            raise BadInputError(f"--{name.replace('_', '-')} is {value}; give 0 or more")
    found = collect(settings, top, left_out=all_, filters=changed)
    if json_:
        print_json(found["rows"])
    else:
        show(found, out_console())
    if found["none_because"]:
        if json_:
            typer.echo(f"k4 signals: {found['none_because']}", err=True)
        raise typer.Exit(TOO_OLD)


def collect(
    settings: Any, top: int, *, left_out: bool = False, filters: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The stored list where it holds enough rows, else one made now; `page` is the stored one. `filters`: fields of
    `serving` that are to have other values in this list."""
    import json

    from k4_pipeline.errors import StaleArtifactError
    from k4_pipeline.storage import ArtifactStore
    from k4_pipeline.storage.json_values import json_safe

    store = ArtifactStore(settings.artifacts_dir)
    signals = store.current("signals")
    meta = signals.meta
    found: dict[str, Any] = {name: meta.get(name, "") for name in ("night", "none_because")}
    page = settings.reports_dir / "signals" / "signals.html"
    found["page"] = str(page) if page.is_file() else ""
    try:
        stored = store.current("todays_list")
        kept = json.loads(stored.path("list.json").read_text())
        fits = stored.inputs.get("signals") == signals.fingerprint
    except StaleArtifactError:
        fits = False
    if filters:
        found["page"] = ""  # it shows another list
        return {**found, **json_safe(_made_now(settings, store, signals, top, left_out, filters))}
    if fits:
        found |= {name: kept[name] for name in ("open", "left_out", "refused")}
        listed = kept["open"] - kept["left_out"] - kept["refused"]
        if not left_out and (len(kept["rows"]) >= top or len(kept["rows"]) >= listed):
            return {**found, "rows": kept["rows"][:top]}
    return {**found, **json_safe(_made_now(settings, store, signals, top, left_out))}


def _made_now(
    settings: Any, store: Any, signals: Any, top: int, left_out: bool, filters: dict[str, Any] | None = None
) -> dict[str, Any]:
    from dataclasses import replace

    from k4_pipeline.cli.progress import TerminalProgress
    from k4_pipeline.evaluation.screen import screened
    from k4_pipeline.pipeline.stored_bars import bars_of_tonight
    from k4_pipeline.pipeline.todays_list import todays_list
    from k4_pipeline.storage import read_parquet

    table, inputs = (read_parquet(signals.path(f"{name}.parquet")) for name in ("signals", "inputs"))
    champion, bars = store.current("champion_model"), bars_of_tonight(store)
    if filters:
        serving = replace(settings.config.serving, **filters)
        table = table.assign(left_out=screened(bars, table["ticker"].tolist(), serving)["left_out"])
    with TerminalProgress(err_console()) as progress:
        rows = todays_list(
            table,
            inputs,
            bars,
            champion.dir,
            settings.config,
            most=top,
            left_out=left_out,
            progress=progress.of("giving reasons"),
        )
    counts = {name: int((table[name] != "").sum()) for name in ("left_out", "refused")}
    return {"open": len(table), **counts, "rows": rows}


def show(found: dict[str, Any], console: Any) -> None:
    """The table, and two lines of reasons per row for the first ones."""
    from k4_pipeline.cli.results import signal_table

    if found["none_because"]:
        console.print(f"no signals: {found['none_because']}", highlight=False, markup=False)
        return
    rows = found["rows"]
    if not rows and not found["open"]:
        console.print("no pattern was open on the last day, so there is no signal: nothing is wrong")
        return
    if rows:
        certified = sorted({str(row["tier"]) for row in rows} - {"AVOID"})
        said = "" if certified else "; none reaches a certified tier, so none is a reason to buy"
        model = f"champion of {rows[0]['champion_as_of']}"
        console.print(
            f"Signals of {found['night']} ({model}): {len(rows)} of {found['open']} open patterns{said}",
            highlight=False,
        )
        console.print(signal_table(rows))
    for row in rows[:EXPLAINED]:
        console.print(f"\n{row['ticker']}", style="bold", highlight=False, markup=False)
        against = row["refused"] or row["left_out"]
        if against:
            console.print(f"  not listed: {against}", highlight=False, markup=False)
        for reason in (row.get("reasons") or [])[:3]:
            console.print(f"  {reason['in_words']}", highlight=False, markup=False)
        near = "; ".join(f"{s['ticker']} {s['snapshot_date']} {s['outcome']}" for s in row.get("similar") or [])
        if near:
            console.print(f"  most similar, ended before: {near}", highlight=False, markup=False)
    console.print(
        f"\n{found['open']} open on {found['night']}: {found['left_out']} left out by the filters, "
        f"{found['refused']} refused (--all shows them)",
        highlight=False,
    )
    if found["page"]:
        console.print(f"Page: {found['page']}", soft_wrap=True, highlight=False, markup=False)
