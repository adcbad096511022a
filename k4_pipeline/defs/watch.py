"""Facts that no run reports by itself: schedule ticks, assets that went stale, new signals, moves of the champion."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorStatus, TickStatus
from dagster._utils.schedules import cron_string_iterator

from k4_pipeline.alerts.cursor import Cursor
from k4_pipeline.alerts.facts import Fact
from k4_pipeline.defs.causes import innermost
from k4_pipeline.defs.schedules import ZONE, ZONES
from k4_pipeline.defs.staging import load_json, load_table
from k4_pipeline.errors import K4Error
from k4_pipeline.evaluation.champion import DECISION
from k4_pipeline.report.numbers import price
from k4_pipeline.storage import ArtifactStore

TICK_GRACE_S = 900.0
TICKS_BACK_S = 7 * 86400.0
# The nightly run comes five times a week, its longest pause is three days.
STALE_AFTER_S = 80 * 3600.0
STALE_SESSIONS = 3  # without a bar; a vendor may be a day late
NIGHTLY_SCHEDULE = "nightly_signals"
TOLD_SIGNALS = ("STRONG", "GOOD")


def _schedules_on(instance: dg.DagsterInstance) -> Any:
    return instance.all_instigator_state(
        instigator_type=InstigatorType.SCHEDULE, instigator_statuses={InstigatorStatus.RUNNING}
    )


def schedule_facts(instance: dg.DagsterInstance, now: float) -> Iterator[Fact]:
    """Ticks of running schedules that did not come within `TICK_GRACE_S`, that failed, and that came."""
    for state in _schedules_on(instance):
        data = state.instigator_data
        start = max(getattr(data, "start_timestamp", None) or now, now - TICKS_BACK_S)
        cron = getattr(data, "cron_schedule", None)
        if not isinstance(cron, str):
            continue
        ticks = {
            tick.timestamp: tick
            for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, after=start - 1.0)
        }
        for moment in cron_string_iterator(start, cron, ZONES.get(state.instigator_name, ZONE)):
            due = moment.timestamp()
            if due > now - TICK_GRACE_S:
                break
            yield _tick_fact(state.instigator_name, due, ticks.get(due))


def _tick_fact(schedule: str, due: float, tick: object) -> Fact:
    when = dt.datetime.fromtimestamp(due, tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    status = getattr(tick, "status", None)
    cause, kind, good = "", "tick_missed", False
    if tick is None:
        cause = f"it was due at {when} and nothing came within {TICK_GRACE_S / 60:.0f} minutes"
    elif status == TickStatus.FAILURE:
        kind, cause = "tick_failed", innermost(getattr(tick, "error", None)) or "its evaluation failed"
    else:
        good, cause = True, f"the tick of {when} came"
    return Fact(
        kind=kind,
        subject=f"schedule|{schedule}",
        event=f"{due:.0f}",
        at=due + TICK_GRACE_S,
        title=f"{schedule}, due {when}",
        cause=cause,
        effect="" if good else "Its run did not start.",
        path="/automation",
        next_step="See that `k4 ui` or the Dagster daemon runs, then start the job by hand." if not good else "",
        good=good,
    )


def stale_facts(instance: dg.DagsterInstance, store: ArtifactStore, now: float) -> Iterator[Fact]:
    """Signals that were not made again in `STALE_AFTER_S` although the nightly schedule is on."""
    on = [state for state in _schedules_on(instance) if state.instigator_name == NIGHTLY_SCHEDULE]
    moments = [event for event in store.history("signals") if event["event"] == "promoted"]
    if not on or not moments:
        return
    last = dt.datetime.fromisoformat(moments[-1]["at"]).timestamp()
    since = max(last, getattr(on[0].instigator_data, "start_timestamp", None) or 0.0)
    stale = now - since > STALE_AFTER_S
    hours = STALE_AFTER_S / 3600.0
    yield Fact(
        kind="stale_asset",
        subject="stale|signals",
        event=moments[-1]["version"],
        at=since + STALE_AFTER_S if stale else last,
        title="signals",
        cause=f"last published {moments[-1]['at']}, more than {hours:g} hours ago"
        if stale
        else f"published {moments[-1]['at']}",
        effect="What is shown as signals is not of the last session." if stale else "",
        threshold=hours if stale else None,
        path="/assets/signals",
        next_step="Look at the last nightly run; run it by hand: job nightly." if stale else "",
        good=not stale,
    )


def stale_input_facts(instance: dg.DagsterInstance, store: ArtifactStore, exchange: str, now: float) -> Iterator[Fact]:
    """The source gave no bar of the last sessions although the nightly schedule is on: its runs succeed and add
    nothing."""
    from k4_pipeline.market.calendar import sessions

    on = [state for state in _schedules_on(instance) if state.instigator_name == NIGHTLY_SCHEDULE]
    try:
        night = dt.date.fromisoformat(store.last_good("signals").meta["night"])
    except (K4Error, KeyError):
        return  # nothing published yet
    yesterday = dt.datetime.fromtimestamp(now, dt.UTC).date() - dt.timedelta(days=1)
    started = getattr(on[0].instigator_data, "start_timestamp", None) if on else None
    if started is None:
        return
    missed = sessions(exchange, night + dt.timedelta(days=1), yesterday) if yesterday > night else ()
    stale = len(missed) > STALE_SESSIONS and now - started > STALE_AFTER_S
    yield Fact(
        kind="stale_asset",
        subject="stale|bars",
        event=str(night),
        at=now,
        title="bars of the source",
        cause=f"the newest bar is of {night}; {exchange} has had {len(missed)} sessions since",
        effect="Every night is a repetition of the last one." if stale else "",
        threshold=float(STALE_SESSIONS) if stale else None,
        path="/assets/night_bars",
        next_step="See that the source still delivers: `k4 data check`." if stale else "",
        good=not stale,
    )


def champion_age_facts(store: ArtifactStore, now: float) -> Iterator[Fact]:
    """The champion is past its age limit, so that the last night gave no signals."""
    try:
        meta = store.last_good("signals").meta
    except K4Error:
        return  # nothing published yet
    why = meta.get("none_because", "")
    yield Fact(
        kind="stale_asset",
        subject="stale|champion",
        event=str(meta.get("night", "")),
        at=now,
        title="champion",
        cause=why or f"it gave the signals of {meta.get('night', 'the last night')}",
        effect="No signals are given." if why else "",
        path="/assets/champion_model",
        next_step="Train a new one: `k4 run`, or the sensor retrain_when_needed." if why else "",
        good=not why,
    )


def signal_facts(store: ArtifactStore, cursor: Cursor, now: float) -> Iterator[Fact]:
    """One fact per listed pattern of a STRONG or GOOD tier; the same pattern is told once per level.

    Of models without certified tiers the signal by expected value is told. What the list leaves out is not.
    """
    try:
        ref = store.last_good("signals")
    except K4Error:
        return  # nothing published yet
    if ref.version == cursor.signals:
        return
    ref.verify()
    table = load_table(ref)
    level = "tier" if "tier" in table else "signal"
    if "left_out" in table:
        table = table[table["left_out"] == ""]
    for row in table[table[level].isin(TOLD_SIGNALS)].to_dict("records"):
        day = f"{row['snapshot_date']:%Y-%m-%d}"
        yield Fact(
            kind="new_signal",
            subject=f"signal|{row['pattern_id']}",
            event=str(row[level]),
            at=now,
            title=f"{row[level]} for {row['ticker']}, {day}",
            cause=f"expected value {row['ev']:.2f}, P(K4) {row['p_4']:.1%}, P(K5) {row['p_5']:.1%}; a close above "
            f"{price(row['power'])} is a breakout, the box is {price(row['lower'])} to {price(row['upper'])}",
            effect=f"Scored by the champion of as_of {row['champion_as_of']}.",
            value=float(row["ev"]),
            path="/assets/signals",
            next_step="`k4 export signals --out signals.csv` gives the whole table.",
        )
    cursor.signals = ref.version


def champion_facts(store: ArtifactStore, cursor: Cursor, now: float) -> Iterator[Fact]:
    """What the last evaluation of the champion decided: it moved, or a newer candidate was held."""
    try:
        ref = store.last_good("champion_model")
    except K4Error:
        return  # none yet; a damaged one fails its own runs, and those are told
    if ref.version == cursor.champion:
        return
    ref.verify()
    decision: dict[str, Any] = {"moved": False, "candidate": None}
    if DECISION in ref.files:
        decision = load_json(ref, DECISION)
    candidate = decision["candidate"]
    if decision["moved"] or candidate:
        verb = "moved" if decision["moved"] else "held"
        numbers = decision.get("comparison") or {}
        yield Fact(
            kind=f"champion_{verb}",
            subject="champion",
            event=f"{decision['champion']}|{candidate}|{decision['why']}",
            at=now,
            title=f"as_of {decision['as_of']} serves",
            cause=decision["why"],
            value=numbers.get("difference"),
            threshold=numbers.get("threshold"),
            path="/assets/champion_model",
            effect=f"The candidate was of as_of {decision['candidate_as_of']}." if not decision["moved"] else "",
            next_step="`k4 champion list` shows the history, `k4 champion rollback` goes one back.",
        )
    cursor.champion = ref.version
