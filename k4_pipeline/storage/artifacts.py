"""Versioned results of the graph: staged, checked, then promoted; a reader gets a promoted version or an error.

`<root>/<asset>/<partition or _>/` holds one folder per version (`v<time-sortable id>/` with its `manifest.json`) and
`state.json`, which says which version is staged (newest committed), current (newest that passed its checks), previous
(the one current before) and why a version failed. A blocking check runs after its asset is stored, so a bad result is
on disk before anything can object: what consumers read is therefore the pointer, never "the newest folder".

Every change of pointers happens under a lock and by one atomic replacement of `state.json`; a killed writer leaves
either a temporary folder or a version no pointer names, and both are removed by the next writer. Manifest and state are
sealed (`sealed`): no bit of them changes unseen. A version that someone reads is never removed (`Lease`).
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k4_pipeline.errors import BadInputError, DamagedArtifactError, StaleArtifactError
from k4_pipeline.storage.artifact_ref import (
    MANIFEST,
    ArtifactRef,
    Lease,
    artifact_key,
    checked_files,
    fingerprint_of,
    list_files,
)
from k4_pipeline.storage.atomic import file_lock, fsync_path, sha256_file, try_lock
from k4_pipeline.storage.code_version import code_fingerprint, code_record, described
from k4_pipeline.storage.sealed import read_sealed, write_sealed
from k4_pipeline.storage.versions import next_version, record, remove_leftovers, remove_unnamed

STATE = "state.json"
POINTERS = ("staged", "current", "previous")
HISTORY_EVENTS = 500
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass
class StagedArtifact:
    """A temporary folder to fill; `commit` makes it a version, leaving the `with` block without it removes it."""

    store: ArtifactStore
    asset: str
    partition: str | None
    dir: Path
    ref: ArtifactRef | None = None

    def commit(
        self,
        *,
        kind: str,
        meta: dict[str, Any] | None = None,
        inputs: dict[str, str] | None = None,
        guard: Callable[[], None] | None = None,
    ) -> ArtifactRef:
        """Make the folder the newest (staged) version of its asset and return it.

        `kind` names the file layout, `meta` is any JSON, `inputs` maps "asset" or "asset@partition" to the fingerprint
        read. `guard` is called under the lock just before the version becomes visible and may raise: a writer whose run
        was taken over proves there that it still owns it.
        """
        if self.ref is not None:
            raise BadInputError(f"{artifact_key(self.asset, self.partition)} is committed already; stage it again")
        names = list_files(self.dir)
        if not names:
            raise BadInputError(f"{artifact_key(self.asset, self.partition)}: nothing was written into {self.dir}")
        files = {}
        for name in names:
            path = self.dir / name
            fsync_path(path)
            files[name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        manifest = {
            "asset": self.asset,
            "partition": self.partition,
            "kind": kind,
            "fingerprint": fingerprint_of(kind, files),
            "meta": meta or {},
            "inputs": inputs or {},
            "code": code_record(self.asset),
            "files": files,
        }
        self.ref = self.store._publish(self, manifest, guard)
        return self.ref


class ArtifactStore:
    """All versioned results below one folder. Safe for several threads and processes of one machine."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    # -- writing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def stage(self, asset: str, partition: str | None = None) -> Iterator[StagedArtifact]:
        """A temporary folder for a new version; see `StagedArtifact.commit`."""
        home = self._home(asset, partition)
        home.mkdir(parents=True, exist_ok=True)
        folder = home / f".tmp-{secrets.token_hex(8)}"
        with file_lock(home / ".lock"):
            self._heal(home, asset, partition)
            handle = try_lock(folder.with_suffix(".lock"))  # held while this writer lives
            folder.mkdir()
        try:
            yield StagedArtifact(self, asset, partition, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_suffix(".lock").unlink(missing_ok=True)
            if handle is not None:
                handle.close()

    def promote(
        self, asset: str, partition: str | None, fingerprint: str, verdict: dict[str, Any] | None = None
    ) -> ArtifactRef:
        """The checks of the version with this fingerprint passed: consumers may read it from now on.

        A verdict that arrives after a newer version was promoted is recorded but does not move the pointer back.
        """
        home = self._home(asset, partition)
        with self._locked(asset, partition) as state:
            ref = self._with_fingerprint(asset, partition, fingerprint, state)
            if state["current"] is None or ref.version > state["current"]:
                state["previous"], state["current"] = state["current"], ref.version
            if state["failed"] and state["failed"]["version"] == ref.version:
                state["failed"] = None
            state["verdicts"][ref.version] = verdict or {}
            record(state, "promoted", ref)
            self._save(home, state)
        return ref

    def reject(self, asset: str, partition: str | None, fingerprint: str, reasons: Iterable[str]) -> ArtifactRef:
        """The checks of the version with this fingerprint failed: `current` refuses until a newer one passes.

        A version that was current before (its checks ran again) is no longer the last good one either.
        """
        home = self._home(asset, partition)
        with self._locked(asset, partition) as state:
            ref = self._with_fingerprint(asset, partition, fingerprint, state)
            why = list(reasons)
            if state["current"] == ref.version:
                state["current"], state["previous"] = state["previous"], None
            state["failed"] = {"version": ref.version, "fingerprint": ref.fingerprint, "reasons": why}
            state["verdicts"].pop(ref.version, None)
            record(state, "rejected", ref, reasons=why)
            self._save(home, state)
        return ref

    def set_aside(self, asset: str, partition: str | None) -> Path:
        """Move all versions of a damaged result to the folder `damaged` beside the root; returns where they lie."""
        home, place = self._home(asset, partition), self.root.parent / "damaged"
        place.mkdir(exist_ok=True)
        with file_lock(home / ".lock"):
            target = place / f"{asset}-{home.name}-{secrets.token_hex(4)}"
            home.rename(target)
        fsync_path(place)
        return target

    # -- reading ------------------------------------------------------------------------------------------------------

    def current(self, asset: str, partition: str | None = None) -> ArtifactRef:
        """The version consumers must use: the newest one, and it has passed its checks; else `StaleArtifactError`."""
        return self._steady(lambda: self._current(asset, partition))

    def _current(self, asset: str, partition: str | None) -> ArtifactRef:
        state = self._state(asset, partition)
        key = artifact_key(asset, partition)
        if state["staged"] is None:
            raise StaleArtifactError(self._never_made(asset, partition))
        if state["current"] != state["staged"]:
            newest = self._load(asset, partition, state["staged"])
            failed = state["failed"] if state["failed"] and state["failed"]["version"] == newest.version else None
            good = self._load(asset, partition, state["current"]).fingerprint[:12] if state["current"] else "none"
            what = f"failed its checks ({'; '.join(failed['reasons'])})" if failed else "has not passed its checks yet"
            raise StaleArtifactError(
                f"{key}: the newest version {newest.version} (fingerprint {newest.fingerprint[:12]}) {what}; "
                f"last good fingerprint: {good}. Mend the cause, then materialize {key} again with its checks"
            )
        return self._load(asset, partition, state["current"])

    def _never_made(self, asset: str, partition: str | None) -> str:
        key = artifact_key(asset, partition)
        return f"{key} has never been made below {self.root}; `k4 run` makes it, or materialize it in the UI"

    def newest(self, asset: str, partition: str | None = None) -> ArtifactRef:
        """The newest committed version, whatever its verdict: what checks read."""
        return self._steady(lambda: self._named("staged", asset, partition, self._never_made(asset, partition)))

    def last_good(self, asset: str, partition: str | None = None) -> ArtifactRef:
        """The newest version that passed its checks, even when a newer one did not."""
        remedy = f"no version of {artifact_key(asset, partition)} has passed its checks; materialize it with its checks"
        return self._steady(lambda: self._named("current", asset, partition, remedy))

    def _named(self, pointer: str, asset: str, partition: str | None, remedy: str) -> ArtifactRef:
        version = self._state(asset, partition)[pointer]
        if version is None:
            raise StaleArtifactError(remedy)
        return self._load(asset, partition, version)

    @staticmethod
    def _steady(read: Callable[[], ArtifactRef]) -> ArtifactRef:
        """`read()`; once more when a writer replaced the version between reading the pointer and taking its lease."""
        for _ in range(5):
            try:
                return read()
            except _ReplacedError as problem:
                last = problem
        raise DamagedArtifactError(str(last)) from last

    def partitions(self, asset: str) -> list[str]:
        """Partition keys with at least one committed version, ascending; empty for an unpartitioned asset."""
        folder = self.root / self._valid(asset)
        return sorted(p.parent.name for p in folder.glob(f"*/{STATE}") if p.parent.name != "_")

    def history(self, asset: str, partition: str | None = None) -> list[dict[str, Any]]:
        """Events (committed, promoted, rejected) in order: at (UTC), event, version, fingerprint, reasons."""
        return list(self._state(asset, partition)["history"])

    def verdict(self, ref: ArtifactRef) -> dict[str, Any] | None:
        """What `promote` stored for this version; None when it was not promoted."""
        return self._state(ref.asset, ref.partition)["verdicts"].get(ref.version)

    def verify_chain(self, refs: Iterable[ArtifactRef], *, frozen: tuple[str, ...] = ("champion_model",)) -> None:
        """Every input fingerprint recorded by `refs` and, recursively, by their inputs is that of the current version,
        and each was made by the code that is installed (`broken_code`).

        An asset named in `frozen` must itself be current where it is an input, but its own inputs belong to the past
        (a serving model keeps the data it was trained on). Raises `StaleArtifactError` with every broken link.
        """
        broken: list[str] = []
        seen: set[str] = set()
        todo = list(refs)
        while todo:
            ref = todo.pop()
            if ref.key in seen or ref.asset in frozen:
                continue
            seen.add(ref.key)
            broken += self.broken_code(ref)
            for key, recorded in sorted(ref.inputs.items()):
                asset, _, partition = key.partition("@")
                try:
                    source = self.current(asset, partition or None)
                except StaleArtifactError as problem:
                    broken.append(f"{ref.key} was made from {key} {recorded[:12]}, but {problem}")
                    continue
                if source.fingerprint != recorded:
                    broken.append(
                        f"{ref.key} was made from {key} with fingerprint {recorded[:12]}; "
                        f"the current one is {source.fingerprint[:12]}"
                    )
                todo.append(source)
        if broken:
            raise StaleArtifactError("; ".join(broken) + ". Materialize the named assets again, upstream first")

    @staticmethod
    def broken_code(ref: ArtifactRef) -> list[str]:
        """What is wrong with the code that made this version: one sentence naming stored and installed, or nothing.

        Equal bytes keep their fingerprint: once the named asset was made again with an unchanged result, what was made
        from it stands as before. Names that are no asset of this package have no code to compare.
        """
        expected = code_fingerprint(ref.asset)
        if not expected or ref.code.get("fingerprint") == expected:
            return []
        return [f"{ref.key} was made by {described(ref.code)}; installed is {described(code_record(ref.asset))}"]

    # -- inside -------------------------------------------------------------------------------------------------------

    @staticmethod
    def _valid(name: str) -> str:
        if not _NAME.fullmatch(name):
            raise BadInputError(f"{name!r} cannot name an asset or partition: use letters, digits and . _ + -")
        return name

    def _home(self, asset: str, partition: str | None) -> Path:
        return self.root / self._valid(asset) / ("_" if partition is None else self._valid(partition))

    def _state(self, asset: str, partition: str | None) -> dict[str, Any]:
        path = self._home(asset, partition) / STATE
        empty: dict[str, Any] = {"staged": None, "current": None, "previous": None, "failed": None}
        try:
            return {**empty, "verdicts": {}, "history": [], **read_sealed(path)}
        except FileNotFoundError:
            return {**empty, "verdicts": {}, "history": []}
        except (ValueError, IsADirectoryError) as problem:
            key = artifact_key(asset, partition)
            raise DamagedArtifactError(f"{path} is damaged ({problem}); materialize {key} again") from problem

    @contextmanager
    def _locked(self, asset: str, partition: str | None) -> Iterator[dict[str, Any]]:
        home = self._home(asset, partition)
        home.mkdir(parents=True, exist_ok=True)
        with file_lock(home / ".lock"):
            yield self._state(asset, partition)

    def _load(self, asset: str, partition: str | None, version: str) -> ArtifactRef:
        key = artifact_key(asset, partition)
        if not isinstance(version, str) or not _NAME.fullmatch(version):
            raise DamagedArtifactError(f"{key}: its state names {version!r}, which is no version; materialize it again")
        folder = self._home(asset, partition) / version
        path = folder / MANIFEST
        try:
            lease = Lease.on(path)
            manifest = read_sealed(path)
            if (manifest["asset"], manifest["partition"]) != (asset, partition):
                raise ValueError(f"it belongs to {artifact_key(manifest['asset'], manifest['partition'])}")
            ref = ArtifactRef(
                asset=asset,
                partition=partition,
                version=version,
                dir=folder,
                code=manifest["code"],
                files=checked_files(manifest["files"]),
                lease=lease,
                **{name: manifest[name] for name in ("fingerprint", "kind", "meta", "inputs")},
            )
        except FileNotFoundError as problem:
            raise _ReplacedError(f"{key}: {path} is missing; materialize {key} again") from problem
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise DamagedArtifactError(f"{key}: {path} is damaged ({problem}); materialize {key} again") from problem
        if ref.fingerprint != fingerprint_of(ref.kind, ref.files):
            raise DamagedArtifactError(f"{key}: {path} does not match its own fingerprint; materialize {key} again")
        return ref

    def _with_fingerprint(
        self, asset: str, partition: str | None, fingerprint: str, state: dict[str, Any]
    ) -> ArtifactRef:
        # Only what a pointer names: a folder left by a killed writer may hold the same bytes.
        found = []
        for version in dict.fromkeys(state[name] for name in POINTERS if state[name]):
            ref = self._load(asset, partition, version)
            if ref.fingerprint == fingerprint:
                return ref
            found.append(ref.fingerprint[:12])
        key = artifact_key(asset, partition)
        raise StaleArtifactError(
            f"{key}: no stored version has fingerprint {fingerprint[:12]}; stored: {', '.join(found) or 'none'}. "
            "A newer run has replaced it"
        )

    def _publish(
        self, staged: StagedArtifact, manifest: dict[str, Any], guard: Callable[[], None] | None
    ) -> ArtifactRef:
        home = self._home(staged.asset, staged.partition)
        write_sealed(staged.dir / MANIFEST, manifest)
        for folder in [p for p in staged.dir.rglob("*") if p.is_dir()] + [staged.dir]:
            fsync_path(folder)
        with self._locked(staged.asset, staged.partition) as state:
            if guard is not None:
                guard()
            version = next_version(state["staged"])
            staged.dir.rename(home / version)
            fsync_path(home)
            ref = self._load(staged.asset, staged.partition, version)
            state["staged"] = version
            record(state, "committed", ref)
            self._save(home, state)
        return ref

    def _save(self, home: Path, state: dict[str, Any]) -> None:
        kept = {state[name] for name in POINTERS}
        state["verdicts"] = {v: x for v, x in state["verdicts"].items() if v in kept}
        state["history"] = state["history"][-HISTORY_EVENTS:]
        write_sealed(home / STATE, state)
        # Only after the pointers are safe on disk: versions no pointer names may go.
        remove_leftovers(home)
        remove_unnamed(home, kept)

    def _heal(self, home: Path, asset: str, partition: str | None) -> None:
        """Under the lock, before a new version: remove what killed writers left, set a damaged state aside."""
        remove_leftovers(home)
        try:
            state = self._state(asset, partition)
        except DamagedArtifactError:
            (home / STATE).replace(home / f"damaged-{STATE}")
            state = self._state(asset, partition)
        remove_unnamed(home, {state[name] for name in POINTERS})


class _ReplacedError(DamagedArtifactError):
    """A pointer named a version that is not there: replaced meanwhile, or damaged."""
