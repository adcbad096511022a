"""Reads from the Dagster instance what the alert sensor must tell: failed check evaluations and failed runs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import dagster as dg
from dagster import DagsterEventType

from k4_pipeline.alerts.messages import Alert, check_alert, run_alert

IN_PROGRESS = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
PARTITION_TAG = "dagster/partition"
MAX_RUNS = 500


def runs_to_look_at(instance: dg.DagsterInstance, changed_after: float) -> list[dg.DagsterRun]:
    """Every run in progress, and every run that ended after `changed_after` (seconds since 1970), oldest change first.

    A run in progress changes its time stamp only when it ends, so it is always looked at.
    """
    moment = dt.datetime.fromtimestamp(changed_after, tz=dt.UTC)
    ended = instance.get_run_records(
        dg.RunsFilter(statuses=ENDED, updated_after=moment), limit=MAX_RUNS, order_by="update_timestamp", ascending=True
    )
    running = instance.get_run_records(dg.RunsFilter(statuses=IN_PROGRESS), limit=MAX_RUNS)
    return [record.dagster_run for record in [*ended, *running]]


def alerts_of_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[Alert]:
    """One alert per failed check evaluation, and one for a failed run that no failed blocking check explains."""
    partition = run.tags.get(PARTITION_TAG)
    blocked_steps: set[str | None] = set()
    for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION):
        event = entry.get_dagster_event()
        evaluation = event.asset_check_evaluation_data
        if evaluation.passed:
            continue
        if evaluation.blocking and evaluation.severity == dg.AssetCheckSeverity.ERROR:
            blocked_steps.add(event.step_key)
        yield check_alert(
            run_id=run.run_id,
            event=f"{entry.timestamp:.6f}",
            job=run.job_name,
            asset=evaluation.asset_key.to_user_string(),
            check=evaluation.check_name,
            partition=partition,
            blocking=bool(evaluation.blocking),
            severity=evaluation.severity.value,
            description=evaluation.description or "",
        )
    if run.status != dg.DagsterRunStatus.FAILURE:
        return
    failures = [
        entry.get_dagster_event()
        for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_FAILURE)
        if entry.is_dagster_event
    ]
    own = [event for event in failures if event.step_key not in blocked_steps]
    if failures and not own:
        return  # the check's own message says that the run stopped there
    yield run_alert(
        run_id=run.run_id,
        job=run.job_name,
        partition=partition,
        steps=[event.step_key or "" for event in own],
        error=own[0].step_failure_data.error_display_string.strip().splitlines()[0] if own else "",
    )
