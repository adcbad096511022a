"""Which trained model serves: its record, its market, its history, its archive and the roll-back.

The champion is a frozen copy of a model folder; evaluation/promotion.py says when it moves. One exception to that rule
keeps a new installation usable and is always named: where nothing has served before, the first candidate whose blocking
checks passed serves **provisionally**, with the failed checks listed.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from k4_pipeline.config import PipelineConfig, to_dict
from k4_pipeline.errors import BadInputError, DamagedArtifactError, StaleArtifactError
from k4_pipeline.storage import ArtifactRef, ArtifactStore, atomic_write_json

CHAMPION, ARCHIVE, RECORD, DECISION = "champion_model", "champion_archive", "champion.json", "decision.json"
NOT_OF_THE_MODEL = (RECORD, DECISION, "config.json")  # files of a champion that its trained model does not have
ENOUGH_K4 = "the_model_saw_enough_k4"  # named as failed where facts.json of the model says `too_few_k4`
SKETCH = 128
SERVES, BEFORE = "champion", "previous"  # aliases of as-of dates on the command line
# The settings that name a market since version 0.1.0.
FIRST_FIELDS = {
    "patterns": "bbw_percentile_max adx_max volume_ratio_max range_ratio_max min_other qualifying_bars power_factor "
    "max_active_bars min_history_bars sample_probability sample_probability_late late_after_bars prior_range_bars "
    "sampling_seed",
    "labels": "horizon_bars labeling measured_on gain_thresholds stop_loss delisted_after_sessions",
    "simulation": "world n_tickers n_bars end_date seed dirty",
}


@dataclass(frozen=True)
class Record:
    """What `champion.json` says. `failed` names the checks that did not pass when it took over."""

    as_of: str
    model_fingerprint: str
    market: str
    failed: tuple[str, ...] = ()
    held_back: tuple[str, ...] = ()  # model fingerprints a user rolled back from; never chosen again
    universe: tuple[str, ...] = ()  # of `universe_of`

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
        return cls.from_dict(json.loads(ref.path(RECORD).read_text()))

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Record:
        """The inverse of `asdict` after JSON."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()}
        return cls(**values)


def market_identity(config: PipelineConfig) -> str:
    """16 hex digits over what a model's classes mean: pattern and label rule, and which simulated market.

    Of real bars the universe is told by its tickers (`universe_of`), never by a path: a file that was moved, split or
    bought elsewhere holds the same market.
    """
    parts, defaults = to_dict(config), to_dict(PipelineConfig())
    names = ["patterns", "labels"] + (["simulation"] if config.source.source == "simulated" else [])
    told = {name: _telling(parts[name], defaults[name], FIRST_FIELDS[name]) for name in names}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _telling(values: dict[str, Any], defaults: dict[str, Any], first: str) -> dict[str, Any]:
    # A setting that came with a later version counts only where it was changed: an upgrade makes no other market.
    return {name: v for name, v in values.items() if name in first.split() or v != defaults[name]}


def universe_of(tickers: Iterable[str]) -> tuple[str, ...]:
    """The tickers as the `SKETCH` smallest of their hashes: all of a small universe, a fair sample of a large one."""
    return tuple(sorted({hashlib.sha256(t.encode()).hexdigest()[:12] for t in tickers})[:SKETCH])


def market_of(config: PipelineConfig, tickers: Iterable[str]) -> Record:
    """A record that names a market and nothing else."""
    return Record("", "", market_identity(config), universe=universe_of(tickers))


def require_market(record: Record, market: Record) -> None:
    """`StaleArtifactError` when the champion judges another market than `market`: its numbers would mean nothing."""
    if not same_market(record, market):
        what = "other tickers" if record.market == market.market else "another pattern or label rule"
        raise StaleArtifactError(
            f"the champion of as_of {record.as_of} serves another market than this run reads ({what}), so there are no "
            "signals. Materialize champion_model (`k4 run` does): each market that is read here keeps its own champion "
            "(`k4 champion show` says which)"
        )


def same_market(one: Record, other: Record) -> bool:
    """Whether both judge the same thing: one rule, and universes that share half of their tickers (Jaccard).

    Estimated from the smallest hashes of the union (Broder 1997). A record without a universe is of an older version
    of this package and taken for the same.
    """
    if not one.universe or not other.universe:
        return True
    smallest = sorted({*one.universe, *other.universe})[:SKETCH]
    shared = set(one.universe) & set(other.universe)
    return one.market == other.market and 2 * sum(h in shared for h in smallest) >= len(smallest)


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


