"""`k4 signals`: today's open patterns as the champion sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from k4_pipeline.cli.common import HomeOption, JsonOption, explained, out_console, print_json, settings_for
from k4_pipeline.errors import BadInputError


@explained
def signals(
    top: Annotated[int, typer.Option(help="How many to show, best expected value first.")] = 20,
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
) -> None:
    """List the open patterns of the last day: signal, expected value, P(K4), the price to buy above and the box."""
    from k4_pipeline.cli.results import read_signals, signal_table
    from k4_pipeline.storage import ArtifactStore

    if top < 1:
        raise BadInputError(f"--top is {top}; give 1 or more")
    rows = read_signals(ArtifactStore(settings_for(home).artifacts_dir))
    if json_:
        print_json(rows[:top])
    elif rows:
        out_console().print(signal_table(rows, top))
    else:
        typer.echo("no pattern was open on the last day, so there is no signal: nothing is wrong")
