"""`k4 init`: the home folder and the Dagster database in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from k4_pipeline.cli.common import HomeOption, err_console, explained, settings_for


@explained
def init(
    compile_: Annotated[
        bool, typer.Option("--compile", help="Also compile the numeric kernels, once, so that the first run is quick.")
    ] = False,
    home: Path | None = HomeOption,
) -> None:
    """Create the home folder and the Dagster database in it. Safe to call again.

    Done once at installation: a fresh database breaks when several Dagster processes create it at the same moment.
    """
    from k4_pipeline.defs.instance import create_home

    typer.echo(f"home folder: {create_home(settings_for(home))}")
    if compile_:
        with err_console().status("compiling the numeric kernels (once, about a minute)"):
            _compile_kernels()


def _compile_kernels() -> None:
    """Run the whole path once on a very small market: every kernel it needs lands in numba's cache."""
    from k4_pipeline.leakage.engine.small import SMALL_AS_OF, small_config
    from k4_pipeline.market.sources.simulated import simulate
    from k4_pipeline.pipeline.stages import run_path

    config = small_config()
    run_path(simulate(config.simulation), config, SMALL_AS_OF)
