"""`k4 backtest`: what the predictions of one as-of date would have been worth, after costs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

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
    stored_as_of,
)
from k4_pipeline.cli.progress import TerminalProgress


@explained
def backtest(
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="DATE", help="Which predictions. Default: the newest.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="trading.FIELD=VALUE", help="Another assumption; may be repeated."),
    ] = None,
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
    debug: bool = DebugOption,
) -> None:
    """Trade the model's lists beside volatility, buying all and random draws: costs, slippage and limits included.

    Entry is a buy-stop at the power line from the next bar on, the stop lies below the box, the exits are those of the
    label's race and alternatives. The page holds equity, drawdown and a monthly table.
    """
    from k4_pipeline.cli.lookup import table_of
    from k4_pipeline.evaluation import value
    from k4_pipeline.evaluation.trading.section import backtest as run_backtest
    from k4_pipeline.features.panel import read_panel
    from k4_pipeline.market.bars import Bars
    from k4_pipeline.options import apply_assignments
    from k4_pipeline.report.render import share_plotly
    from k4_pipeline.report.trading import render_backtest
    from k4_pipeline.storage import ArtifactStore, atomic_write_text
    from k4_pipeline.storage.json_values import json_safe

    settings = settings_for(home)
    settings = dataclasses.replace(settings, config=apply_assignments(settings.config, set_ or []))
    store = ArtifactStore(settings.artifacts_dir)
    as_of = stored_as_of(store, "predictions", as_of)
    with TerminalProgress(err_console()) as progress:
        tables = {name: table_of(store, asset, day) for name, asset, day in (
            ("predictions", "predictions", as_of),
            ("labeled", "labeled_snapshots", None),
            ("sequences", "sequences", None),
        )}  # fmt: skip
        rows = value.test_rows(**tables, panel_values=read_panel(store.current("market_features").dir).values)
        bars = Bars.from_frame(table_of(store, "daily_bars"))
        result = json_safe(run_backtest(rows, bars, settings.config, progress=progress.of("trading the lists")))
    page = settings.reports_dir / as_of / "backtest.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    share_plotly(settings.reports_dir)
    atomic_write_text(page, render_backtest(result, f"Backtest of the predictions of {as_of}"))
    if json_:
        print_json({"as_of": as_of, **result, "page": str(page)})
        return
    console = out_console()
    for line in result.get("in_words", [result.get("left_out", "")]):
        console.print(line, highlight=False, markup=False)
    if result.get("results"):
        console.print(_table(result["results"]))
    console.print(f"Page: {page}", soft_wrap=True, highlight=False, markup=False)


def _table(results: list[dict]) -> object:
    from rich.table import Table

    from k4_pipeline.report.numbers import number

    table = Table(box=None, pad_edge=False)
    for name in ("list", "exit", "trades", "net", "per trade", "drawdown"):
        table.add_column(name, justify="left" if name in ("list", "exit") else "right")
    for r in results:
        table.add_row(
            r["rule"],
            r["exits"].partition(" (")[0],
            f"{r['trades']:,}",
            number(r["net_return"], "{:+.1%}"),
            number(r["mean_net"], "{:+.2%}"),
            number(r["max_drawdown"], "{:.1%}"),
        )
    return table
