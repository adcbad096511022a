"""`k4 ui`: the Dagster UI on the home folder: code server, web server behind a guard, daemon; one lives, all live."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from k4_pipeline.cli.children import ended, family, start, stop_signals
from k4_pipeline.cli.common import HomeOption, explained, settings_for
from k4_pipeline.errors import ConfigError

START_S = 180.0


@explained
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the web server.")] = 3000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; another than loopback needs K4_UI_TOKEN.")
    ] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="HOST[:PORT]", help="Further Host header to accept, as behind a proxy."),
    ] = None,
    home: Path | None = HomeOption,
) -> None:
    """Start the Dagster UI (web server and daemon) on the same home folder as `k4 run`.

    The daemon runs schedules, backfills and the alert sensor. Stop with Ctrl-C; everything it started ends with it.
    """
    from k4_pipeline.cli.ui_guard import allowed_hosts
    from k4_pipeline.cli.ui_server import TOKEN_VARIABLE
    from k4_pipeline.defs.confine import ROOTS_VARIABLE
    from k4_pipeline.defs.instance import create_home
    from k4_pipeline.defs.partitions import UI_VARIABLE

    if host not in ("127.0.0.1", "localhost", "::1") and not os.environ.get(TOKEN_VARIABLE):
        raise ConfigError(
            f"--host {host} is reachable from other machines and the UI can start runs: set {TOKEN_VARIABLE} to a "
            "secret of your choice first, or leave --host away and use an SSH tunnel"
        )
    _require_free(host, port)
    if importlib.util.find_spec("dagster_webserver") is None:
        raise ConfigError("dagster-webserver is not installed here; run `make setup`")
    settings = settings_for(home)
    create_home(settings)
    address = f"http://{host}:{port}"
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(settings.dagster_dir),
        "K4_HOME": str(settings.home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "K4_UI_URL": os.environ.get("K4_UI_URL") or address,
        UI_VARIABLE: "1",
        ROOTS_VARIABLE: os.environ.get(ROOTS_VARIABLE) or str(settings.home),
    }
    typer.echo(f"UI: {address}  (home folder {settings.home})")
    folder = tempfile.mkdtemp(prefix="k4-ui-")
    try:
        allowed = sorted(allowed_hosts(host, port, allow_host or ()))
        raise typer.Exit(_serve(Path(folder), environment, host, port, allowed))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _require_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            raise ConfigError(
                f"cannot listen on {host}:{port} ({problem.strerror}); choose another with --port, or stop what uses it"
            ) from problem


def _serve(folder: Path, environment: dict[str, str], host: str, port: int, allowed: list[str]) -> int:
    """Start the children and wait; the exit status: 0 after a signal, 1 when a child ended by itself."""
    code_socket, workspace = folder / "code.sock", folder / "workspace.yaml"
    workspace.write_text(
        f"load_from:\n  - grpc_server:\n      socket: {code_socket}\n      host: localhost\n"
        "      location_name: k4_pipeline\n"
    )
    python = sys.executable
    code_server = [python, "-m", "dagster", "code-server", "start", "-m", "k4_pipeline.definitions"]
    code_server += ["--socket", str(code_socket), "--location-name", "k4_pipeline", "--inject-env-vars-from-instance"]
    web = [python, "-m", "k4_pipeline.cli.ui_server", "--host", host, "--port", str(port)]
    web += ["--workspace", str(workspace), "--allowed", *allowed]
    daemon = [python, "-m", "dagster._daemon", "run", "-w", str(workspace)]
    with stop_signals() as stopped, family() as children:
        children["code server"] = start(code_server, environment)
        began = time.monotonic()
        while not stopped and not _answers(code_socket):
            if (end := ended(children)) or time.monotonic() - began > START_S:
                typer.secho(f"k4 ui: {end or 'the code server'} did not start", fg="red", err=True)
                return 1
            time.sleep(0.3)
        if not stopped:
            children["web server"] = start(web, environment)
            children["daemon"] = start(daemon, environment)
        while not stopped:
            if end := ended(children):
                typer.secho(f"k4 ui: {end}; everything else is stopped too", fg="red", err=True)
                return 1
            time.sleep(0.3)
    return 0


def _answers(code_socket: Path) -> bool:
    from dagster._grpc.client import DagsterGrpcClient

    if not code_socket.exists():
        return False
    try:
        DagsterGrpcClient(socket=str(code_socket)).ping("k4 ui")
    except Exception:  # any error of the transport: not yet
        return False
    return True
