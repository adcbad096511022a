"""`k4 init` and `k4 ui`: the home folder and the Dagster UI on it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from k4_pipeline.cli.common import HomeOption, err_console, explained, settings_for
from k4_pipeline.errors import ConfigError


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


@explained
def ui(
    port: Annotated[int, typer.Option(help="Port of the web server.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    home: Path | None = HomeOption,
) -> None:
    """Start the Dagster UI (web server and daemon) on the same home folder as `k4 run`.

    The daemon runs schedules, backfills and the alert sensor. Stop with Ctrl-C.
    """
    from k4_pipeline.defs.instance import create_home, workspace_file

    settings = settings_for(home)
    create_home(settings)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(settings.dagster_dir),
        "K4_HOME": str(settings.home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    beside = Path(sys.executable).with_name("dagster")
    dagster = str(beside) if beside.exists() else shutil.which("dagster")
    if dagster is None or importlib.util.find_spec("dagster_webserver") is None:
        raise ConfigError("dagster-webserver is not installed here; run `make setup`")
    command = [dagster, "dev", "-w", str(workspace_file(settings)), "-h", host, "-p", str(port)]
    typer.echo(f"UI: http://{host}:{port}  (home folder {settings.home})")
    raise typer.Exit(subprocess.run(command, env=environment, check=False).returncode)
