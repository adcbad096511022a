"""`k4 backtest`: what the predictions of one as-of date would have been worth, after costs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from k4_pipeline.errors import BadInputError

if TYPE_CHECKING:
    import pandas as pd

    from k4_pipeline.settings import Settings
    from k4_pipeline.storage import ArtifactStore


@explained
def backtest(
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", metavar="DATE", help="Which predictions. Default: the newest that are not stale."),
    ] = None,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Trade the signals that were really given, night by night, instead.")
    ] = False,
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
    from k4_pipeline.evaluation.trading.section import backtest as run_backtest
    from k4_pipeline.market.bars import Bars
    from k4_pipeline.options import apply_assignments
    from k4_pipeline.pipeline.stored_bars import bars_of_tonight
    from k4_pipeline.report.render import share_plotly
    from k4_pipeline.report.trading import render_backtest
    from k4_pipeline.storage import ArtifactStore, atomic_write_text
    from k4_pipeline.storage.json_values import json_safe

    if ledger and as_of is not None:
        raise BadInputError("--ledger trades every night of the ledger; leave --as-of away")
    settings = settings_for(home)
    settings = dataclasses.replace(settings, config=apply_assignments(settings.config, set_ or []))
    store = ArtifactStore(settings.artifacts_dir)
    with TerminalProgress(err_console()) as progress:
        trading = progress.of("trading the lists")
        trading(0, 1)  # before seconds of reading
        if ledger:
            rows, what, name = ledger_rows(settings), "signals of the ledger", "ledger"
        else:
            name = stored_as_of(store, "predictions", as_of)
            rows, what = predicted_rows(store, name), f"predictions of {name}"
        bars = bars_of_tonight(store) if ledger else Bars.from_frame(table_of(store, "daily_bars"))
        result = json_safe(run_backtest(rows, bars, settings.config, progress=trading))
    page = settings.reports_dir / name / "backtest.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    share_plotly(settings.reports_dir)
    atomic_write_text(page, render_backtest(result, f"Backtest of the {what}"))
    if json_:
        print_json({"as_of": None if ledger else name, **result, "page": str(page)})
        return
    console = out_console()
    console.print(f"Backtest of the {what}.", highlight=False)
    for line in result.get("in_words", [result.get("left_out", "")]):
        console.print(line, highlight=False, markup=False)
    if result.get("results"):
        console.print(_table(result["results"]))
    console.print(f"Page: {page}", soft_wrap=True, highlight=False, markup=False)


def predicted_rows(store: ArtifactStore, as_of: str) -> pd.DataFrame:
    """The test rows of one as-of date, with what the backtest needs."""
    from k4_pipeline.cli.lookup import table_of
    from k4_pipeline.evaluation import value
    from k4_pipeline.features.panel import read_panel

    return value.test_rows(
        predictions=table_of(store, "predictions", as_of),
        labeled=table_of(store, "labeled_snapshots"),
        sequences=table_of(store, "sequences"),
        panel_values=read_panel(store.current("market_features").dir).values,
    )


def ledger_rows(settings: Settings) -> pd.DataFrame:
    """Every signal that was given, the first night of each pattern and day, with the volatility of its own bar (the
    nights' bars included)."""
    import numpy as np

    from k4_pipeline.config import KEYS
    from k4_pipeline.evaluation.ledger import open_ledger
    from k4_pipeline.evaluation.volatility import volatility_at
    from k4_pipeline.market.bars import to_days
    from k4_pipeline.pipeline.stored_bars import bars_of_tonight
    from k4_pipeline.storage import ArtifactStore

    given = open_ledger(settings.home).read()
    if given.empty:
        raise BadInputError(f"no signal was ever given in {settings.home}; `k4 run` or `k4 nightly` makes the first")
    given = given.sort_values("night", kind="stable").drop_duplicates(KEYS).reset_index(drop=True)
    bars = bars_of_tonight(ArtifactStore(settings.artifacts_dir))
    rows = bars.locate(given["ticker"], to_days(given["snapshot_date"]))
    values = volatility_at(bars, np.maximum(rows, 0), 20)
    return given.assign(volatility=np.where(rows >= 0, values, np.nan))


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
