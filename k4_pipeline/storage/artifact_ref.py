"""What one committed version of a result is: its folder, its manifest, and the proof that both still agree."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from k4_pipeline.errors import DamagedArtifactError, StaleArtifactError
from k4_pipeline.storage.atomic import open_regular, sha256_file

MANIFEST = "manifest.json"


def fingerprint_of(kind: str, files: dict[str, dict[str, Any]]) -> str:
    """sha256 over the kind and every (file name, sha256), names ascending: equal for equal content, at any time."""
    lines = [f"{name}\t{entry['sha256']}" for name, entry in sorted(files.items())]
    return hashlib.sha256("\n".join([kind, *lines]).encode()).hexdigest()


def artifact_key(asset: str, partition: str | None) -> str:
    """`asset` or `asset@partition`: how inputs are named in a manifest."""
    return asset if partition is None else f"{asset}@{partition}"


class Lease:
    """A shared lock on a version's manifest: as long as it lives, no writer of any process removes the version."""

    def __init__(self, handle: IO[bytes] | None = None) -> None:
        self._handle = handle

    @classmethod
    def on(cls, manifest: Path) -> Lease:
        """Take it; `FileNotFoundError` when the version is gone."""
        handle = open_regular(manifest)
        fcntl.flock(handle, fcntl.LOCK_SH)
        try:
            same = manifest.stat().st_ino == os.fstat(handle.fileno()).st_ino
        except FileNotFoundError:
            same = False
        if not same:  # removed between opening and locking
            handle.close()
            raise FileNotFoundError(manifest)
        return cls(handle)

    def __del__(self) -> None:
        if self._handle is not None:
            self._handle.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (Lease, ())  # a lock does not travel to another process


def checked_files(files: Any) -> dict[str, dict[str, Any]]:
    """The file entries of a manifest; `ValueError` for a name that leaves the folder or an entry of another shape."""
    for name, entry in files.items():
        path = PurePosixPath(name)
        confined = name == str(path) and not path.is_absolute() and ".." not in path.parts and name not in ("", ".")
        if not confined or "\\" in name or "\0" in name or name == MANIFEST:
            raise ValueError(f"{name!r} is no name of a file inside the version's folder")
        if set(entry) != {"sha256", "bytes"} or not re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]):
            raise ValueError(f"the entry of {name!r} is not a sha256 and a number of bytes")
        if type(entry["bytes"]) is not int or entry["bytes"] < 0:
            raise ValueError(f"{name!r} cannot have {entry['bytes']!r} bytes")
    return files


@dataclass(frozen=True)
class ArtifactRef:
    """One committed version: where it lies and what its manifest says. While it lives the version is not removed."""

    asset: str
    partition: str | None
    version: str
    dir: Path
    fingerprint: str
    kind: str
    meta: dict[str, Any] = field(hash=False)
    inputs: dict[str, str] = field(hash=False)
    files: dict[str, dict[str, Any]] = field(hash=False)  # name -> {"sha256": ..., "bytes": ...}
    code: dict[str, str] = field(hash=False, default_factory=dict)  # what made it, see code_version.code_record
    lease: Lease = field(default_factory=Lease, compare=False, repr=False)
    _verified: set[str] = field(default_factory=set, compare=False, repr=False)  # names whose bytes were compared

    @property
    def key(self) -> str:
        return artifact_key(self.asset, self.partition)

    def path(self, name: str) -> Path:
        """A file of this version, its bytes verified; `StaleArtifactError` when the manifest does not list it."""
        if name not in self.files:
            raise StaleArtifactError(f"{self.key} {self.version} holds no {name!r}; it holds {', '.join(self.files)}")
        if name not in self._verified:
            self._verify_file(name)
        return self.dir / name

    def _verify_file(self, name: str) -> None:
        path, entry, remedy = self.dir / name, self.files[name], "materialize it again"
        if not path.is_file():
            raise DamagedArtifactError(f"{self.key}: {path} is missing; {remedy}")
        if not path.resolve().is_relative_to(self.dir.resolve()):
            raise DamagedArtifactError(f"{self.key}: {path} leads out of its folder; {remedy}")
        found = sha256_file(path)
        if found != entry["sha256"] or path.stat().st_size != entry["bytes"]:
            raise DamagedArtifactError(
                f"{self.key}: {path} is damaged: sha256 {found[:12]}, expected {entry['sha256'][:12]}; {remedy}"
            )
        self._verified.add(name)

    def verify(self) -> None:
        """Recompute the sha256 of every file; `DamagedArtifactError` names the first one that differs."""
        for name in self.files:
            self._verify_file(name)
        extra = sorted(set(list_files(self.dir)) - set(self.files))
        if extra:
            raise DamagedArtifactError(
                f"{self.key}: {self.dir} holds {extra[0]}, which its manifest lacks; materialize it again"
            )


def list_files(folder: Path) -> list[str]:
    """Names of the files below a version's folder, relative, ascending, without the manifest."""
    names = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return sorted(name for name in names if name != MANIFEST)
