"""Child processes of which nothing stays: ended together, with everything they started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

ASK_S, INSIST_S = 10.0, 5.0  # how long children may take after SIGINT, then after SIGTERM; then SIGKILL
PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that a stop signal puts its number into; a second signal changes nothing."""
    stopped: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda n, _: stopped.append(n)) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A child in a process group of its own, which is asked to end when this process is killed (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def before_exec() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=before_exec)


def ended(children: dict[str, subprocess.Popen[bytes]]) -> str:
    """A sentence about a child that ended by itself; empty while all live."""
    for name, child in children.items():
        if child.poll() is not None:
            return f"the {name} ended with status {child.returncode}"
    return ""


@contextlib.contextmanager
def family() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
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
