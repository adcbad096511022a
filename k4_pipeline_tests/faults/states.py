"""What lies on the disk at every call of a run: recorded once, put back as often as one likes.

A process that is killed leaves the bytes that are on the disk at that moment, so a run need not be killed at each of
its calls to know what each kill leaves: it is enough to look there. What a rerun makes of a home is a function of its
bytes; calls at which every file is the same are one case (`State.digest`), and its rerun is tried once. What lies in
the temporary folders and files of a dead writer is not told apart: they are removed unread, and only that they are
there counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_TEMPORARY = re.compile(r"(.*/)?\.tmp-HASH/.+|(.*/)?\.[^/]*\.X\.tmp")
# Events and logs of Dagster change with every step; of them only what it says of the runs tells two cases apart.
OF_DAGSTER = ("dagster", "logs")
_FRESH_NS = 100_000_000  # a file written this lately may be written again within one tick of its time stamp
_NAMES = (
    (re.compile(r"v\d{8}T\d{6}\.\d{6}Z"), "VERSION"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}"), "RUN"),
    (re.compile(r"\d+-[0-9a-f]{12}\.tmp"), "X.tmp"),
    (re.compile(r"\d{4}-\d\d-\d\d\.[0-9a-f]{12}"), "MODEL"),
    (re.compile(r"[0-9a-f]{12,}"), "HASH"),
    (re.compile(r"\d{4}-\d\d-\d\d"), "DATE"),
    (re.compile(r"\d{4,}"), "N"),
)


def kind_of(call: str, path: Path, home: Path) -> str:
    """`rename artifacts/predictions/DATE/VERSION`: the call and the file, without what differs from run to run."""
    name = path.relative_to(home).as_posix() if path.is_relative_to(home) else path.name
    return f"{call} {_plain(name)}"


def _plain(name: str) -> str:
    for pattern, word in _NAMES:
        name = pattern.sub(word, name)
    return name


def coarser(kind: str) -> str:
    """Of a kind the call, the folder (of an artifact its asset) and what sort of file it is."""
    call, _, path = kind.partition(" ")
    folders, name = path.split("/")[:-1], path.rsplit("/", 1)[-1].removesuffix(".X.tmp")
    known = name.removeprefix(".") in ("state.json", "manifest.json")
    sort = name.removeprefix(".") if known else name.rsplit(".", 1)[-1] if "." in name[1:] else "folder"
    return f"{call} {'/'.join(folders[:2] if folders[:1] == ['artifacts'] else folders[:1])} {sort}"


def spread_over_kinds(kinds: list[str]) -> list[int]:
    """Numbers of calls, so that every asset or folder meets every sort of call, and every call every sort of file."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for n, kind in enumerate(kinds):
        call, where, sort = coarser(kind).split(" ")
        for key in ((call, where), (call, sort)):
            numbers.setdefault(key, []).append(n)
    return sorted({found[len(found) // 2] for found in numbers.values()})


@dataclass
class State:
    """A home as it lay there: by relative path the sha256, mode and time stamp of its files; and its folders."""

    files: dict[str, tuple[str, int, int]]
    folders: list[str]
    points: list[str] = field(default_factory=list)  # where in the run it lay so
    kinds: list[str] = field(default_factory=list)

    def digest(self, runs: list[Any]) -> str:
        """The same for two homes of which a rerun makes the same; `runs`: what Dagster says of them."""
        ours = []
        for name, (sha, mode, _) in self.files.items():
            if name.startswith(OF_DAGSTER):
                continue
            temporary = _TEMPORARY.fullmatch(_plain(name))
            ours.append((name, sha, mode) if temporary is None else (_plain(temporary[1] or temporary[2] or ""), "", 0))
        folders = [name for name in self.folders if not _TEMPORARY.fullmatch(_plain(name))]
        told = json.dumps([sorted(set(ours)), folders, runs])
        return hashlib.sha256(told.encode()).hexdigest()

    def restore(self, blobs: Path, home: Path) -> None:
        """Make `home` anew as it was."""
        home.mkdir(parents=True)
        for name in self.folders:
            (home / name).mkdir(parents=True, exist_ok=True)
        for name, (sha, mode, at) in self.files.items():
            path = home / name
            path.write_bytes((blobs / sha).read_bytes())
            path.chmod(mode)
            os.utime(path, ns=(at, at))


class Recorder:
    """Looks at a home whenever it is told to, and keeps every state it has not seen, its files by their hash."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home, self.blobs, self.told = home, folder / "blobs", folder / "states.jsonl"
        self.blobs.mkdir(parents=True)
        self._known: dict[str, tuple[tuple[int, int, int], str]] = {}
        self._seen: set[str] = set()

    def look(self, point: str, kind: str) -> None:
        """The state of the home at a point of the run."""
        state = State({}, [])
        for root, folders, names in os.walk(self.home):
            below = os.path.relpath(root, self.home) + "/"
            state.folders += [(below + name).removeprefix("./") for name in folders]
            for name in names:
                found = self._file(f"{root}/{name}")
                if found is not None:
                    state.files[(below + name).removeprefix("./")] = found
        state.folders.sort()
        digest = state.digest(_runs(self.home))
        line: dict[str, Any] = {"digest": digest, "point": point, "kind": kind}
        if digest not in self._seen:
            self._seen.add(digest)
            line |= {"files": state.files, "folders": state.folders}
        with self.told.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _file(self, path: str) -> tuple[str, int, int] | None:
        try:
            stat = os.lstat(path)
            key = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            known = self._known.get(path)
            if known is None or known[0] != key or time.time_ns() - stat.st_mtime_ns < _FRESH_NS:
                data = Path(path).read_bytes()
                sha = hashlib.sha256(data).hexdigest()
                blob = self.blobs / sha
                if not blob.exists():
                    blob.write_bytes(data)
                self._known[path] = known = (key, sha)
        except FileNotFoundError:  # another thread removed it meanwhile
            return None
        return known[1], stat.st_mode & 0o7777, stat.st_mtime_ns


def states(folder: Path) -> Iterator[State]:
    """What a `Recorder` kept in `folder`, in order of the run."""
    found: dict[str, State] = {}
    for text in (folder / "states.jsonl").read_text().splitlines():
        line = json.loads(text)
        if "files" in line:
            found[line["digest"]] = State({n: tuple(v) for n, v in line["files"].items()}, line["folders"])
        found[line["digest"]].points.append(line["point"])
        found[line["digest"]].kinds.append(line["kind"])
    yield from found.values()


def _runs(home: Path) -> list[Any]:
    """Status of every run that Dagster knows here."""
    file = home / "dagster" / "history" / "runs.db"
    if not file.exists():
        return []
    database = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=0)
    try:
        return [list(row) for row in database.execute("select run_id, status from runs order by id")]
    except sqlite3.OperationalError as problem:  # its tables are not made yet
        return [str(problem)]
    finally:
        database.close()
