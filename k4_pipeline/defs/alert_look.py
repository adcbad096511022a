"""One look of the alert sensor: collect what happened into the outbox, then bring it to the targets."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from k4_pipeline.alerts.cursor import OVERLAP_S, Cursor
from k4_pipeline.alerts.delivery import Delivered, deliver, targets_of
from k4_pipeline.alerts.facts import Fact
from k4_pipeline.alerts.outbox import Outbox
from k4_pipeline.defs.run_facts import facts_of_run, runs_to_look_at
from k4_pipeline.defs.watch import (
    champion_age_facts,
    champion_facts,
    schedule_facts,
    signal_facts,
    stale_facts,
    stale_input_facts,
)
from k4_pipeline.errors import K4Error
from k4_pipeline.settings import Settings
from k4_pipeline.storage import ArtifactStore

COLLECT_BUDGET_S = 20.0
WAIT_S = 30.0
UI_VARIABLE, UI_DEFAULT = "K4_UI_URL", "http://127.0.0.1:3000"


def alerts_folder(settings: Settings) -> Path:
    """Where the outbox lies."""
    return settings.home / "alerts"


def ui_address() -> str:
    """Where links in messages lead."""
    return os.environ.get(UI_VARIABLE, "") or UI_DEFAULT


@dataclass(frozen=True)
class Look:
    """What one look did."""

    new_facts: int = 0
    delivered: Delivered = field(default_factory=Delivered)
    problems: tuple[str, ...] = ()
    busy: bool = False

    def in_words(self) -> str:
        """One sentence for the page of the sensor."""
        if self.busy:
            return "another process is looking at the same home"
        told = f"{self.delivered.messages} messages sent, {self.delivered.waiting} deliveries waiting"
        return "; ".join([f"{self.new_facts} new facts, {told}", *self.problems])


def look(instance: dg.DagsterInstance, settings: Settings, now: float | None = None) -> Look:
    """Collect and deliver once. `now`: seconds since 1970, the clock's unless given."""
    now = time.time() if now is None else now
    with Outbox.open(alerts_folder(settings)) as outbox:
        if outbox is None:
            return Look(busy=True)
        new, problems = collect(outbox, instance, settings, now)
        targets, wrong = targets_of(settings.alert_urls)
        if not targets and not wrong:
            wrong = ["no alert URLs are set (K4_ALERT_URLS), so facts are only kept"]
        delivered = deliver(outbox, targets, ui_address(), now)
        outbox.compact(now)
        return Look(len(new), delivered, (*problems, *wrong))


def keep(settings: Settings, facts: list[Fact]) -> bool:
    """Put facts into the outbox for the next look; False when another process holds it for longer than `WAIT_S`."""
    until = time.monotonic() + WAIT_S
    while True:
        with Outbox.open(alerts_folder(settings)) as outbox:
            if outbox is not None:
                outbox.record(facts)
                return True
        if time.monotonic() > until:
            return False
        time.sleep(0.2)


def collect(
    outbox: Outbox, instance: dg.DagsterInstance, settings: Settings, now: float
) -> tuple[list[Fact], list[str]]:
    """Record what is new and move the cursor; what is wrong with the alert files themselves is a fact too."""
    path = outbox.folder / "cursor.json"
    cursor, lost = Cursor.load(path, now)
    if outbox.problems:
        # A damaged line may have held a fact: look again far back, known facts are not told twice.
        cursor.seen_until = min(cursor.seen_until, Cursor.far_back(now).seen_until)
    damage = [*([lost] if lost else []), *outbox.problems]
    outbox.mend()
    new = outbox.record(_damage_facts(damage, now))
    new += outbox.record(schedule_facts(instance, now))
    store, problems = ArtifactStore(settings.artifacts_dir), []
    for watch in (
        lambda: stale_facts(instance, store, now),
        lambda: stale_input_facts(instance, store, settings.config.cleaning.default_exchange, now),
        lambda: champion_age_facts(store, now),
        lambda: signal_facts(store, cursor, now),
        lambda: champion_facts(store, cursor, now),
    ):
        try:
            new += outbox.record(watch())
        except K4Error as problem:
            problems.append(str(problem))  # a damaged artifact also fails the run that reads it, and that is told
    new += _collect_runs(outbox, instance, cursor, now)
    cursor.looked_at = now
    cursor.save(path)
    return new, [*damage, *problems]


def _collect_runs(outbox: Outbox, instance: dg.DagsterInstance, cursor: Cursor, now: float) -> list[Fact]:
    new, began, until = [], time.monotonic(), now
    for seen in runs_to_look_at(instance, cursor.look_from):
        if time.monotonic() - began > COLLECT_BUDGET_S:
            until = seen.changed_at + OVERLAP_S  # the next look goes on from this run
            break
        new += outbox.record(facts_of_run(instance, seen, now))
    # Only after the facts are on the disk, and never beyond now.
    cursor.seen_until = max(min(until, now), min(cursor.seen_until, now))
    return new


def _damage_facts(sentences: Iterable[str], now: float) -> list[Fact]:
    return [
        Fact(
            kind="outbox_damaged",
            subject="outbox",
            event=f"{now:.0f}|{sentence}",
            at=now,
            title="the files of the alerts",
            cause=sentence,
            effect="Facts were looked up again in the run history; a message may come a second time.",
            next_step="Check the disk of the home folder; nothing else needs doing.",
        )
        for sentence in sentences
    ]
