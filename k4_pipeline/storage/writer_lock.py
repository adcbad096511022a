"""One writer at a time per home, and who it is; a sign of life for every run. Both by locks that the kernel frees.

`<home>/writer.lock` is locked while something writes results; its text names the holder. Runs that write partitions
alone share it, each with a locked `<home>/runs/<run id>.writer` that names it; who waits to be alone holds `turn.lock`,
so that no others slip in before it. `<home>/runs/<run id>.lock` is locked while the process of that run lives, so that
a killed run is told from a slow one without waiting.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO

from k4_pipeline.errors import BusyError
from k4_pipeline.storage.atomic import try_lock
from k4_pipeline.storage.owner import Owner
from k4_pipeline.storage.remote_home import remotely

LOCK_FILE, TURN_FILE = "writer.lock", "turn.lock"
POLL_S = 0.5
_held: dict[str, IO[bytes]] = {}  # signs of life of this process, by run id


def _lock_path(home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    return home / LOCK_FILE


def writer_of(home: Path) -> Owner | None:
    """Who writes into this home now, one of them where several share it; None when nobody does."""
    return next(iter(writers_of(home)), None)


def writers_of(home: Path) -> list[Owner]:
    """All who write into this home now."""
    path = home / LOCK_FILE
    if not path.is_file():
        return []
    handle = try_lock(path, shared=True)
    if handle is None:
        return [_named(path)]
    handle.close()
    return [_named(own) for own in sorted((home / "runs").glob("*.writer")) if _is_locked(own)]


def _named(path: Path) -> Owner:
    try:
        return Owner(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return Owner("this host", 0, "another process", "a moment ago")  # between taking the lock and signing it


def _is_locked(path: Path) -> bool:
    try:
        handle = try_lock(path, shared=True)
    except FileNotFoundError:
        return False
    if handle is not None:
        handle.close()
    return handle is None


def _take(home: Path, owner: Owner) -> IO[bytes] | None:
    handle = try_lock(_lock_path(home))
    if handle is not None:
        _sign(handle, owner)
    return handle


def _sign(handle: IO[bytes], owner: Owner) -> None:
    handle.truncate(0)
    handle.write(json.dumps(asdict(owner)).encode())
    handle.flush()


@contextlib.contextmanager
def sharing(
    home: Path, owner: Owner, partition: str, *, waiting: Callable[[Owner], None] = lambda other: None
) -> Iterator[None]:
    """Be one of several runs (`owner.run_id`) that each write a partition of their own; a place in line behind whoever
    writes alone or waits to, and behind another run of the same `partition` (a file name)."""
    _lock_path(home).touch()
    (home / "runs").mkdir(exist_ok=True)
    told: Owner | None = None
    while True:
        turn = try_lock(home / TURN_FILE)
        handle = None if turn is None else try_lock(_lock_path(home), shared=True)
        mine = None if handle is None else try_lock(home / "runs" / f"{partition}.partition")
        if turn is not None:
            turn.close()
        if handle is not None and mine is not None:
            break
        if handle is not None:
            handle.close()
        other = writer_of(home)
        if other is not None and other != told and other.pid:
            waiting(other)
            told = other
        time.sleep(POLL_S)
    path = home / "runs" / f"{owner.run_id}.writer"
    while (own := try_lock(path)) is None:  # whoever looks whether it is held holds it for a moment
        time.sleep(POLL_S)
    try:
        _sign(own, owner)
        yield
    finally:
        path.unlink(missing_ok=True)
        for held in (own, mine, handle):
            held.close()


@contextlib.contextmanager
def writing(
    home: Path,
    owner: Owner | None = None,
    *,
    wait: bool = False,
    waiting: Callable[[Owner], None] = lambda other: None,
) -> Iterator[None]:
    """Be the one writer of `home` inside the block.

    While another writes: `BusyError` that names it, or, with `wait`, a place in line; `waiting(other)` is called once
    for each other holder. Of a home in an object store the lease is taken as well, and what was written is published.
    """
    owner = owner or Owner.this_process()
    told: Owner | None = None
    turn = None
    while (handle := _take(home, owner)) is None:
        turn = turn or (try_lock(home / TURN_FILE) if wait else None)
        other = writer_of(home)
        if other is not None and not wait:
            raise BusyError(
                f"another run is active in {home}: {other.in_words()}; wait until it has ended (`k4 run "
                "--wait` does), or use another --home"
            )
        if other is not None and other != told and other.pid:
            waiting(other)
            told = other
        time.sleep(POLL_S)
    if turn is not None:
        turn.close()
    try:
        with remotely(home, owner, wait=wait):
            yield
    finally:
        handle.truncate(0)
        handle.close()


def _life_path(home: Path, run_id: str) -> Path:
    return home / "runs" / f"{run_id}.lock"


def show_life(home: Path, run_id: str) -> None:
    """From now until this process ends, `is_dead` says False of this run."""
    path = _life_path(home, run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = try_lock(path)
    if handle is not None:
        _held[run_id] = handle


def is_dead(home: Path, run_id: str) -> bool | None:
    """Whether the process that ran this is gone; None for a run that never showed life here."""
    path = _life_path(home, run_id)
    if not path.is_file():
        return None
    handle = try_lock(path, shared=True)
    if handle is None:
        return False
    handle.close()
    return True


def forget_life(home: Path, keep: set[str]) -> None:
    """Remove the signs of life of runs whose process is gone, those in `keep` excepted, and what named them writers."""
    for path in (home / "runs").glob("*.lock"):
        if path.stem not in keep and is_dead(home, path.stem):
            path.unlink(missing_ok=True)
    for path in (home / "runs").glob("*.writer"):
        if not _is_locked(path):
            path.unlink(missing_ok=True)
