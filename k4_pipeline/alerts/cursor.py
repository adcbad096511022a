"""What has been told already: the state of the alert sensor between its ticks, bounded and JSON.

The position is a time, not an event number: on SQLite every run has an event file of its own in which numbers restart.
Runs are looked at again while they are in progress and for `OVERLAP_S` after their last change, so that events written
late are seen; what was sent of those runs is remembered, so nothing is told twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

OVERLAP_S = 300.0
FIRST_LOOK_BACK_S = 3600.0
MAX_ATTEMPTS = 20
MAX_KEYS = 5000


@dataclass
class AlertCursor:
    """`seen_until`: seconds since 1970 (UTC); `sent`: keys by run; `attempts`: failed deliveries by key."""

    seen_until: float
    sent: dict[str, list[str]] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def load(cls, text: str | None, now: float) -> AlertCursor:
        """From the stored text; a first start looks back `FIRST_LOOK_BACK_S`. An unreadable cursor starts afresh."""
        try:
            stored = json.loads(text or "")
            return cls(float(stored["seen_until"]), dict(stored["sent"]), dict(stored["attempts"]))
        except (ValueError, KeyError, TypeError):
            return cls(now - FIRST_LOOK_BACK_S)

    def dump(self) -> str:
        """The text to store."""
        return json.dumps({"seen_until": self.seen_until, "sent": self.sent, "attempts": self.attempts})

    @property
    def look_from(self) -> float:
        """Ask for runs changed after this."""
        return self.seen_until - OVERLAP_S

    def was_sent(self, run_id: str, key: str) -> bool:
        """Whether this message went out (or was given up)."""
        return key in self.sent.get(run_id, ())

    def mark_sent(self, run_id: str, key: str) -> None:
        """Never send it again."""
        self.sent.setdefault(run_id, []).append(key)
        self.attempts.pop(key, None)

    def mark_failed(self, run_id: str, key: str) -> bool:
        """Count a failed delivery; True when it is given up now, after `MAX_ATTEMPTS`."""
        self.attempts[key] = self.attempts.get(key, 0) + 1
        if self.attempts[key] < MAX_ATTEMPTS:
            return False
        self.mark_sent(run_id, key)
        return True

    def advance(self, until: float, runs_in_view: Iterable[str]) -> None:
        """Move on to `until`, unless messages wait; forget runs that the next look cannot return."""
        if not self.attempts:
            self.seen_until = max(self.seen_until, until)
        view = set(runs_in_view)
        self.sent = {run: keys for run, keys in self.sent.items() if run in view}
        while sum(map(len, self.sent.values())) > MAX_KEYS:
            self.sent.pop(next(iter(self.sent)))
