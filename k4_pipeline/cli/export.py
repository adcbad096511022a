"""`k4 export`: any table of the graph as Parquet or CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from k4_pipeline.cli.common import HomeOption, JsonOption, explained, print_json, settings_for
from k4_pipeline.defs.export import EXPORTS, export_asset

NAMES = ", ".join(EXPORTS)


@explained
def export(
    asset: Annotated[str, typer.Argument(help=f"What to export: {NAMES}.")],
    out: Annotated[Path, typer.Option("--out", help="File to write: .parquet or .csv.")],
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
    """
    written = export_asset(settings_for(home), asset, out, as_of)
    if json_:
        print_json(written)
    else:
        partition = f" (as of {written['as_of']})" if written["as_of"] else ""
        typer.echo(f"{written['rows']:,} rows of {asset}{partition} -> {written['path']}")
