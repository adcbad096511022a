"""Schedules: nightly signals, quarterly retraining. Both are stopped until switched on in the UI."""

import dagster as dg

from k4_pipeline.defs.jobs import nightly, retrain
from k4_pipeline.defs.partitions import newest_labelled_as_of
from k4_pipeline.defs.resources import K4Resource

# After the US close in UTC, winter and summer, Tuesday to Saturday: each run sees a complete last session.
NIGHTLY_CRON = "30 2 * * 2-6"
# The first days of a quarter, after that night's run.
RETRAIN_CRON = "0 5 2 1,4,7,10 *"

nightly_schedule = dg.ScheduleDefinition(
    name="nightly_signals",
    job=nightly,
    cron_schedule=NIGHTLY_CRON,
    execution_timezone="UTC",
    description="Every night after the close: bars to signals.",
)


@dg.schedule(
    name="quarterly_retraining",
    job=retrain,
    cron_schedule=RETRAIN_CRON,
    execution_timezone="UTC",
    description="Every quarter: retrain at the newest as_of whose test span is labelled by then, so that the "
    "candidate can be validated before it may serve.",
)
def retrain_schedule(context: dg.ScheduleEvaluationContext, k4: K4Resource) -> dg.RunRequest:
    """One run for the newest as_of that can be validated on the day."""
    config = k4.settings().config
    today = context.scheduled_execution_time.date()
    as_of = newest_labelled_as_of(today, config.split.test_months, config.labels.horizon_bars)
    return dg.RunRequest(run_key=f"retrain-{as_of}-{today}", partition_key=as_of)


SCHEDULES = [nightly_schedule, retrain_schedule]
