"""What happened, as one fact each, in the words a reader can act on. Knows nothing of Dagster or of delivery.

A fact has a subject (what it is about) and an event (which occurrence of it), and both together give its id: the same
occurrence seen again is the same fact, so whoever collects may look as often as he likes. A fact that is `good` ends
the trouble of its subject; it is told only where trouble of that subject was told before.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import Any

CAUSE_LIMIT = 1200
TROUBLE = {
    "check_failed": "check failed",
    "check_not_evaluated": "check not evaluated",
    "run_failed": "run failed",
    "run_killed": "run killed",
    "run_stuck": "run stuck",
    "tick_missed": "schedule tick missed",
    "tick_failed": "schedule tick failed",
    "stale_asset": "stale asset",
    "outbox_damaged": "alert files damaged",
}
NEWS = {
    "new_signal": "new signal",
    "champion_moved": "champion moved",
    "champion_held": "champion held",
    "recovered": "recovered",
}
KINDS = {**TROUBLE, **NEWS}


@dataclass(frozen=True)
class Fact:
    """One thing that happened. `at`: seconds since 1970 (UTC); `value` and `threshold` where a number was judged."""

    kind: str
    subject: str
    event: str
    at: float
    title: str
    cause: str = ""
    effect: str = ""
    value: float | None = None
    threshold: float | None = None
    run_id: str = ""
    path: str = ""  # page of the UI, below its address
    next_step: str = ""
    good: bool = False

    @property
    def id(self) -> str:
        """16 hex digits, the same whenever the same occurrence is seen again."""
        return hashlib.sha256("\n".join((self.kind, self.subject, self.event)).encode()).hexdigest()[:16]

    @property
    def is_trouble(self) -> bool:
        """Whether it lasts until its subject is good again."""
        return self.kind in TROUBLE

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {name: value for name, value in asdict(self).items() if value not in ("", None, False)}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Fact:
        """The inverse of `to_dict`; `TypeError` for a dict that is no fact."""
        return cls(**stored)


def clip(text: str, limit: int = CAUSE_LIMIT) -> str:
    """At most `limit` characters, the cut shown."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def where(name: str, partition: str | None) -> str:
    """`name`, or `name, as_of partition`."""
    return f"{name}, as_of {partition}" if partition else name


def recovered(trouble: Fact, good: Fact) -> Fact:
    """What is told when the subject of `trouble` is good again."""
    title = f"recovered: {trouble.title}"
    return replace(
        good, kind="recovered", event=trouble.id, title=title, cause=good.cause or "it holds again", good=False
    )


def check_fact(
    *,
    asset: str,
    check: str,
    partition: str | None,
    passed: bool,
    blocks: bool,
    published: bool,
    cause: str,
    run_id: str,
    at: float,
    value: float | None = None,
    threshold: float | None = None,
) -> Fact:
    """One evaluation of a check. `blocks`: this failure keeps the version back; `published`: what became of it."""
    unevaluated = "could not be evaluated" in cause
    if blocks:
        effect = "It blocks: this version is not published and its run stopped there; the last good version stays."
    elif published:
        effect = "It does not block: this version is published."
    else:
        effect = "It does not block by itself; this version is not published, because another check blocked it."
    asset_name = where(asset, partition)
    return Fact(
        kind="check_not_evaluated" if unevaluated and not passed else "check_failed",
        subject=f"check|{asset}|{check}|{partition or ''}",
        event=f"{run_id}|{at:.6f}",
        at=at,
        title=f"{check} on {asset_name}",
        cause="" if passed else clip(cause),
        effect="" if passed else effect,
        value=value,
        threshold=threshold,
        run_id=run_id,
        path=f"/assets/{asset}?view=checks&checkDetail={check}",
        next_step=f"Mend the cause, then materialize {asset} again with its checks." if blocks else "",
        good=passed,
    )


def run_fact(
    kind: str, *, run_id: str, job: str, partition: str | None, at: float, cause: str = "", effect: str = ""
) -> Fact:
    """A run that failed, was killed, is stuck or (kind `recovered`) succeeded."""
    remedy = {
        "run_failed": "Mend the cause, then run it again: `k4 run --again`, or Re-execute on the run's page.",
        "run_killed": "Look for what ended the process (memory, power, a signal), then run it again.",
        "run_stuck": "Look at the run's log; if nothing works any more, terminate it on its page and run it again.",
    }
    return Fact(
        kind=kind,
        subject=f"run|{job}|{partition or ''}",
        event=run_id,
        at=at,
        title=f"{where(job, partition)}",
        cause=clip(cause),
        effect=effect,
        run_id=run_id,
        path=f"/runs/{run_id}",
        next_step=remedy.get(kind, ""),
        good=kind == "recovered",
    )
