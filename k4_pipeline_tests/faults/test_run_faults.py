"""`k4 run` as people start it: many at once, killed, interrupted, on a home that cannot be used.

What takes long (a crowd of 16, a run killed at many moments) needs K4_FAULTS=all (`make faults`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from k4_pipeline.defs.graph import ASSET_ORDER
from k4_pipeline.storage import ArtifactStore
from k4_pipeline.storage.writer_lock import writer_of

ALL = os.environ.get("K4_FAULTS") == "all"
whole = pytest.mark.skipif(not ALL, reason="takes minutes; make faults")
TINY = ["--tickers", "40", "--bars", "1500", "--preset", "tiny", "--epochs", "2"]
TOO_SMALL = ["--tickers", "2", "--bars", "600", "--preset", "tiny"]


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """A `k4` of its own process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("K4_")}
    return subprocess.Popen(
        [sys.executable, "-m", "k4_pipeline.cli", *arguments, "--home", str(home)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def message(process: subprocess.Popen[str]) -> str:
    """The message of its JSON document."""
    out, _ = process.communicate(timeout=900)
    value = json.loads(out)
    return value["error"]["message"] if "error" in value else "\n".join(value["errors"])


def test_of_several_runs_on_a_fresh_home_one_works_and_the_others_name_it(tmp_path: Path) -> None:
    crowd = [start(tmp_path / "home", "run", *(TINY if ALL else TOO_SMALL), "--json") for _ in range(16 if ALL else 3)]
    messages = [message(process) for process in crowd]
    refused = [text for text in messages if text.startswith("another run is active")]
    # Who comes when the first has ended works as well; nobody fails for another reason than its own input.
    assert refused
    assert all("`k4 run" in text and "(process " in text for text in refused)
    rest = [text for text in messages if text not in refused]
    assert rest
    assert all(text == "" if ALL else "BadInputError" in text or "does not hold" in text for text in rest), rest


@pytest.mark.parametrize("seconds", [2.0, *([0.0, 0.5, 1.0, 4.0, 6.0, 9.0, 13.0, 20.0, 30.0] if ALL else [])])
def test_an_interrupted_run_ends_with_one_line_and_130_and_is_not_left_running(tmp_path: Path, seconds: float) -> None:
    from k4_pipeline.defs.instance import open_instance
    from k4_pipeline.settings import Settings

    process = start(tmp_path, "run", *TINY)
    life = tmp_path / "runs"
    while process.poll() is None and not list(life.glob("*.lock")):
        time.sleep(0.2)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.strip().splitlines()[-1].startswith("k4: interrupted; what was finished is stored")
    assert "Traceback" not in err
    assert writer_of(tmp_path) is None
    with open_instance(Settings(tmp_path)) as instance:
        assert all(run.status.value in ("CANCELED", "SUCCESS") for run in instance.get_runs())
    assert not (tmp_path / "settings.json").exists()


def test_an_interrupt_is_seen_though_somebody_else_took_the_handler() -> None:
    from dagster._utils.interrupts import capture_interrupts

    from k4_pipeline.defs.interrupts import watching_for_stop

    with watching_for_stop() as asked:
        assert not asked()
        with capture_interrupts():  # forgets what came, when it ends
            os.kill(os.getpid(), signal.SIGINT)
        assert asked()
    with watching_for_stop() as asked:
        assert not asked()


def test_a_run_started_in_the_background_by_a_script_can_be_ended() -> None:
    # A shell without job control lets what it starts with `&` ignore SIGINT, and Dagster copies that to SIGTERM.
    code = """
import os, signal
from dagster._utils.interrupts import capture_interrupts
from k4_pipeline.defs.interrupts import watching_for_stop

signal.signal(signal.SIGINT, signal.SIG_IGN)
with watching_for_stop() as asked:
    with capture_interrupts():
        pass
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        print("stopped", asked())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["stopped", "True"]


@pytest.mark.parametrize("kind", ["file", "read-only"])
def test_a_home_that_cannot_be_used_is_one_sentence(tmp_path: Path, kind: str) -> None:
    home = tmp_path / "home"
    if kind == "file":
        home.write_text("")
        expected = f"{home} is a file where a folder is needed"
    else:
        if os.geteuid() == 0:
            home = Path("/proc/k4")  # a place where even root cannot make a folder
            expected = "/proc/k4"
        else:
            tmp_path.chmod(0o500)
            expected = "may not be read or written"
    process = start(home, "run", "--json")
    text = message(process)
    tmp_path.chmod(0o700)
    assert process.returncode == 1
    assert expected in text


@whole
def test_a_run_killed_again_and_again_ends_with_the_hashes_of_one_that_was_not(tmp_path: Path) -> None:
    calm = start(tmp_path / "calm", "run", *TINY, "--json")
    assert message(calm) == ""
    for seconds in range(4, 64, 4):
        process = start(tmp_path / "home", "run", *TINY, "--json")
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        store = ArtifactStore(tmp_path / "home" / "artifacts")
        for asset in ASSET_ORDER:
            for partition in store.partitions(asset) or [None]:
                if any(event["event"] == "promoted" for event in store.history(asset, partition)):
                    store.last_good(asset, partition).verify()
    assert message(start(tmp_path / "home", "run", *TINY, "--json")) == ""
    stores = [ArtifactStore(tmp_path / name / "artifacts") for name in ("calm", "home")]
    for asset in ASSET_ORDER:
        for partition in stores[0].partitions(asset) or [None]:
            first, second = (store.last_good(asset, partition) for store in stores)
            assert first.fingerprint == second.fingerprint, asset
