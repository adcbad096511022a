"""`k4 export`: any table of the graph as Parquet or CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from k4_pipeline.cli.common import HomeOption, JsonOption, explained, print_json, settings_for
from k4_pipeline.defs.export import EXPORTS, LEDGERS, export_asset, export_bundle

NAMES = ", ".join((*EXPORTS, *LEDGERS))


@explained
def export(
    asset: Annotated[str, typer.Argument(help=f"What to export: {NAMES}; or bundle, a training to run elsewhere.")],
    out: Annotated[Path, typer.Option("--out", help="File to write: .parquet or .csv; for bundle a new folder.")],
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", metavar="DATE", help="Partition, where there are any. Default: newest."),
    ] = None,
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
) -> None:
    """Write a table of the graph to a file.

    `sequences` gives the original sequence table: one row per snapshot with its 50 x 69 values, attention mask, dates
    and class, for tools that read it. Only versions whose checks passed are exported.

    `prediction_ledger` gives every signal that was ever given, `drift` what every night measured; both verified.

    `bundle` writes what the training of an as-of date reads into a new folder. `python -m k4_pipeline.training DIR`
    trains it on any machine with the same version, and `k4 import DIR` takes the result over. No class of a test row
    is in it.
    """
    if asset == "bundle":
        made = export_bundle(settings_for(home), out, as_of)
        if json_:
            print_json(made)
        else:
            typer.echo(f"training of {made['as_of']} -> {made['path']}; run: {made['command']}")
        return
    written = export_asset(settings_for(home), asset, out, as_of)
    if json_:
        print_json(written)
    else:
        partition = f" (as of {written['as_of']})" if written["as_of"] else ""
        typer.echo(f"{written['rows']:,} rows of {asset}{partition} -> {written['path']}")
