"""`k4 bench`: how fast the parts are, measured side by side with their alternatives in one run.

Each subcommand hands its options to `run(**options)` of the module of its name in k4_pipeline/bench.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from k4_pipeline.cli.common import JsonOption, explained, out_console, print_json
from k4_pipeline.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure the speed of features, sequences, scan and training, and memory.",
)

RepeatsOption = typer.Option(5, min=1, help="Repeats; medians are reported.")
BarsOption = typer.Option(None, "--bars", help="Bars to use (long Parquet table). Default: simulated.")
DeviceOption = typer.Option("auto", help="cpu or cuda; auto takes what is there.")
CopiesOption = typer.Option("1,4,16", help="Sizes to measure, in copies of the bars.")


def _bench(name: str, options: dict[str, Any], json_: bool) -> None:
    module_name = f"k4_pipeline.bench.{name}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"bench {name} needs {error.name}, which is not installed here; run `make setup`") from error
    result = module.run(**{key: value for key, value in options.items() if value is not None})
    if json_:
        print_json(result)
        return
    table = Table("measure", "value", title=f"bench {name}")
    for key, value in _flat(result).items():
        table.add_row(key, f"{value:,.4g}" if isinstance(value, float) else str(value))
    out_console().print(table)


def _sizes(copies: str) -> list[int]:
    try:
        sizes = [int(part) for part in copies.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise ConfigError(f"copies are {copies!r}; expected whole numbers of at least 1, as in 1,4,16")
    return sizes


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out


@app.command()
@explained
def features(
    bars: Path | None = BarsOption,
    repeats: int = RepeatsOption,
    json_: bool = JsonOption,
) -> None:
    """All market channels against the same channels in polars and pandas."""
    _bench("features", {"bars": bars, "repeats": repeats}, json_)


@app.command()
@explained
def sequences(
    bars: Path | None = BarsOption,
    repeats: int = RepeatsOption,
    json_: bool = JsonOption,
) -> None:
    """Assembling batches from the panel against a plain memory copy."""
    _bench("sequences", {"bars": bars, "repeats": repeats}, json_)


@app.command()
@explained
def reading(
    files: Annotated[int, typer.Option(min=1, help="CSV files in the folder.")] = 1600,
    csv_rows: Annotated[int, typer.Option(min=1, help="Rows in all of them.")] = 3_060_000,
    parquet_rows: Annotated[int, typer.Option(min=1, help="Rows of the Parquet table.")] = 8_500_000,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats; the median counts.")] = 1,
    json_: bool = JsonOption,
) -> None:
    """Reading and cleaning of many CSV files and of one Parquet table; needs 500 MB in TMPDIR."""
    _bench("reading", {"files": files, "csv_rows": csv_rows, "parquet_rows": parquet_rows, "repeats": repeats}, json_)


@app.command()
@explained
def memory(
    bars: Annotated[
        Path | None, typer.Option("--bars", help="Bars to use (long Parquet table, sorted). Default: simulated.")
    ] = None,
    copies: str = CopiesOption,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats per size; median time, highest peak.")] = 1,
    json_: bool = JsonOption,
) -> None:
    """Peak memory and time of the feature panel on copies of the universe; needs room in TMPDIR."""
    sizes = _sizes(copies)
    _bench("memory", {"bars": bars, "copies": sizes, "repeats": repeats}, json_)


@app.command()
@explained
def scale(
    bars: Annotated[
        Path | None, typer.Option("--bars", help="Cleaned bars (long Parquet table, sorted). Default: simulated.")
    ] = None,
    copies: str = CopiesOption,
    engine: Annotated[str, typer.Option(help="local or ray.")] = "local",
    shard_bars: Annotated[int | None, typer.Option(help="Bars of a shard at least.")] = None,
    json_: bool = JsonOption,
) -> None:
    """Time and peak memory of the data stages over shards on copies of the universe; needs room in TMPDIR."""
    options = {"bars": bars, "copies": _sizes(copies), "engine": engine, "shard_bars": shard_bars}
    _bench("scale", {**options, "say": lambda line: typer.echo(line, err=True)}, json_)


@app.command()
@explained
def scan(
    device: str = DeviceOption,
    repeats: int = RepeatsOption,
    json_: bool = JsonOption,
) -> None:
    """The selective scan, all backends that run here."""
    _bench("scan", {"device": device, "repeats": repeats}, json_)


@app.command()
@explained
def train(
    device: str = DeviceOption,
    repeats: int = RepeatsOption,
    json_: bool = JsonOption,
) -> None:
    """Whole training steps, all variants that run here."""
    _bench("train", {"device": device, "repeats": repeats}, json_)


@app.command()
@explained
def architectures(
    device: str = DeviceOption,
    repeats: int = RepeatsOption,
    json_: bool = JsonOption,
) -> None:
    """Our model beside a GRU, attention alone and Mamba-2 at 50, 128 and 256 bars."""
    _bench("architectures", {"device": device, "repeats": repeats}, json_)
