"""One writer at a time, named; a killed holder frees the lock; a killed run is told from a living one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from k4_pipeline.errors import BusyError
from k4_pipeline.storage.atomic import try_lock
from k4_pipeline.storage.owner import Owner
from k4_pipeline.storage.writer_lock import (
    TURN_FILE,
    forget_life,
    is_dead,
    sharing,
    show_life,
    writer_of,
    writers_of,
    writing,
)

HOLDER = """
import sys, time
from pathlib import Path
from k4_pipeline.storage.writer_lock import Owner, show_life, writing
home = Path(sys.argv[1])
show_life(home, "a-run")
with writing(home, Owner.this_process("k4 run --tickers 9")):
    print("holding", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(home: Path, seconds: float = 60.0) -> subprocess.Popen[str]:
    """Another process that holds the lock of `home`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    return process


def test_a_second_writer_is_refused_with_the_name_of_the_first(tmp_path):
    process = holder(tmp_path)
    try:
        with (
            pytest.raises(BusyError, match=rf"`k4 run --tickers 9` \(process {process.pid} on .*, since 20"),
            writing(tmp_path),
        ):
            pass
        assert writer_of(tmp_path).pid == process.pid
        assert is_dead(tmp_path, "a-run") is False
    finally:
        process.kill()
        process.wait()


def test_a_killed_writer_frees_the_lock_and_its_run_is_known_to_be_dead(tmp_path):
    process = holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert writer_of(tmp_path) is None
    assert is_dead(tmp_path, "a-run") is True
    with writing(tmp_path):
        assert writer_of(tmp_path).pid == os.getpid()
    assert writer_of(tmp_path) is None
    forget_life(tmp_path, keep=set())
    assert is_dead(tmp_path, "a-run") is None


def test_a_waiting_writer_says_for_whom_and_follows(tmp_path):
    process, others = holder(tmp_path, 1.0), []
    with writing(tmp_path, wait=True, waiting=others.append):
        assert process.wait(timeout=30) == 0
    assert [other.pid for other in others] == [process.pid]


def test_a_living_run_is_not_forgotten(tmp_path):
    show_life(tmp_path, "mine")
    forget_life(tmp_path, keep=set())
    assert is_dead(tmp_path, "mine") is False


def test_runs_of_partitions_share_a_home_and_who_waits_to_be_alone_is_next(tmp_path):
    first, second, third = (Owner.this_process("a partition", f"run{i}") for i in range(3))
    began: list[str] = []

    def alone() -> None:
        with writing(tmp_path, Owner.this_process("a night"), wait=True):
            began.append("alone")

    def late() -> None:
        with sharing(tmp_path, third, "2016-01-01"):
            began.append("shared")

    waiters = [threading.Thread(target=work) for work in (alone, late)]
    with sharing(tmp_path, first, "2014-01-01"):
        with sharing(tmp_path, second, "2015-01-01"):
            assert {w.run_id for w in writers_of(tmp_path)} == {"run0", "run1"}
            with pytest.raises(BusyError, match="a partition"), writing(tmp_path):
                pass
        assert [w.run_id for w in writers_of(tmp_path)] == ["run0"]
        waiters[0].start()
        deadline = time.monotonic() + 10
        while try_lock_is_free(tmp_path / TURN_FILE) and time.monotonic() < deadline:
            time.sleep(0.05)
        waiters[1].start()
        time.sleep(1.2)
        assert began == []
    for waiter in waiters:
        waiter.join(20)
    assert began == ["alone", "shared"]
    assert writers_of(tmp_path) == []


def test_two_runs_of_one_partition_come_one_after_the_other(tmp_path):
    first, second, waited = Owner.this_process("a", "run0"), Owner.this_process("b", "run1"), []
    began = threading.Event()

    def again() -> None:
        with sharing(tmp_path, second, "2014-01-01", waiting=waited.append):
            began.set()

    waiter = threading.Thread(target=again)
    with sharing(tmp_path, first, "2014-01-01"):
        waiter.start()
        assert not began.wait(1.2)
    waiter.join(20)
    assert began.is_set()
    assert [other.run_id for other in waited] == ["run0"]


def test_what_a_killed_run_signed_is_removed(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "gone.writer").write_text("{}")
    with sharing(tmp_path, Owner.this_process("a", "run0"), "2014-01-01"):
        forget_life(tmp_path, keep=set())
        assert [path.name for path in (tmp_path / "runs").glob("*.writer")] == ["run0.writer"]


def try_lock_is_free(path: Path) -> bool:
    handle = try_lock(path)
    if handle is not None:
        handle.close()
    return handle is not None
