"""Reads from the Dagster instance what became of runs and of the checks in them, as facts for the outbox."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster import DagsterEventType

from k4_pipeline.alerts.facts import Fact, check_fact, run_fact, where
from k4_pipeline.defs.causes import innermost, step_cause
from k4_pipeline.defs.graph import PARTITIONED_ASSETS

IN_PROGRESS = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
PARTITION_TAG = "dagster/partition"
STUCK_S = 3600.0  # in progress without a word for so long
QUEUED_S = 6 * 3600.0  # waiting to start for so long
NOTHING_SAID = "This run has been marked as failed from outside"  # Dagster, where whoever noticed gave no reason
PROCESS_GONE = "its process ended although no step had failed (kill -9, out of memory, a power cut)"
VALUE_NAMES, THRESHOLD_NAMES = ("value", "observed"), ("limit", "threshold", "target")


TELLING = {
    DagsterEventType.ASSET_CHECK_EVALUATION,
    DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.RUN_FAILURE,
}
Entry = tuple[dg.DagsterEvent, float]  # an event and its time
Told = dict[DagsterEventType, list[Entry]]


@dataclass(frozen=True)
class SeenRun:
    """A run and when it last changed, seconds since 1970."""

    run: dg.DagsterRun
    changed_at: float


def runs_to_look_at(instance: dg.DagsterInstance, changed_after: float) -> Iterator[SeenRun]:
    """Every run in progress or waiting, then every run that ended after `changed_after`, oldest change first.

    A run in progress changes its time stamp only when it ends, so it is always looked at.
    """
    for record in instance.get_run_records(dg.RunsFilter(statuses=IN_PROGRESS + WAITING)):
        yield SeenRun(record.dagster_run, record.update_timestamp.timestamp())
    filters = dg.RunsFilter(statuses=ENDED, updated_after=dt.datetime.fromtimestamp(changed_after, tz=dt.UTC))
    for record in instance.get_run_records(filters, order_by="update_timestamp", ascending=True):
        yield SeenRun(record.dagster_run, record.update_timestamp.timestamp())


def facts_of_run(instance: dg.DagsterInstance, seen: SeenRun, now: float) -> list[Fact]:
    """Facts about every check of the run, and about the run itself."""
    run = seen.run
    told: Told = {}
    for entry in instance.all_logs(run.run_id, of_type=TELLING):
        event = entry.get_dagster_event()
        told.setdefault(event.event_type, []).append((event, entry.timestamp))
    checks = _check_facts(run, told)
    blocked = {step for step, fact in checks if fact.effect.startswith("It blocks")}
    facts = [fact for _, fact in checks]
    if run.status == dg.DagsterRunStatus.FAILURE:
        facts += _failure(run, told, blocked, seen.changed_at)
    elif run.status == dg.DagsterRunStatus.SUCCESS:
        facts += _unevaluated(run, told, seen.changed_at)
        facts.append(_of_run("recovered", run, seen.changed_at, cause=f"run {run.run_id} succeeded"))
    elif run.status not in ENDED:
        facts += _stuck(instance, seen, now)
    return facts


def _of_run(kind: str, run: dg.DagsterRun, at: float, cause: str = "", effect: str = "") -> Fact:
    return run_fact(
        kind,
        run_id=run.run_id,
        job=run.job_name,
        partition=run.tags.get(PARTITION_TAG),
        at=at,
        cause=cause,
        effect=effect,
    )


def _check_facts(run: dg.DagsterRun, told: Told) -> list[tuple[str | None, Fact]]:
    """(step, fact) of every evaluation, with what became of the version it is about."""
    seen = []
    for event, at in told.get(DagsterEventType.ASSET_CHECK_EVALUATION, []):
        evaluation = event.asset_check_evaluation_data
        blocks = bool(
            not evaluation.passed and evaluation.blocking and evaluation.severity == dg.AssetCheckSeverity.ERROR
        )
        seen.append((event.step_key, at, evaluation, blocks))
    unpublished = {evaluation.asset_key for _, _, evaluation, blocks in seen if blocks}
    return [
        (
            step,
            check_fact(
                asset=evaluation.asset_key.to_user_string(),
                check=evaluation.check_name,
                partition=_partition(run, evaluation.asset_key.to_user_string()),
                passed=bool(evaluation.passed),
                blocks=blocks,
                published=evaluation.asset_key not in unpublished,
                cause=evaluation.description or "",
                run_id=run.run_id,
                at=at,
                value=_number(evaluation.metadata, VALUE_NAMES),
                threshold=_number(evaluation.metadata, THRESHOLD_NAMES),
            ),
        )
        for step, at, evaluation, blocks in seen
    ]


def _partition(run: dg.DagsterRun, asset: str) -> str | None:
    return run.tags.get(PARTITION_TAG) if asset.rpartition("/")[2] in PARTITIONED_ASSETS else None


def _number(metadata: Any, names: tuple[str, ...]) -> float | None:
    for name in names:
        value = getattr(metadata.get(name), "value", None)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value:
            return float(value)
    return None


def _unevaluated(run: dg.DagsterRun, told: Told, at: float) -> list[Fact]:
    """Checks that a successful run planned and never evaluated; of a failed run its own fact tells why."""
    planned: dict[tuple[str, str], None] = {}
    for event, _ in told.get(DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED, []):
        plan = event.asset_check_planned_data
        planned[(plan.asset_key.to_user_string(), plan.check_name)] = None
    for event, _ in told.get(DagsterEventType.ASSET_CHECK_EVALUATION, []):
        done = event.asset_check_evaluation_data
        planned.pop((done.asset_key.to_user_string(), done.check_name), None)
    return [
        Fact(
            kind="check_not_evaluated",
            subject=f"check|{asset}|{check}|{_partition(run, asset) or ''}",
            event=f"{run.run_id}|planned",
            at=at,
            title=f"{check} on {where(asset, _partition(run, asset))}",
            cause="its run succeeded and planned this check, but no evaluation was recorded",
            effect="Nothing is proved about this version by this check.",
            run_id=run.run_id,
            path=f"/assets/{asset}?view=checks&checkDetail={check}",
            next_step=f"Materialize {asset} again with its checks.",
        )
        for asset, check in planned
    ]


def _failure(run: dg.DagsterRun, told: Told, blocked: set[str | None], at: float) -> list[Fact]:
    # A step that outlives its killed run fails after the end of that run: because of it, and no cause of it.
    ended = min((when for _, when in told.get(DagsterEventType.RUN_FAILURE, [])), default=math.inf)
    events = [event for event, when in told.get(DagsterEventType.STEP_FAILURE, []) if when <= ended]
    own = [event for event in events if event.step_key not in blocked]
    if events and not own:
        return []  # the check's own fact says that the run stopped there
    effect = "No later step ran; every asset keeps its last good version."
    if own:
        causes = "\n".join(f"{event.step_key}: {step_cause(event)}" for event in own)
        return [_of_run("run_failed", run, at, cause=causes, effect=effect)]
    said, error = "", ""
    for event, _ in told.get(DagsterEventType.RUN_FAILURE, []):
        said = event.message or said
        data = event.event_specific_data
        error = innermost(getattr(data, "error", None)) or error
    if error:
        return [_of_run("run_failed", run, at, cause=error, effect=effect)]
    # No step failed and no error was raised: the process is gone, and whoever noticed says how.
    cause = " ".join(said.split()) if not said.startswith(NOTHING_SAID) else PROCESS_GONE
    return [_of_run("run_killed", run, at, cause=cause, effect=effect)]


def _stuck(instance: dg.DagsterInstance, seen: SeenRun, now: float) -> list[Fact]:
    run = seen.run
    if run.status in WAITING:
        silent, limit, what = now - seen.changed_at, QUEUED_S, f"{run.status.value.lower()} and not started"
    else:
        last = instance.event_log_storage.get_logs_for_run(run.run_id, limit=1, ascending=False)
        silent = now - (last[0].timestamp if last else seen.changed_at)
        limit, what = STUCK_S, f"{run.status.value.lower()} without an event"
    if silent <= limit:
        return []
    cause = f"{what} for more than {limit / 60:.0f} minutes"
    return [_of_run("run_stuck", run, now - silent + limit, cause=cause)]
