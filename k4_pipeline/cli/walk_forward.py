"""`k4 walk-forward`: model, baselines and the best possible at several as-of dates, side by side and pooled."""

from __future__ import annotations

import dataclasses
import json
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
from k4_pipeline.config import FILE_SOURCES
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.options import OPTIONS, apply_assignments, apply_options
from k4_pipeline.settings import load_settings


@explained
def walk_forward(
    first: Annotated[str | None, typer.Option("--from", help="First as-of date: YYYY, YYYY-MM or YYYY-MM-DD.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last as-of date, included.")] = None,
    every: Annotated[int, typer.Option("--every", help="Months between two dates, and months tested after each.")] = 12,
    source: Annotated[str | None, typer.Option(help="simulated (default), folder or table.")] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(help="Table, folder of files, or folder of tables; also of a store; may be given several times."),
    ] = None,
    model_preset: Annotated[
        str | None, typer.Option("--model-preset", help="Recipe of the model: default, original or fast.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Size of the model: micro, tiny, small, base or large.")] = None,
    architecture: Annotated[str | None, typer.Option(help="mamba_attention (default) or bilstm.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Most epochs to train.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the training.")] = None,
    labels: Annotated[str | None, typer.Option(help="Label rule: race_100 (default) or rare_30.")] = None,
    labeling: Annotated[str | None, typer.Option(help="race (default) or first_breach.")] = None,
    patterns: Annotated[str | None, typer.Option(help="Pattern rule: standard (default) or strict.")] = None,
    world: Annotated[str | None, typer.Option(help="Simulated world: squeeze (default) or null.")] = None,
    tickers: Annotated[int | None, typer.Option(help="Number of simulated tickers.")] = None,
    bars: Annotated[int | None, typer.Option(help="Number of simulated bars per ticker.")] = None,
    market_seed: Annotated[int | None, typer.Option("--market-seed", help="Seed of the simulated market.")] = None,
    universe: Annotated[str | None, typer.Option(help="Only these tickers (comma separated).")] = None,
    backend: Annotated[str | None, typer.Option(help="Selective scan: auto, naive, cpu, triton or mamba_ssm.")] = None,
    device: Annotated[str | None, typer.Option(help="auto (default), cpu or cuda.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Any other setting.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Partitions at the same time; 0: as many as cores allow.")] = 0,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="What the sequence is for: one network with all bars, some, or none.")
    ] = False,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the tables to this file, as the model card has them.")
    ] = None,
    result_file: Annotated[
        Path | None, typer.Option("--result", help="Show a kept result (or write its --markdown); nothing is computed.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
    debug: bool = DebugOption,
) -> None:
    """Train and test at every date from --from to --to, as if each were today, and pool the results.

    The stored settings are left alone. The result is kept below the home folder with the number of trials made there:
    the more settings were tried on the same years, the less a good figure says.
    """
    from k4_pipeline.cli.progress import TerminalProgress
    from k4_pipeline.evaluation.trials import count_trials, keep_result
    from k4_pipeline.pipeline import walk_forward as domain
    from k4_pipeline.storage.json_values import json_safe

    kind, paths = places_given(source, path or [])
    if result_file is not None:
        result = kept_result(result_file)
        deliver(result, json_, markdown)
        return
    if first is None or last is None:
        raise ConfigError("give --from and --to, the first and the last as-of date (or --result FILE)")
    given: dict[str, Any] = {
        "source": kind,
        "path": paths[0] if paths else None,
        "model_preset": model_preset,
        "preset": preset,
        "architecture": architecture,
        "epochs": epochs,
        "seed": seed,
        "labels": labels,
        "labeling": labeling,
        "patterns": patterns,
        "world": world,
        "tickers": tickers,
        "bars": bars,
        "market_seed": market_seed,
        "universe": universe,
        "backend": backend,
        "device": device,
    }
    if model_preset is None or "model_preset" not in OPTIONS:
        given.pop("model_preset")
    base = load_settings(home, stored=False)
    dates = domain.as_of_dates(first, last, every)
    config = apply_assignments(apply_options(base.config, given), set_ or [])
    require_device(config.training.device)
    if config.source.source in FILE_SOURCES and not config.source.path:
        raise ConfigError(f"--source {config.source.source} needs --path")
    config = dataclasses.replace(config, split=dataclasses.replace(config.split, test_months=every))
    began = time.monotonic()
    with TerminalProgress(err_console(), quiet=quiet) as progress:
        compute = domain.sequence_ablation if ablation else domain.walk_forward
        result = compute(config, dates, paths=paths, workers=workers, progress_of=progress.of)
    result = {
        "settings": {"from": dates[0], "to": dates[-1], "every_months": every, "paths": paths},
        "trials": count_trials(base.home, config) + 1,
        "seconds": round(time.monotonic() - began, 1),
        **result,
    }
    result = json_safe(result)
    result["stored"] = str(keep_result(base.home, config, result))
    deliver(result, json_, markdown)


def kept_result(path: Path) -> dict[str, Any]:
    """A result as `--json` printed it, or as the home folder keeps it."""
    try:
        found = json.loads(path.read_text())
        found = found.get("result", found)
        found["pooled"]["model"], found["partitions"], found["settings"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise BadInputError(f"{path} is no walk-forward result ({problem!r}); give what --json printed") from problem
    return found


def deliver(result: dict[str, Any], json_: bool, markdown: Path | None) -> None:
    """Print the result, and write its page where one is wanted."""
    from k4_pipeline.report.walk_forward import page
    from k4_pipeline.storage import atomic_write_text

    if markdown is not None:
        atomic_write_text(markdown, page(result))
    if json_:
        print_json(result)
    else:
        show(result)


def show(result: dict[str, Any]) -> None:
    """One table per partition and the pooled one, then what they say."""
    from rich.table import Table

    from k4_pipeline.report.walk_forward import COLUMNS, methods_in

    console = out_console()
    for part in [*result["partitions"], {"as_of": "all dates pooled", **result["pooled"]}]:
        table = Table(title=f"{part['as_of']}: {part['n']:,} rows, {part['n_k4']} K4", title_justify="left")
        table.add_column("method")
        for title in COLUMNS.values():
            table.add_column(title, justify="right")
        for name, found in methods_in(part).items():
            cells = [found.get(key) for key in COLUMNS]
            table.add_row(name.replace("_", " "), *("-" if c is None else f"{c:.3f}" for c in cells))
        console.print(table)
    for sentence in result["pooled"]["headline"]:
        console.print(sentence)
    if "answer" in result:
        console.print(result["answer"])
    kept = result.get("stored", "the file given")
    console.print(f"Trial {result['trials']} on these bars. {result['seconds']} s. Kept in {kept}")