def champion_of(store: ArtifactStore, ref: ArtifactRef | None, market: Record) -> ArtifactRef | None:
    """The champion of a market: `ref`, what serves, or the last that served it before another market was read here.

    None when nothing has served it. A champion is the champion of its market alone: that of one market is never weighed
    against a candidate of another, and never given up for it. Raises `DamagedArtifactError` where the archive of the
    one that may have served this market cannot be read.
    """
    if ref is None or same_market(Record.read(ref), market):
        return ref
    moves = list(ref.meta["history"])
    entries: dict[str, ArtifactRef | DamagedArtifactError | None] = {}
    others = {moves[-1].get("market")}  # numbers of markets that are surely not this one
    for move in moves:
        try:
            entries[move["archive"]] = entry = _entry(store, move["archive"])
        except DamagedArtifactError as problem:
            entries[move["archive"]] = problem
        else:
            if entry is not None and not same_market(archived(entry), market):
                others.add(move.get("market"))
    for move in reversed(moves):
        found = entries[move["archive"]]
        if isinstance(found, DamagedArtifactError):
            if move.get("market") is None or move["market"] not in others:
                raise found
        elif found is not None and same_market(archived(found), market):
            return _verified(found)
    return None


def _entry(store: ArtifactStore, key: str) -> ArtifactRef | None:
    """An entry of the archive, its manifest verified; None where nothing is left of it."""
    try:
        return store.last_good(ARCHIVE, key)
    except StaleArtifactError as problem:
        if not (store.root / ARCHIVE / key).exists():
            return None
        raise _damaged(key, problem) from problem


def _verified(entry: ArtifactRef) -> ArtifactRef:
    """The entry, every byte of it verified."""
    try:
        entry.verify()
    except DamagedArtifactError as problem:
        raise _damaged(str(entry.partition), problem) from problem
    return entry


def _damaged(key: str, problem: Exception) -> DamagedArtifactError:
    return DamagedArtifactError(
        f"the archived champion {key} cannot be read: {problem}. Restore its folder from a backup; or `k4 champion "
        "rebuild` restores it where it serves now, and else sets it aside, and its market begins anew"
    )


def newest_archived(store: ArtifactStore) -> ArtifactRef | None:
    """The archive entry of the last move, bytes verified; None when there is none.

    Raises `DamagedArtifactError` where one cannot be read: it may be the last.
    """
    found = []
    for key in store.partitions(ARCHIVE):
        entry = _entry(store, key)
        if entry is not None:
            found.append(_verified(entry))
    # Every move archives the history that it ends: the longest one is the last.
    return max(found, key=lambda ref: (len(ref.meta["history"]), ref.meta["history"][-1]["at"]), default=None)


def history(store: ArtifactStore) -> list[dict[str, Any]]:
    """Every move in order: at (UTC), as_of, model, archive, why, failed, metrics."""
    ref = serving(store)
    return [] if ref is None else list(ref.meta["history"])


def as_of_named(store: ArtifactStore, text: str) -> str:
    """The as-of date behind the alias `champion` (serves) or `previous` (served before it); other texts as they are."""
    if text not in (SERVES, BEFORE):
        return text
    moves = history(store)
    if not moves:
        raise BadInputError(f"{text!r} names no model: nothing serves yet; `k4 run` makes a champion")
    if text == SERVES:
        return str(moves[-1]["as_of"])
    earlier = [m for m in of_its_market(moves) if m["model"] != moves[-1]["model"]]
    if not earlier:
        raise BadInputError(f"{text!r} names no model: as_of {moves[-1]['as_of']} is the only one that ever served")
    return str(earlier[-1]["as_of"])


def market_number(moves: list[dict[str, Any]], model: str = "") -> int:
    """Which of the home's markets, counted in order of their first champion: that of `model`, or the next one."""
    known = {m["model"]: m.get("market", 1) for m in moves}  # an older version knew one market
    return int(known.get(model) or max(known.values(), default=0) + 1)


