"""`k4 serve`: one part of the UI as the main process of a container or a unit; `k4 ui` is all three on one machine."""

from __future__ import annotations

import enum
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from k4_pipeline.cli.children import ended, family, start, stop_signals
from k4_pipeline.cli.common import HomeOption, explained, settings_for
from k4_pipeline.errors import ConfigError


class Part(enum.StrEnum):
    """What a process of the server does."""

    code = "code"
    web = "web"
    daemon = "daemon"


@explained
def serve(
    part: Annotated[Part, typer.Argument(help="code: the code server and its runs; web: the UI; daemon: schedules.")],
    host: Annotated[str, typer.Option(help="Address to listen on (code and web).")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; default: 4000 for code, 3000 for web.")] = None,
    workspace: Annotated[
        Path | None, typer.Option(help="workspace.yaml that names the code server (web and daemon).")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="HOST[:PORT]", help="Further Host header to accept, as behind a proxy."),
    ] = None,
    home: Path | None = HomeOption,
) -> None:
    """Run one part of the server until a stop signal comes; then end everything it started, runs included.

    For `docker stop`, systemd and Kubernetes: SIGTERM ends with status 0 and no process left. The web part listens on
    other addresses than loopback only with K4_UI_TOKEN.
    """
    from k4_pipeline.cli.ui_guard import allowed_hosts
    from k4_pipeline.cli.ui_server import TOKEN_VARIABLE
    from k4_pipeline.defs.confine import ROOTS_VARIABLE
    from k4_pipeline.defs.instance import create_home
    from k4_pipeline.defs.partitions import UI_VARIABLE

    if part != Part.code and (workspace is None or not workspace.is_file()):
        raise ConfigError(f"k4 serve {part} needs --workspace: a workspace.yaml that names the code server")
    if part == Part.web and host not in ("127.0.0.1", "localhost", "::1") and not os.environ.get(TOKEN_VARIABLE):
        raise ConfigError(f"--host {host} is reachable from other machines: set {TOKEN_VARIABLE} to a secret first")
    settings = settings_for(home)
    create_home(settings)
    environment = {
        **os.environ,
        "DAGSTER_HOME": os.environ.get("DAGSTER_HOME") or str(settings.dagster_dir),
        "K4_HOME": str(settings.home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        UI_VARIABLE: "1",
        ROOTS_VARIABLE: os.environ.get(ROOTS_VARIABLE) or str(settings.home),
    }
    python, port = sys.executable, port or (4000 if part == Part.code else 3000)
    listening = ["--host", host, "--port", str(port)]
    location = ["-m", "k4_pipeline.definitions", "--location-name", "k4_pipeline", "--inject-env-vars-from-instance"]
    allowed = ["--allowed", *sorted(allowed_hosts(host, port, allow_host or ()))]
    commands = {
        Part.code: ["dagster", "code-server", "start", *location, *listening],
        Part.web: ["k4_pipeline.cli.ui_server", *listening, "--workspace", str(workspace), *allowed],
        Part.daemon: ["dagster._daemon", "run", "-w", str(workspace)],
    }
    with stop_signals() as stopped, family() as children:
        children[part] = start([python, "-m", *commands[part]], environment)
        while not stopped:
            if end := ended(children):
                typer.secho(f"k4 serve: {end}", fg="red", err=True)
                raise typer.Exit(1)
            time.sleep(0.3)
