"""The outbox in the home: what happened (`facts.jsonl`) and what was delivered to whom (`deliveries.jsonl`).

Both are append-only journals. A fact is recorded once, by its id; a delivery is recorded per target after the target
took the message, so a crash between the two makes a message come twice and never not at all. The address of a target is
a secret and is not stored: targets are told apart by a part of its sha256.
"""

from __future__ import annotations

import contextlib
import fcntl
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from k4_pipeline.alerts.facts import Fact, recovered
from k4_pipeline.alerts.journal import Journal

FIRST_LOOK_BACK_S = 3600.0  # a new target is not told what is older than this
BACK_OFF_S = (15.0, 900.0)  # pause after the first failed delivery; it doubles up to the second number
KEEP_S = 60 * 86400.0  # delivered facts older than this may be dropped from a journal that has grown large
COMPACT_BYTES = 16 << 20


@dataclass
class TargetState:
    """What is known of one target. `failures`: failed attempts since the last success."""

    since: float
    sent: set[str] = field(default_factory=set)
    messages: list[float] = field(default_factory=list)  # when messages went out; those of one look share a time
    failures: int = 0
    failed_at: float = 0.0
    error: str = ""

    def due_at(self) -> float:
        """When the next attempt may be made."""
        if not self.failures:
            return 0.0
        first, most = BACK_OFF_S
        return self.failed_at + min(first * 2 ** min(self.failures - 1, 20), most)

    def is_due(self, now: float) -> bool:
        """Whether to try now; after the clock went back behind the last attempt, at once."""
        return now >= self.due_at() or now < self.failed_at


class Outbox:
    """The loaded state of both journals; made by `Outbox.open`, which holds the lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._facts = Journal(folder / "facts.jsonl")
        self._deliveries = Journal(folder / "deliveries.jsonl")
        self._lock = threading.Lock()
        self.facts: dict[str, Fact] = {}
        self.open_trouble: dict[str, Fact] = {}
        self.targets: dict[str, TargetState] = {}
        self.problems: list[str] = []
        self._load()

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path) -> Iterator[Outbox | None]:
        """The outbox below `folder`, locked; None while another process holds it."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (folder / ".lock").open("ab") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            yield cls(folder)

    # -- facts --------------------------------------------------------------------------------------------------------

    def record(self, facts: Iterable[Fact]) -> list[Fact]:
        """Append the facts that are new, oldest first, and return them; a `good` fact only ends open trouble."""
        new = []
        for fact in sorted(facts, key=lambda f: f.at):
            if fact.good:
                trouble = self.open_trouble.get(fact.subject)
                if trouble is None or fact.at <= trouble.at:
                    continue
                fact = recovered(trouble, fact)
            if fact.id not in self.facts:
                self._learn(fact)
                new.append(fact)
        self._facts.append(fact.to_dict() for fact in new)
        return new

    def _learn(self, fact: Fact) -> None:
        self.facts[fact.id] = fact
        if fact.is_trouble:
            self.open_trouble[fact.subject] = fact
        elif fact.kind == "recovered":
            self.open_trouble.pop(fact.subject, None)

    # -- deliveries ---------------------------------------------------------------------------------------------------

    def meet(self, target: str, now: float) -> TargetState:
        """The state of a target; one met for the first time is told what happened in the last hour and later."""
        since = now - FIRST_LOOK_BACK_S
        # One that lies ahead was met while the clock was wrong: what happens now would be kept from it.
        if target not in self.targets or self.targets[target].since > now:
            self._deliveries.append([{"target": target, "since": since}])
            self._note({"target": target, "since": since})
        return self.targets[target]

    def pending(self, target: str) -> list[Fact]:
        """What this target has not been told, oldest first."""
        state = self.targets[target]
        return [f for f in self.facts.values() if f.at >= state.since and f.id not in state.sent]

    def delivered(self, target: str, ids: list[str], at: float) -> None:
        """The target took one message with these facts."""
        with self._lock:
            self._deliveries.append([{"target": target, "at": at, "ids": ids}])
            self._note({"target": target, "at": at, "ids": ids})

    def failed(self, target: str, at: float, error: str) -> None:
        """The target did not take a message."""
        with self._lock:
            entry = {"target": target, "at": at, "error": error[:300]}
            self._deliveries.append([entry])
            self._note(entry)

    def _note(self, entry: dict[str, Any]) -> None:
        if "since" in entry:
            since = float(entry["since"])
            state = self.targets.setdefault(entry["target"], TargetState(since))
            state.since = min(state.since, since)
            return
        state = self.targets.setdefault(entry["target"], TargetState(0.0))
        if "error" in entry:
            state.failures, state.failed_at, state.error = state.failures + 1, float(entry["at"]), str(entry["error"])
        else:
            state.sent.update(entry["ids"])
            state.messages.append(float(entry["at"]))
            state.failures, state.error = 0, ""

    # -- loading ------------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        facts, problems = self._facts.read()
        for record in facts:
            try:
                self._learn(Fact.from_dict(record))
            except TypeError as problem:
                problems.append(f"{self._facts.path}: a record is no fact ({problem})")
        deliveries, more = self._deliveries.read()
        for entry in deliveries:
            self._note(entry)
        self.problems = problems + more

    def mend(self) -> None:
        """Rewrite damaged journals from their whole lines; the damaged files are kept beside them."""
        if self.problems:
            self._facts.replace(f.to_dict() for f in self.facts.values())
            entries, _ = self._deliveries.read()
            self._deliveries.replace(entries)
            self.problems = []

    def compact(self, now: float) -> None:
        """Drop old facts that every target was told, once the journal is large."""
        if not self._facts.path.exists() or self._facts.path.stat().st_size < COMPACT_BYTES:
            return
        waiting = {f.id for target in self.targets for f in self.pending(target)}
        lasting = {f.id for f in self.open_trouble.values()}
        self.facts = {i: f for i, f in self.facts.items() if f.at > now - KEEP_S or i in waiting | lasting}
        self._facts.replace(f.to_dict() for f in self.facts.values())
