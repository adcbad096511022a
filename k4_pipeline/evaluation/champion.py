"""Which trained model serves: the rule by which the champion moves, its history, its archive and the roll-back.

The champion is a frozen copy of a model folder. It moves to a newer as-of date only when every check of the candidate
passed. One exception keeps a new installation usable and is always named: where nothing has served this market before,
the first candidate whose blocking checks passed serves **provisionally**, with the failed checks listed.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from k4_pipeline.config import PipelineConfig, to_dict
from k4_pipeline.errors import BadInputError, DamagedArtifactError, StaleArtifactError
from k4_pipeline.storage import ArtifactRef, ArtifactStore, atomic_write_json

CHAMPION, ARCHIVE, RECORD = "champion_model", "champion_archive", "champion.json"


@dataclass(frozen=True)
class Record:
    """What `champion.json` says. `failed` names the checks that did not pass when it took over."""

    as_of: str
    model_fingerprint: str
    market: str
    failed: tuple[str, ...] = ()
    held_back: tuple[str, ...] = ()  # model fingerprints a user rolled back from; never chosen again

    @property
    def provisional(self) -> bool:
        """Whether it serves although a check of it failed."""
        return bool(self.failed)

    def write(self, folder: Path) -> None:
        """Write `champion.json`."""
        atomic_write_json(folder / RECORD, asdict(self))

    @classmethod
    def read(cls, ref: ArtifactRef) -> Record:
        """The record of a stored or archived champion."""
        if ref.asset == ARCHIVE:
            return archived(ref)
        stored = json.loads(ref.path(RECORD).read_text())
        return cls(**{**stored, "failed": tuple(stored["failed"]), "held_back": tuple(stored["held_back"])})


@dataclass(frozen=True)
class Decision:
    """Whether the champion moves, and the sentence that says why."""

    moves: bool
    why: str


def market_identity(config: PipelineConfig) -> str:
    """16 hex digits over what makes two models comparable: the source of the bars, the pattern and the label rule."""
    parts = to_dict(config)
    names = ["source", "patterns", "labels"] + (["simulation"] if config.source.source == "simulated" else [])
    text = json.dumps({name: parts[name] for name in names}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def decide(current: Record | None, candidate: Record | None) -> Decision:
    """The rule. `candidate` is None when no validated model has a current chain."""
    if candidate is None:
        if current is None:
            raise BadInputError(
                "no champion can be named: no as_of has a validation report whose inputs are current; materialize "
                "dataset_split to validation_report of one partition first"
            )
        return Decision(False, "no as_of has a validation report whose inputs are current")
    shortcoming = f"; these checks failed: {', '.join(candidate.failed)}" if candidate.failed else ""
    if current is None:
        return Decision(True, f"nothing served before{shortcoming}")
    if candidate.model_fingerprint in current.held_back:
        return Decision(False, f"as_of {candidate.as_of} was rolled back; train it again to make it eligible")
    if current.market != candidate.market:
        return Decision(True, f"the champion served another market or label rule{shortcoming}")
    if candidate.model_fingerprint == current.model_fingerprint:
        if current.failed != candidate.failed:
            return Decision(True, f"the same model was validated again{shortcoming}")
        return Decision(False, f"as_of {current.as_of} serves already")
    if candidate.as_of < current.as_of:
        return Decision(False, f"the candidate's as_of {candidate.as_of} is older than {current.as_of}")
    if candidate.failed and not current.provisional:
        return Decision(False, f"the candidate of as_of {candidate.as_of} is not good enough{shortcoming}")
    return Decision(True, f"as_of {candidate.as_of} follows {current.as_of}{shortcoming}")


def serving(store: ArtifactStore) -> ArtifactRef | None:
    """The champion that serves, bytes verified; None when nothing has ever served.

    Where its files are gone, or a killed run stopped before they were written, the newest archived champion stands for
    it. Raises `DamagedArtifactError` with the remedy when they are damaged: a champion is never forgotten.
    """
    try:
        ref = store.last_good(CHAMPION)
        ref.verify()
        return ref
    except DamagedArtifactError as problem:
        raise DamagedArtifactError(
            f"the champion cannot be read: {problem}. `k4 champion rebuild` restores it from its archive"
        ) from problem
    except StaleArtifactError:
        events = {event["event"] for event in store.history(CHAMPION)}
        return None if events and "promoted" not in events else newest_archived(store)


def newest_archived(store: ArtifactStore) -> ArtifactRef | None:
    """The readable archive entry of the last move, bytes verified; None when there is none."""
    found = []
    for key in store.partitions(ARCHIVE):
        try:
            ref = store.last_good(ARCHIVE, key)
            ref.verify()
        except StaleArtifactError:
            continue  # another entry may be whole
        found.append(ref)
    # Every move archives the history that it ends: the longest one is the last.
    return max(found, key=lambda ref: (len(ref.meta["history"]), ref.meta["history"][-1]["at"]), default=None)


def history(store: ArtifactStore) -> list[dict[str, Any]]:
    """Every move in order: at (UTC), as_of, model, archive, why, failed."""
    ref = serving(store)
    return [] if ref is None else list(ref.meta["history"])


def move_entry(record: Record, why: str) -> dict[str, Any]:
    """One line of the history."""
    return {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "as_of": record.as_of,
        "model": record.model_fingerprint,
        "archive": archive_key(record),
        "why": why,
        "failed": list(record.failed),
    }


def archive_key(record: Record) -> str:
    """Partition of the archive that holds this champion."""
    return f"{record.as_of}.{record.model_fingerprint[:12]}"


def copy_version(source: ArtifactRef, folder: Path, *, skip: tuple[str, ...] = ()) -> None:
    """Copy the files of a version into `folder`."""
    for name in source.files:
        if name not in skip:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.dir / name, target)


def archive(store: ArtifactStore, model: ArtifactRef, record: Record, moves: list[dict[str, Any]]) -> None:
    """Keep a copy of a model that becomes champion, with every move so far, as long as the home folder lives."""
    with store.stage(ARCHIVE, archive_key(record)) as staged:
        copy_version(model, staged.dir, skip=(RECORD,))
        ref = staged.commit(kind=ARCHIVE, meta={**asdict(record), "history": moves}, inputs={})
    store.promote(ARCHIVE, archive_key(record), ref.fingerprint, {"why": "served"})


def archived(source: ArtifactRef, held_back: tuple[str, ...] | None = None) -> Record:
    """The record of an archived champion, with its own or other models held back."""
    meta = {name: value for name, value in source.meta.items() if name != "history"}
    kept = tuple(meta["held_back"]) if held_back is None else held_back
    return Record(**{**meta, "failed": tuple(meta["failed"]), "held_back": kept})


def _serve(store: ArtifactStore, source: ArtifactRef, record: Record, moves: list[dict[str, Any]]) -> None:
    with store.stage(CHAMPION) as staged:
        copy_version(source, staged.dir)
        record.write(staged.dir)
        new = staged.commit(kind=CHAMPION, meta={"history": moves, "as_of": record.as_of}, inputs={})
    store.promote(CHAMPION, None, new.fingerprint, {"checks": [], "why": moves[-1]["why"]})


def rebuild(store: ArtifactStore) -> Record:
    """Serve again what the archive says served last, with its history; `BadInputError` when nothing was archived."""
    source = newest_archived(store)
    if source is None:
        raise BadInputError("no champion was archived (or none is readable); `k4 run` makes one")
    record = archived(source)
    _serve(store, source, record, [*source.meta["history"], move_entry(record, "rebuilt from its archive")])
    return record


def roll_back(store: ArtifactStore, to: str = "") -> Record:
    """Serve an earlier champion again: the one before, or the newest whose as_of is `to`.

    The model rolled back from is held back: it will not be chosen again by itself. Raises `BadInputError` when there
    is nothing to go back to.
    """
    ref = serving(store)
    if ref is None:
        raise BadInputError("there is no champion yet, so there is nothing to roll back; run `k4 run` first")
    current, moves = Record.read(ref), list(ref.meta["history"])
    earlier = [m for m in moves if m["model"] != current.model_fingerprint and (not to or m["as_of"] == to)]
    if not earlier:
        known = ", ".join(sorted({m["as_of"] for m in moves})) or "none"
        raise BadInputError(f"no earlier champion{f' of as_of {to}' if to else ''} is on record; as_of served: {known}")
    source = store.current(ARCHIVE, earlier[-1]["archive"])
    source.verify()
    record = archived(source, (*current.held_back, current.model_fingerprint))
    moves = [*moves, move_entry(record, f"rolled back from as_of {current.as_of}")]
    archive(store, source, record, moves)
    _serve(store, source, record, moves)
    return record
