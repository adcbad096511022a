"""Children forked from one warm process: a campaign of thousands of runs imports torch and Dagster once."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Task = tuple[str, Callable[[], dict[str, Any]]]  # a name, and what gives its result


def in_child(action: Callable[[], int | None], log: Path | None = None) -> int:
    """The exit status of `action` in a child; negative: the signal that ended it. What it prints goes to `log`."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            if log is not None:
                handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                os.dup2(handle, 1)
                os.dup2(handle, 2)
            code = action() or 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 71
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def results(tasks: Iterable[Task], folder: Path, cores: int, seconds: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each task's result as it comes, `cores` at once. After `seconds` none is begun; those at work end with status."""
    folder.mkdir(parents=True, exist_ok=True)
    waiting, running = iter(tasks), {}
    deadline = time.monotonic() + seconds
    while True:
        while len(running) < cores and time.monotonic() < deadline:
            task = next(waiting, None)
            if task is None:
                break
            name, action = task
            file = folder / f"{name.replace('/', '_').replace(' ', '_')}.json"
            running[_start(action, file)] = (name, file)
        if not running:
            return
        pid, status = os.waitpid(-1, 0)
        if pid not in running:
            continue
        name, file = running.pop(pid)
        if file.is_file():
            yield name, json.loads(file.read_text())
            file.unlink()
        else:
            yield name, {"wrong": [f"the task ended with status {os.waitstatus_to_exitcode(status)}"]}


def _start(action: Callable[[], dict[str, Any]], file: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    began = time.monotonic()
    try:
        try:
            result = action()
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            result = {"wrong": [f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"]}
        result["seconds"] = round(time.monotonic() - began, 2)
        half = file.with_suffix(".half")
        half.write_text(json.dumps(result))
        half.rename(file)
    finally:
        os._exit(0)


def spread(points: Iterable[int]) -> list[int]:
    """The same numbers in an order of which every beginning lies evenly over all of them."""
    ordered = sorted(points)
    bits = max(len(ordered) - 1, 1).bit_length()
    return [ordered[i] for i in sorted(range(len(ordered)), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2))]
