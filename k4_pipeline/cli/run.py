"""`k4 run`: the whole graph from bars to report and signals, in this process."""

from __future__ import annotations

import dataclasses
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
    places_given,
    require_date,
    require_device,
    require_past,
    say_dropped,
)
from k4_pipeline.config import FILE_SOURCES, SplitConfig
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.options import apply_assignments, apply_options
from k4_pipeline.settings import Settings, load_settings, save_settings
from k4_pipeline.storage.writer_lock import writing

# One shell run judges one model, so its test span is longer than that of a walk-forward partition.
RUN_TEST_MONTHS = 12
STEP_TIMES = "step_seconds.json"


@explained
def run(
    source: Annotated[
        str | None,
        typer.Option(
            help="Where the bars come from: simulated (default), folder, table, stooq, yfinance, tiingo, polygon, "
            "alpaca, binance, or plugin (a class of yours; --path names it)."
        ),
    ] = None,
    path: Annotated[
        str | None,
        typer.Option(
            help="Folder with one CSV or Parquet file per ticker, or one long table; also of a store, as in "
            "s3://bucket/prefix."
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="DATE",
            help="Quarter start to split at, YYYY-MM-DD: the model knows only what was known before. Default: the "
            "newest one whose test span is labelled.",
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Size of the model: micro, tiny, small (default), base or large.")
    ] = None,
    model_preset: Annotated[
        str | None,
        typer.Option(
            "--model-preset",
            help="Recipe of the model: default, original (the seed document's) or fast (two minutes a year of test).",
        ),
    ] = None,
    architecture: Annotated[str | None, typer.Option(help="mamba_attention (default) or bilstm.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Most epochs to train; early stopping may end sooner.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the training.")] = None,
    test_months: Annotated[
        int | None, typer.Option("--test-months", help=f"Months after as-of to test on. Default: {RUN_TEST_MONTHS}.")
    ] = None,
    snapshots: Annotated[
        Path | None, typer.Option(help="Snapshot file made elsewhere (CSV or Parquet) instead of scanning the bars.")
    ] = None,
    missing_tickers: Annotated[
        str | None,
        typer.Option("--missing-tickers", help="Snapshot tickers without bars: fail (default), filter or fetch."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Label rule: race_100 (default) or rare_30 (30 bars, on closes).")
    ] = None,
    labeling: Annotated[str | None, typer.Option(help="race (default) or first_breach.")] = None,
    patterns: Annotated[str | None, typer.Option(help="Pattern rule: standard (default) or strict.")] = None,
    world: Annotated[
        str | None, typer.Option(help="Simulated world: squeeze (something to learn, default) or null (nothing).")
    ] = None,
    tickers: Annotated[int | None, typer.Option(help="Number of simulated tickers.")] = None,
    bars: Annotated[int | None, typer.Option(help="Number of simulated bars per ticker.")] = None,
    universe: Annotated[
        str | None, typer.Option(help="Tickers for yfinance, or a filter for the other sources (comma separated).")
    ] = None,
    start: Annotated[str | None, typer.Option(help="First day to fetch (vendors only), YYYY-MM-DD.")] = None,
    backend: Annotated[
        str | None, typer.Option(help="Selective scan: auto (default), naive, cpu, triton or mamba_ssm.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto (default), cpu or cuda.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Any other setting; may be repeated."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Start from the settings of the last run instead of the defaults.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait in line while another run is active, instead of refusing.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")] = False,
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
    debug: bool = DebugOption,
) -> None:
    """Run everything: bars, patterns, labels, features, split, training, report, champion and today's signals.

    Without options it works on the embedded simulated market. The run is recorded in the home folder and shows up in
    the UI (`k4 ui`), which goes on with the same settings. Exit status 0 only when every blocking check passed.
    """
    kind, places = places_given(source, [] if path is None else [path])
    require_date("--as-of", as_of)
    require_past("--as-of", as_of)
    require_date("--start", start)
    if snapshots is not None and not snapshots.expanduser().is_file():
        raise BadInputError(f"--snapshots {snapshots}: there is no such file; give a CSV or Parquet file of snapshots")
    given = {
        "source": kind,
        "path": places[0] if places else None,
        "preset": preset,
        "model_preset": model_preset,
        "architecture": architecture,
        "epochs": epochs,
        "seed": seed,
        "snapshots": snapshots,
        "missing_tickers": missing_tickers,
        "labels": labels,
        "labeling": labeling,
        "patterns": patterns,
        "world": world,
        "tickers": tickers,
        "bars": bars,
        "universe": universe,
        "start": start,
        "backend": backend,
        "device": device,
        "test_months": test_months,
    }
    from k4_pipeline.cli.results import deliver

    settings, kept = resolve(home, given, set_ or [], again=again)
    console = err_console()
    began = time.monotonic()
    with writing(
        settings.home, wait=wait, waiting=lambda other: typer.echo(f"waiting for {other.in_words()}", err=True)
    ):
        request = {"options": given, "set": set_ or [], "again": again, "as_of": as_of}
        result = execute(settings, as_of, request, console=console, quiet=quiet, debug=debug)
        if result["success"]:
            save_settings(kept)
    result["seconds"] = round(time.monotonic() - began, 1)
    deliver(result, "k4 run", as_json=json_)


def resolve(
    home: Path | None, given: dict[str, Any], assignments: list[str], *, again: bool
) -> tuple[Settings, Settings]:
    """Defaults (or the stored settings), the environment, then the options: (for this run, to be kept for the UI).

    What is kept is stored only after the run succeeded.
    """
    base = load_settings(home, stored=again)
    say_dropped(base)
    config = apply_assignments(apply_options(base.config, given), assignments)
    require_device(config.training.device)
    if config.source.source in FILE_SOURCES and not config.source.path:
        raise ConfigError(f"--source {config.source.source} needs --path: the {config.source.source} to read")
    settings = kept = dataclasses.replace(base, config=config)
    default_span = config.split.test_months == SplitConfig.test_months and given.get("test_months") is None
    if default_span and not any(text.startswith("split.test_months") for text in assignments):
        # The stored settings keep the span of the partitions: a walk-forward backtest tests each quarter once.
        split = dataclasses.replace(config.split, test_months=RUN_TEST_MONTHS)
        settings = dataclasses.replace(settings, config=dataclasses.replace(config, split=split))
    return settings, kept


def what_was_read(settings: Settings) -> list[str]:
    """The summary of the bars just read, as `k4 data check` prints it."""
    from k4_pipeline.defs.staging import load_json
    from k4_pipeline.market.summary import show
    from k4_pipeline.storage import ArtifactStore

    lines = show(load_json(ArtifactStore(settings.artifacts_dir).last_good("daily_bars"), "summary.json"))
    if settings.config.source.source == "simulated" and settings.config.simulation.dirty:
        lines.append("  note: the simulated market has bad rows on purpose, so that you see how they are refused")
    return lines


def other_market(settings: Settings) -> str:
    """A sentence before the training, where the champion of this home serves another market; or ""."""
    from k4_pipeline.evaluation import champion
    from k4_pipeline.storage import ArtifactStore, read_parquet

    store = ArtifactStore(settings.artifacts_dir)
    serving = champion.serving(store)
    if serving is None:
        return ""
    tickers = read_parquet(store.last_good("daily_bars").path("daily_bars.parquet"), columns=["ticker"])["ticker"]
    market, record = champion.market_of(settings.config, tickers.unique()), champion.Record.read(serving)
    if champion.same_market(record, market):
        return ""
    own = champion.champion_of(store, serving, market)
    has = f"has its own, of as of {champion.Record.read(own).as_of}" if own else "gets one of its own"
    return (
        f"note: the champion that serves here (as of {record.as_of}) is of another market, and stays its champion; the "
        f"market of this run {has}"
    )


def execute(
    settings: Settings, as_of: str | None, request: dict[str, Any], *, console: Any, quiet: bool, debug: bool
) -> dict[str, Any]:
    """Both halves of the run: the data, then everything that depends on the as-of date."""
    from k4_pipeline.cli.progress import RunProgress
    from k4_pipeline.defs.graph import ASSET_ORDER

    log = settings.logs_dir / f"run-{time.strftime('%Y%m%dT%H%M%S')}.log"
    steps = [step for name in ASSET_ORDER for step in (name, f"{name}_checks")]
    with RunProgress(console, steps, settings.logs_dir / STEP_TIMES, quiet=quiet) as progress:
        # Only now: Dagster takes seconds to load, and the bar shall stand before that.
        from k4_pipeline.cli.results import collect_result
        from k4_pipeline.defs.audit_facts import write_request
        from k4_pipeline.defs.instance import create_home, open_instance
        from k4_pipeline.defs.run import DATA_ASSETS, choose_as_of, run_graph
        from k4_pipeline.defs.run_monitor import fail_dead_runs

        create_home(settings)
        with open_instance(settings) as instance:
            fail_dead_runs(instance, settings.home)
        write_request(settings, request)
        outcome = run_graph(settings, DATA_ASSETS, as_of=None, progress=progress, log=log)
        if outcome.success:
            for line in filter(None, [*what_was_read(settings), other_market(settings)]):
                progress.say(line) if progress.shown else None if quiet else typer.echo(line, err=True)
            as_of = choose_as_of(settings, as_of)
            progress.say(f"as of {as_of}, tested on the {settings.config.split.test_months} months after it")
            rest = tuple(name for name in ASSET_ORDER if name not in DATA_ASSETS)
            outcome = outcome.then(run_graph(settings, rest, as_of=as_of, progress=progress, log=log))
    if debug and not outcome.success:
        console.print(log.read_text()[-20_000:], markup=False, highlight=False)
    return collect_result(settings, as_of, outcome, log)
