"""`k4 data check`: reads and cleans a source, trains nothing, and says what was read how and what was refused why."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from k4_pipeline.cli.common import HomeOption, JsonOption, explained, out_console, print_json, source_named

if TYPE_CHECKING:
    from k4_pipeline.config import PipelineConfig
    from k4_pipeline.market.bars import Bars
    from k4_pipeline.settings import Settings

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at a source of bars before it is used.")


@app.callback()
def data() -> None:
    """Look at a source of bars before it is used."""


@app.command()
@explained
def check(
    source: Annotated[
        str | None,
        typer.Option(help="folder, table, stooq, a vendor (see k4 run --help) or simulated; told from --path."),
    ] = None,
    path: Annotated[
        str | None, typer.Option(help="Folder of files, or one long file; also of a store (s3://bucket/prefix).")
    ] = None,
    universe: Annotated[str | None, typer.Option(help="Only these tickers (comma separated).")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.parquet", help="Write the clean bars.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Any setting, e.g. source.dialect='decimal=comma'."),
    ] = None,
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
) -> None:
    """Read and clean; nothing is trained or stored.

    Exit status 1 when nothing usable is left.
    """
    from k4_pipeline.market.summary import check_source, show
    from k4_pipeline.options import apply_assignments, apply_options
    from k4_pipeline.settings import load_settings

    base = load_settings(home, stored=False)
    given = {
        "source": source_named(source, path),
        "path": path,
        "universe": universe,
    }
    config = apply_assignments(apply_options(base.config, given), set_ or [])
    if config.source.source == "simulated" and source is None:
        typer.echo("the embedded simulated market; --path FILE_OR_FOLDER looks at yours", err=True)
    summary, bars = check_source(config, raw_dir=base.raw_dir)
    if bars is not None:
        summary["warnings"] += _restated(base, config, bars)
    if out is not None and bars is not None:
        from k4_pipeline.storage import write_parquet

        write_parquet(bars.to_frame(), out)
        summary["written"] = str(out)
    if json_:
        print_json(summary)
    elif bars is not None or summary["rows_read"]:
        _print(show(summary))
    if bars is None:
        if not json_:
            typer.secho(f"k4: {summary['error']}", fg="red", err=True)
        raise typer.Exit(1)


def _restated(base: Settings, config: PipelineConfig, bars: Bars) -> list[str]:
    """What the source says otherwise than the bars of it that are stored in the home."""
    from k4_pipeline.defs.staging import load_json, load_table
    from k4_pipeline.errors import K4Error
    from k4_pipeline.market.revisions import restated, revision_log
    from k4_pipeline.storage import ArtifactStore

    try:
        ref = ArtifactStore(base.artifacts_dir).last_good("daily_bars")
    except K4Error:
        return []
    then = load_json(ref, "config.json")["source"]
    if (then["source"], then["path"]) != (config.source.source, config.source.path):
        return []
    now = dt.datetime.now(dt.UTC)
    return restated(revision_log(None, load_table(ref), bars.to_frame(), now), now)


def _print(lines: list[str]) -> None:
    console: Any = out_console()
    for line in lines:
        console.print(line, markup=False, highlight=False)
