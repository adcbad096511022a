"""The alert sensor as it runs for a user: failed runs in the home folder, the Dagster daemon, a local HTTP receiver."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from k4_pipeline.config import PipelineConfig
from k4_pipeline.defs.instance import create_home, workspace_file
from k4_pipeline.defs.run import DATA_ASSETS, run_graph
from k4_pipeline.defs.sensors import INTERVAL_S
from k4_pipeline.options import apply_options
from k4_pipeline.settings import Settings
from k4_pipeline_tests.alerts.receivers import receiver

pytestmark = pytest.mark.slow
PATIENCE_S = 180.0


@pytest.fixture
def hook():
    with receiver() as hook:
        yield hook


def _run(home: Path, **options: object):
    settings = Settings(home, apply_options(PipelineConfig(), options))
    return run_graph(settings, DATA_ASSETS, as_of=None, log=home / "log")


def test_the_daemon_tells_every_failed_check_and_failed_run_once(tmp_path, hook):
    home = tmp_path / "home"
    create_home(Settings(home))
    # Too few bars for a pattern: the checks of the empty snapshot table find no evidence and fail.
    checks = _run(home, tickers=8, bars=300)
    failed_checks = [c for c in checks.checks if not c.passed]
    assert len(failed_checks) >= 2
    # An unreadable source: the run fails without any check.
    broken = _run(home, source="table", path="/nosuch/bars.parquet")
    assert not broken.success
    assert not broken.checks

    environment = {k: v for k, v in os.environ.items() if not k.startswith("K4_")}
    daemon = subprocess.Popen(
        [Path(sys.executable).with_name("dagster-daemon"), "run", "-w", workspace_file(Settings(home))],
        env={
            **environment,
            "DAGSTER_HOME": str(Settings(home).dagster_dir),
            "K4_HOME": str(home),
            "K4_ALERT_URLS": hook.url,
        },
        stdout=(tmp_path / "daemon.log").open("w"),
        stderr=subprocess.STDOUT,
    )
    expected = len(failed_checks) + 1
    try:
        deadline = time.monotonic() + PATIENCE_S
        while len(hook.facts()) < expected and time.monotonic() < deadline:
            time.sleep(0.5)
        assert len(hook.facts()) == expected, (tmp_path / "daemon.log").read_text()[-3000:]
        time.sleep(2 * INTERVAL_S)  # at least one more look, and nothing twice
    finally:
        daemon.terminate()
        daemon.wait(30)
    assert len(set(hook.facts())) == len(hook.facts()) == expected
    text = "\n".join(m["title"] + "\n" + m["message"] for m in hook.messages)
    for check in failed_checks:
        assert text.count(f"{check.check} on {check.asset}") == 1
    assert text.count("run failed: full_pipeline") == 1
    assert "nosuch" in text
