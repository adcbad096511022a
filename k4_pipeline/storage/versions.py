"""Folders of versions and what is said of them: names, events, and the removal of what nobody needs."""

from __future__ import annotations

import datetime as dt
import fcntl
import secrets
import shutil
from pathlib import Path
from typing import Any

from k4_pipeline.storage.artifact_ref import MANIFEST, ArtifactRef
from k4_pipeline.storage.atomic import try_lock


def remove_leftovers(home: Path) -> None:
    """Remove the temporary folders of writers that live no more."""
    for lock in home.glob(".tmp-*.lock"):
        handle = try_lock(lock)
        if handle is not None:
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
            handle.close()
    for folder in home.glob(".removed-*"):
        shutil.rmtree(folder, ignore_errors=True)


def remove_unnamed(home: Path, kept: set[str | None]) -> None:
    """Remove versions that no pointer names, unless someone holds a lease on them: those go another time."""
    for folder in home.glob("v*"):
        if folder.name in kept:
            continue
        try:
            handle = (folder / MANIFEST).open("rb")
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            removed = home / f".removed-{secrets.token_hex(8)}"
            folder.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)


def next_version(last: str | None) -> str:
    """`v` + UTC time to the microsecond; always after `last`, even when the clock went back."""
    now = dt.datetime.now(dt.UTC)
    if last is not None:
        before = dt.datetime.strptime(last, "v%Y%m%dT%H%M%S.%fZ").replace(tzinfo=dt.UTC)
        now = max(now, before + dt.timedelta(microseconds=1))
    return now.strftime("v%Y%m%dT%H%M%S.%fZ")


def record(state: dict[str, Any], event: str, ref: ArtifactRef, **more: Any) -> None:
    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    state["history"].append({"at": at, "event": event, "version": ref.version, "fingerprint": ref.fingerprint, **more})
