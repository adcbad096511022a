"""`k4 tune`: a search for better settings inside one fold, its trials kept and counted."""

from __future__ import annotations

import time
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
    places_given,
    print_json,
    require_device,
)
from k4_pipeline.errors import ConfigError
from k4_pipeline.options import apply_assignments, apply_options
from k4_pipeline.settings import load_settings


@explained
def tune(
    as_of: Annotated[str, typer.Option("--as-of", help="The fold: train and validation rows before this date.")],
    trials: Annotated[int, typer.Option(help="How many settings to try now.")] = 20,
    reserve_months: Annotated[
        int, typer.Option(help="Months at the end of the data that no search may choose by.")
    ] = 24,
    source: Annotated[str | None, typer.Option(help="simulated (default), folder or table.")] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(help="Table, folder of files, or folder of tables; also of a store; may be given several times."),
    ] = None,
    model_preset: Annotated[
        str | None, typer.Option("--model-preset", help="Recipe to start from: default, original or fast.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Label rule: race_100 (default) or rare_30.")] = None,
    tickers: Annotated[int | None, typer.Option(help="Number of simulated tickers.")] = None,
    bars: Annotated[int | None, typer.Option(help="Number of simulated bars per ticker.")] = None,
    market_seed: Annotated[int | None, typer.Option("--market-seed", help="Seed of the simulated market.")] = None,
    device: Annotated[str | None, typer.Option(help="auto (default), cpu or cuda.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Any other setting.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
    debug: bool = DebugOption,
) -> None:
    """Try settings on the train rows of one date and judge them by log loss on its validation rows.

    Test rows are not read. Trials are kept below the home folder, and a second call goes on from them. They count as
    trials of every later walk-forward on the same bars.
    """
    from k4_pipeline.cli.progress import TerminalProgress
    from k4_pipeline.evaluation.trials import count_trials, keep_result
    from k4_pipeline.pipeline import search as domain, stages
    from k4_pipeline.pipeline.walk_forward import as_of_dates, read_sources
    from k4_pipeline.storage.json_values import json_safe

    if trials < 1 or reserve_months < 0:
        raise ConfigError("--trials must be 1 or more and --reserve-months 0 or more")
    kind, paths = places_given(source, path or [])
    given: dict[str, Any] = {
        "source": kind,
        "path": paths[0] if paths else None,
        "model_preset": model_preset,
        "labels": labels,
        "tickers": tickers,
        "bars": bars,
        "market_seed": market_seed,
        "device": device,
    }
    day = as_of_dates(as_of, as_of, 1)[0]
    base = load_settings(home, stored=False)
    config = apply_assignments(apply_options(base.config, given), set_ or [])
    require_device(config.training.device)
    journal = base.home / "tune" / "trials.journal"
    began = time.monotonic()
    with TerminalProgress(err_console(), quiet=quiet) as progress:
        raw = read_sources(config.source, config, paths, progress.of("reading bars"))
        run = stages.build_from_raw(raw, config)
        run.raw, run.rejects = None, None
        result = domain.search(
            run,
            day,
            trials=trials,
            journal=journal,
            reserved_months=reserve_months,
            seed=seed,
            progress=progress.of("trials"),
        )
    result["seconds"] = round(time.monotonic() - began, 1)
    result = json_safe(result)
    result["stored"] = str(keep_result(base.home, config, result, counts_as=trials))
    result["trials_on_these_bars"] = count_trials(base.home, config)
    if json_:
        print_json(result)
        return
    console = out_console()
    stands = result["log_loss_as_it_stands"]
    console.print(
        f"{result['trials_in_journal']} trials at {day}: log loss {result['log_loss_best']:.4f} at best"
        + (f", {stands:.4f} as the settings stand" if stands is not None else "")
        + f", on {result['validation_rows']:,} validation rows. The best of many looks better than it is."
    )
    console.print("To use them:\n  " + " ".join(f"--set {name}={value}" for name, value in result["best"].items()))
    console.print(f"Kept in {result['stored']}; {result['trials_on_these_bars']} trials on these bars so far.")
