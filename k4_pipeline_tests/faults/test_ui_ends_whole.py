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

from k4_pipeline.storage.writer_lock import writer_of
from k4_pipeline_tests.alerts.receivers import receiver

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
def _ui(home: Path, **more: str):
    """(process, port) of a `k4 ui` that answers; `more`: its environment."""
    port = _port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("K4_")} | more
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


LAUNCH = """mutation($job: String!) { launchRun(executionParams: {runConfigData: {}, selector: {
  repositoryLocationName: "k4_pipeline", repositoryName: "__repository__", jobName: $job}})
  { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


def _graphql(port: int, query: str, **variables: str) -> dict:
    data = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    assert "errors" not in answer, answer
    return answer["data"]


def _launch(port: int) -> str:
    launched = _graphql(port, LAUNCH, job="nightly")["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    return launched["run"]["runId"]


def _until(port: int, run: str, statuses: set[str], seconds: float) -> float:
    """Seconds until the run has one of these statuses."""
    began = time.monotonic()
    while (status := _graphql(port, STATUS, id=run)["runOrError"]["status"]) not in statuses:
        assert time.monotonic() - began < seconds, f"{run} is {status}"
        time.sleep(0.5)
    return time.monotonic() - began


@pytest.mark.skipif(os.environ.get("K4_FAULTS") != "all", reason="takes minutes; make faults")
def test_a_killed_run_of_the_ui_is_failed_within_two_minutes_its_slot_is_free_and_it_is_told_once(tmp_path):
    home = tmp_path / "home"
    with receiver() as hook, _ui(home, K4_ALERT_URLS=hook.url) as (process, port):
        run, waiting = _launch(port), _launch(port)
        _until(port, run, {"STARTED"}, 180)
        deadline = time.monotonic() + 60
        while ((writer := writer_of(home)) is None or writer.run_id != run) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert writer is not None
        os.kill(writer.pid, signal.SIGKILL)
        seconds = _until(port, run, {"FAILURE"}, 120)
        next_seconds = _until(port, waiting, {"STARTED", "SUCCESS", "FAILURE"}, 120)
        deadline = time.monotonic() + 120
        while not [m for m in hook.messages if run in m["message"]] and time.monotonic() < deadline:
            time.sleep(1)
        time.sleep(35)  # two more looks
        told = [m for m in hook.messages if run in m["message"]]
        sys.stdout.write(f"failed after {seconds:.0f} s, the next run started {next_seconds:.0f} s later\n")
        assert len(told) == 1, told
        assert "run killed" in told[0]["title"]
        process.send_signal(signal.SIGINT)  # with a run at work
        assert process.wait(STOP_S) == 0
        assert _gone(home), _below(home)


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
