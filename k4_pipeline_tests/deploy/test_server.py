"""The parts of a server as processes on a real Postgres: a run is recorded there, and SIGTERM leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import dagster as dg
import pytest
import yaml

from k4_pipeline.config import PipelineConfig
from k4_pipeline.defs.instance import create_home, open_instance
from k4_pipeline.defs.run import run_graph
from k4_pipeline.defs.run_monitor import fail_dead_runs
from k4_pipeline.options import apply_options
from k4_pipeline.settings import Settings
from k4_pipeline_tests.deploy.postgres import free_port, postgres

pytestmark = pytest.mark.slow
DEPLOY = Path(__file__).parents[2] / "deploy"
TOKEN = "a secret of this test"
START_S, STOP_S = 180.0, 60.0  # stop: what compose.yaml and the systemd units give before they kill


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home whose instance is that of deploy/, in which the bars of a tiny market were read."""
    home = tmp_path_factory.mktemp("server") / "home"
    (home / "dagster").mkdir(parents=True)
    (home / "dagster" / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text())
    with postgres() as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in {**variables, "K4_HOME": str(home)}.items():
            patch.setenv(name, value)
        create_home(Settings(home))
        yield home


@dg.job
def _lost():
    """A run whose process is gone."""


def test_runs_events_and_slots_are_in_postgres_alone(home):
    settings = Settings(home, apply_options(PipelineConfig(), {"tickers": 3, "bars": 400}))
    outcome = run_graph(settings, ("daily_bars",), as_of=None, log=home / "log")
    assert outcome.success, outcome.errors
    with open_instance(settings) as instance:
        run = instance.get_run_by_id(outcome.run_ids[0])
        assert run is not None
        assert run.status == dg.DagsterRunStatus.SUCCESS
        assert "Postgres" in type(instance.run_storage).__name__ + type(instance.event_log_storage).__name__
        assert instance.get_latest_materialization_event(dg.AssetKey("daily_bars")) is not None
        lost = instance.create_run_for_job(_lost, status=dg.DagsterRunStatus.STARTED)
        lock = home / "runs" / f"{lost.run_id}.lock"
        lock.parent.mkdir(exist_ok=True)
        lock.touch()  # its process is gone
        assert fail_dead_runs(instance, home) == [lost.run_id]
    assert not list(home.rglob("*.db"))


def _below(home: Path) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(folder.name)
            environment = (folder / "environ").read_bytes().split(b"\0")
            mine = f"K4_HOME={home}".encode() in environment and b"K4_PART=1" in environment
            if mine and (folder / "cmdline").read_bytes():
                found.append(pid)
    return found


def _status(port: int, token: str = "") -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/server_info")
    if token:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_parts_serve_behind_the_guard_and_end_with_status_0_and_no_process_left(home):
    code, web = free_port(), free_port()
    workspace = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())
    workspace["load_from"][0]["grpc_server"] |= {"host": "127.0.0.1", "port": code}
    (home / "workspace.yaml").write_text(yaml.safe_dump(workspace))
    parts = {
        "code": ["--port", str(code)],
        "web": ["--port", str(web), "--workspace", str(home / "workspace.yaml")],
        "daemon": ["--workspace", str(home / "workspace.yaml")],
    }
    environment = {**os.environ, "K4_UI_TOKEN": TOKEN, "K4_PART": "1"}
    log = (home / "server.log").open("w")
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-m", "k4_pipeline.cli", "serve", name, *arguments],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        for name, arguments in parts.items()
    }
    try:
        deadline = time.monotonic() + START_S
        while True:
            assert all(p.poll() is None for p in processes.values()), (home / "server.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (home / "server.log").read_text()[-3000:]
            with contextlib.suppress(OSError):
                if _status(web, TOKEN) == 200:
                    break
            time.sleep(0.3)
        assert _status(web) == 401
        while len(_below(home)) < 2 * len(parts):  # each part and the server below it
            assert time.monotonic() < deadline, (home / "server.log").read_text()[-3000:]
            time.sleep(0.2)
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        assert {name: process.wait(STOP_S) for name, process in processes.items()} == dict.fromkeys(parts, 0)
        deadline = time.monotonic() + STOP_S
        while _below(home) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert _below(home) == []
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
        log.close()
