"""`k4 ui`: the Dagster UI on the home folder: code server, web server behind a guard, daemon; one lives, all live."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from k4_pipeline.cli.common import HomeOption, explained, settings_for
from k4_pipeline.errors import ConfigError

START_S = 180.0
ASK_S, INSIST_S = 10.0, 5.0  # how long children may take after SIGINT, then after SIGTERM; then SIGKILL
PR_SET_PDEATHSIG = 1


@explained
def ui(
    port: Annotated[int, typer.Option(help="Port of the web server.")] = 3000,
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
    with _stop_signals() as stopped, _children() as children:
        children["code server"] = _start(code_server, environment)
        began = time.monotonic()
        while not stopped and not _answers(code_socket):
            if (ended := _ended(children)) or time.monotonic() - began > START_S:
                typer.secho(f"k4 ui: {ended or 'the code server'} did not start", fg="red", err=True)
                return 1
            time.sleep(0.3)
        if not stopped:
            children["web server"] = _start(web, environment)
            children["daemon"] = _start(daemon, environment)
        while not stopped:
            if ended := _ended(children):
                typer.secho(f"k4 ui: {ended}; everything else is stopped too", fg="red", err=True)
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


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that a stop signal puts its number into; a second signal changes nothing."""
    stopped: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda n, _: stopped.append(n)) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A child in a process group of its own, which is asked to end when this process is killed (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def before_exec() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=before_exec)


def _ended(children: dict[str, subprocess.Popen[bytes]]) -> str:
    for name, child in children.items():
        if child.poll() is not None:
            return f"the {name} ended with status {child.returncode}"
    return ""


@contextlib.contextmanager
def _children() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Children by name; at the end all of them and everything they started are gone."""
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        yield children
    finally:
        for child in children.values():
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
        _wait(children, ASK_S)
        for number, patience in ((signal.SIGTERM, INSIST_S), (signal.SIGKILL, INSIST_S)):
            for child in children.values():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, number)  # its group: also what outlived it
            _wait(children, patience)


def _wait(children: dict[str, subprocess.Popen[bytes]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(_group_lives(child) for child in children.values()):
        time.sleep(0.1)


def _group_lives(child: subprocess.Popen[bytes]) -> bool:
    child.poll()
    try:
        os.killpg(child.pid, 0)
    except ProcessLookupError:
        return False
    return True
