"""`k4 ui` as a process: foreign requests, and that nothing of it stays when it ends, whichever way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
START_S, STOP_S = 180.0, 40.0
MUTATION = 'mutation{setSensorCursor(sensorSelector:{sensorName:"x"}){__typename}}'


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _below(home: Path) -> dict[int, str]:
    """pid -> command line of every living process that works on this home."""
    found = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(folder.name)
            environment = (folder / "environ").read_bytes().split(b"\0")
            if f"K4_HOME={home}".encode() in environment and (folder / "cmdline").read_bytes():
                found[pid] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def _ask(port: int, path: str = "/server_info", data: bytes | None = None, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, named)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


@contextlib.contextmanager
def _ui(home: Path):
    """(process, port) of a `k4 ui` that answers."""
    port = _port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("K4_")}
    log = home.parent / "ui.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "k4_pipeline.cli", "ui", "--port", str(port)],
            env={**environment, "K4_HOME": str(home)},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_S
        while True:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            with contextlib.suppress(OSError):
                if _ask(port) == 200:
                    break
            time.sleep(0.3)
        yield process, port
    finally:
        for pid in [process.pid, *_below(home)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _gone(home: Path) -> bool:
    deadline = time.monotonic() + STOP_S
    while _below(home) and time.monotonic() < deadline:
        time.sleep(0.2)
    return not _below(home)


def test_foreign_requests_are_refused_and_sigterm_ends_every_process(tmp_path):
    home = tmp_path / "home"
    with _ui(home) as (process, port):
        query = json.dumps({"query": "{version}"}).encode()
        kind = {"content_type": "application/json"}
        assert _ask(port, "/graphql", query, **kind) == 200
        assert _ask(port, "/graphql", query, origin=f"http://127.0.0.1:{port}", **kind) == 200
        assert _ask(port, "/graphql", query, origin="http://evil.example", **kind) == 403
        assert _ask(port, "/graphql", query, host="evil.example", **kind) == 403
        assert _ask(port, "/graphql?query=" + urllib.parse.quote(MUTATION)) == 405
        assert len(_below(home)) >= 4
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S) == 0
        assert _gone(home), _below(home)


def test_a_dead_web_server_ends_the_rest_with_status_1(tmp_path):
    home = tmp_path / "home"
    with _ui(home) as (process, _):
        (server,) = [pid for pid, command in _below(home).items() if "cli.ui_server" in command]
        os.kill(server, signal.SIGKILL)
        assert process.wait(STOP_S) == 1
        assert _gone(home), _below(home)
        assert "the web server ended with status -9" in (tmp_path / "ui.log").read_text()


def test_a_port_in_use_is_said_in_one_sentence(tmp_path):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "k4_pipeline.cli", "ui", "--port", str(port), "--home", str(tmp_path / "home")],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