def of_its_market(moves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The moves of the market that is served now."""
    return [m for m in moves if m.get("market", 1) == moves[-1].get("market", 1)]


def of_other_markets(moves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last move of every other market: its champion, that serves again when the market is read again."""
    last = {m.get("market", 1): m for m in moves}
    return [last[number] for number in sorted(last) if number != moves[-1].get("market", 1)]


def move_entry(record: Record, why: str, metrics: dict[str, Any] | None = None, *, market: int = 1) -> dict[str, Any]:
    """One line of the history; `metrics`: what its report and the comparison said of it."""
    return {
        "market": market,
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "as_of": record.as_of,
        "model": record.model_fingerprint,
        "archive": archive_key(record),
        "why": why,
        "failed": list(record.failed),
        "metrics": metrics or {},
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
        copy_version(model, staged.dir, skip=(RECORD, DECISION))
        ref = staged.commit(kind=ARCHIVE, meta={**asdict(record), "history": moves}, inputs={})
    store.promote(ARCHIVE, archive_key(record), ref.fingerprint, {"why": "served"})


def archived(source: ArtifactRef, held_back: tuple[str, ...] | None = None) -> Record:
    """The record of an archived champion, with its own or other models held back."""
    record = Record.from_dict({name: value for name, value in source.meta.items() if name != "history"})
    return record if held_back is None else replace(record, held_back=held_back)


def _serve(store: ArtifactStore, source: ArtifactRef, record: Record, moves: list[dict[str, Any]]) -> None:
    with store.stage(CHAMPION) as staged:
        copy_version(source, staged.dir)
        record.write(staged.dir)
        model, why = record.model_fingerprint, moves[-1]["why"]
        said = {"moved": True, "why": why, "as_of": record.as_of, "champion": model, "candidate": model}
        atomic_write_json(staged.dir / DECISION, {**said, "comparison": None})
        new = staged.commit(kind=CHAMPION, meta={"history": moves, "as_of": record.as_of}, inputs={})
    store.promote(CHAMPION, None, new.fingerprint, {"checks": [], "why": moves[-1]["why"]})


def rebuild(store: ArtifactStore) -> tuple[Record, list[Path]]:
    """Serve again what the archive says served last, with its history: (its record, what was set aside).

    Damaged entries of the archive are moved to the folder `damaged` beside that of the artifacts; that of a champion
    that serves and is whole is made anew. Raises `BadInputError` when nothing readable was archived.
    """
    aside = []
    for key in store.partitions(ARCHIVE):
        try:
            entry = _entry(store, key)
            if entry is not None:
                _verified(entry)
        except DamagedArtifactError:
            aside.append(store.set_aside(ARCHIVE, key))
    try:
        source = serving(store)
    except DamagedArtifactError:
        source = newest_archived(store)
    if source is None:
        raise BadInputError("no champion was archived (or none is readable); `k4 run` makes one")
    record, moves = Record.read(source), list(source.meta["history"])
    if source.asset == CHAMPION:
        if _entry(store, archive_key(record)) is None:
            archive(store, source, record, moves)
        return record, aside
    number = market_number(moves, record.model_fingerprint)
    _serve(store, source, record, [*moves, move_entry(record, "rebuilt from its archive", market=number)])
    return record, aside


def roll_back(store: ArtifactStore, to: str = "") -> Record:
    """Serve an earlier champion again: the one before, or the newest whose as_of is `to`.

    The model rolled back from is held back: it will not be chosen again by itself. Raises `BadInputError` when there
    is nothing to go back to.
    """
    ref = serving(store)
    if ref is None:
        raise BadInputError("there is no champion yet, so there is nothing to roll back; run `k4 run` first")
    current, moves = Record.read(ref), list(ref.meta["history"])
    own = of_its_market(moves)
    earlier = [m for m in own if m["model"] != current.model_fingerprint and (not to or m["as_of"] == to)]
    source = next(filter(None, (_of_market(store, move, current) for move in reversed(earlier))), None)
    if source is None:
        known = ", ".join(sorted({m["as_of"] for m in own})) or "none"
        raise BadInputError(f"no earlier champion{f' of as_of {to}' if to else ''} is on record; as_of served: {known}")
    record = archived(source, (*current.held_back, current.model_fingerprint))
    why, number = f"rolled back from as_of {current.as_of}", market_number(moves, current.model_fingerprint)
    metrics = next(m.get("metrics") for m in reversed(earlier) if m["model"] == record.model_fingerprint)
    moves = [*moves, move_entry(record, why, metrics, market=number)]
    archive(store, source, record, moves)
    _serve(store, source, record, moves)
    return record


def _of_market(store: ArtifactStore, move: dict[str, Any], market: Record) -> ArtifactRef | None:
    """The archived champion of a move, verified; None where nothing is left of it or it is of another market."""
    entry = _entry(store, move["archive"])
    return _verified(entry) if entry is not None and same_market(archived(entry), market) else None
