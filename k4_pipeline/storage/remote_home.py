"""A home in an object store: a folder here is its working copy, one record there says which files it has.

The record `head.json` names every file of the home with its sha256, and changes by one conditional write: whoever reads
sees all of the old home or all of the new one. Files lie under their hashes and are written before the record; a killed
writer leaves some that nothing names. What only this machine needs (locks, Dagster's own database, logs, shards,
secrets, unfinished work) does not travel.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from k4_pipeline.errors import BusyError, DamagedArtifactError
from k4_pipeline.storage.atomic import atomic_write_json, file_lock, sha256_file
from k4_pipeline.storage.object_store import LostRaceError, ObjectStore, StoreLease
from k4_pipeline.storage.owner import Owner

HEAD = "head.json"
MARKER = ".remote.json"  # in the working copy: the address, the head it was last equal to, and its files
CACHE_VARIABLE = "K4_CACHE"
STAYS = ("dagster", "runs", "unfinished", "logs", "shards", "alert_urls", MARKER)
POLL_S = 1.0
_POINTERS = ("state.json",)  # last, so that what they name is there
_VERSION = re.compile(r"artifacts/[^/]+/[^/]+/v")
_mine: set[Path] = set()  # working copies whose lease this process holds
_log = logging.getLogger(__name__)


def working_copy(url: str) -> Path:
    """The folder for this address, below K4_CACHE or the user's cache folder."""
    root = os.environ.get(CACHE_VARIABLE) or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "k4"
    name = f"{PurePosixPath(url).name or 'home'}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    return Path(root).absolute() / name


class RemoteHome:
    """A working copy and its place in the object store."""

    def __init__(self, home: Path, url: str) -> None:
        self.home, self.store = home, ObjectStore(url)

    @classmethod
    def of(cls, home: Path) -> RemoteHome | None:
        """That of a folder which is a working copy, or lies in one; None for any other folder."""
        for folder in (home, *home.parents):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return cls(folder, json.loads((folder / MARKER).read_text())["url"])
        return None

    def _marker(self) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return json.loads((self.home / MARKER).read_text())
        return {"url": self.store.url, "head": "", "files": {}}

    def _local(self, known: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """name -> [sha256, bytes, mtime] of every file that travels; only what changed is read."""
        found = {}
        for path in sorted(self.home.rglob("*")):
            parts = path.relative_to(self.home).parts
            hidden = path.suffix in (".lock", ".tmp") or any(part.startswith(".") for part in parts)
            if parts[0] in STAYS or hidden or not path.is_file():
                continue
            name, at = "/".join(parts), path.stat()
            old = known.get(name)
            if old is not None and old[1:] == [at.st_size, at.st_mtime_ns]:
                found[name] = old
            else:
                found[name] = [sha256_file(path), at.st_size, at.st_mtime_ns]
        return found

    def pull(self) -> None:
        """Bring the working copy to the head. Changes here that were never published are set aside, not lost."""
        with file_lock(self.home / ".pull.lock"):
            marker = self._marker()
            head, etag, _ = self.store.read(HEAD)
            if head is None or (etag == marker["head"]):
                if head is None and not marker["head"]:
                    atomic_write_json(self.home / MARKER, {**marker, "url": self.store.url})
                return
            local = self._local(marker["files"])
            if {n: v[0] for n, v in local.items()} != {n: v[0] for n, v in marker["files"].items()} and local:
                self._set_aside(local)
            for name, sha256 in sorted(head["files"].items(), key=lambda item: (item[0].endswith(_POINTERS), item[0])):
                path = self._inside(name)
                if local.get(name, [""])[0] != sha256:
                    self.store.get_blob(sha256, path)
                at = path.stat()
                local[name] = [sha256, at.st_size, at.st_mtime_ns]
            for name in local.keys() - head["files"].keys():
                if not _VERSION.match(name):  # a version may be read now; the next writer removes what nothing names
                    self._inside(name).unlink(missing_ok=True)
            files = {name: local[name] for name in head["files"]}
            atomic_write_json(self.home / MARKER, {"url": self.store.url, "head": etag, "files": files})

    def _inside(self, name: str) -> Path:
        path = self.home / name
        if not path.resolve().is_relative_to(self.home.resolve()):
            raise DamagedArtifactError(f"{self.store.url}: {name!r} leads out of the home")
        return path

    def _set_aside(self, local: dict[str, list[Any]]) -> None:
        aside = self.home.with_name(f"{self.home.name}.unpublished-{secrets.token_hex(4)}")
        for name in local:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.home / name, aside / name)
        _log.warning("%s changed while results here were not published; they are kept in %s", self.store.url, aside)

    def publish(self) -> None:
        """Make the working copy the head; `LostRaceError` when another machine published since it was pulled."""
        marker = self._marker()
        local = self._local(marker["files"])
        files = {name: values[0] for name, values in local.items()}
        if marker["head"] and files == {name: values[0] for name, values in marker["files"].items()}:
            return
        for name, sha256 in files.items():
            if marker["files"].get(name, [""])[0] != sha256:
                self.store.put_blob(self.home / name, sha256)
        try:
            etag = self.store.swap(HEAD, {"files": files}, marker["head"])
        except LostRaceError:
            raise LostRaceError(
                f"{self.store.url} was changed by another machine while this one worked; the results are kept in "
                f"{self.home} and are set aside by the next command"
            ) from None
        atomic_write_json(self.home / MARKER, {"url": self.store.url, "head": etag, "files": local})


def _leased(lease: StoreLease, *, wait: bool) -> StoreLease:
    while True:
        try:
            return lease.take()
        except (BusyError, LostRaceError):
            if not wait:
                raise
        time.sleep(POLL_S)


@contextlib.contextmanager
def remotely(home: Path, owner: Owner, *, wait: bool = False) -> Iterator[None]:
    """For a working copy: the lease, the newest head, and at the end what was written is published; else nothing."""
    remote = RemoteHome.of(home)
    if remote is None or remote.home in _mine:
        yield
        return
    lease = _leased(StoreLease(remote.store, owner), wait=wait)
    _mine.add(remote.home)
    try:
        remote.pull()
        try:
            yield
        finally:
            if lease.lost:
                raise BusyError(f"the lease on {remote.store.url} was lost; the results are kept in {home}")
            remote.publish()
    finally:
        _mine.discard(remote.home)
        lease.release()
