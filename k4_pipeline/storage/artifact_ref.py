"""What one committed version of a result is: its folder, its manifest, and the proof that both still agree."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.storage.atomic import sha256_file

MANIFEST = "manifest.json"


def fingerprint_of(kind: str, files: dict[str, dict[str, Any]]) -> str:
    """sha256 over the kind and every (file name, sha256), names ascending: equal for equal content, at any time."""
    lines = [f"{name}\t{entry['sha256']}" for name, entry in sorted(files.items())]
    return hashlib.sha256("\n".join([kind, *lines]).encode()).hexdigest()


def artifact_key(asset: str, partition: str | None) -> str:
    """`asset` or `asset@partition`: how inputs are named in a manifest."""
    return asset if partition is None else f"{asset}@{partition}"


@dataclass(frozen=True)
class ArtifactRef:
    """One committed version: where it lies and what its manifest says."""

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

    @property
    def key(self) -> str:
        return artifact_key(self.asset, self.partition)

    def path(self, name: str) -> Path:
        """A file of this version; `StaleArtifactError` when the manifest does not list it."""
        if name not in self.files:
            raise StaleArtifactError(f"{self.key} {self.version} holds no {name!r}; it holds {', '.join(self.files)}")
        return self.dir / name

    def verify(self) -> None:
        """Recompute the sha256 of every file; `StaleArtifactError` names the first one that differs."""
        remedy = "materialize it again"
        for name, entry in self.files.items():
            path = self.dir / name
            if not path.is_file():
                raise StaleArtifactError(f"{self.key}: {path} is missing; {remedy}")
            found = sha256_file(path)
            if found != entry["sha256"]:
                raise StaleArtifactError(
                    f"{self.key}: {path} is damaged: sha256 {found[:12]}, expected {entry['sha256'][:12]}; {remedy}"
                )
        extra = sorted(set(list_files(self.dir)) - set(self.files))
        if extra:
            raise StaleArtifactError(f"{self.key}: {self.dir} holds {extra[0]}, which its manifest lacks; {remedy}")


def list_files(folder: Path) -> list[str]:
    """Names of the files below a version's folder, relative, ascending, without the manifest."""
    names = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return sorted(name for name in names if name != MANIFEST)
