"""Schedules: nightly signals, the weekly full run, quarterly retraining. All are stopped until switched on in the UI.

Their clock is that of the exchange (setting cleaning.default_exchange when the code location loads),
so that daylight saving moves them with the close; a tick after a day without a session is skipped with the reason.
A bar of today is not taken before the date has changed in UTC, so east of it the clock is UTC, unless
cleaning.todays_bar takes a bar after the close.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import dagster as dg

from k4_pipeline.config import CleaningConfig
from k4_pipeline.defs.jobs import nightly, nightly_full, retrain
from k4_pipeline.defs.partitions import newest_labelled_as_of
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.errors import K4Error
from k4_pipeline.settings import load_settings

# Half past midnight: the date has changed here and in UTC, so yesterday's bar is complete for every rule.
NIGHTLY_CRON = "30 0 * * 2-6"
FULL_CRON = "0 6 * * 6"
# The first days of a quarter, after that night's run.
RETRAIN_CRON = "0 5 2 1,4,7,10 *"
USUAL_EXCHANGE, USUAL_ZONE = "XNYS", "America/New_York"


def zone_of(cleaning: CleaningConfig) -> str:
    """The zone of the schedules' clock; UTC where that of the exchange is not known."""
    if cleaning.default_exchange == USUAL_EXCHANGE:
        return USUAL_ZONE  # without the library of calendars, half a second
    from k4_pipeline.market.instants import exchange_zone

    zone = exchange_zone(cleaning.default_exchange)
    if zone is None:
        return "UTC"
    ahead = any(dt.datetime(2026, month, 1, tzinfo=zone).utcoffset() > dt.timedelta(0) for month in (1, 7))  # type: ignore[operator]
    return "UTC" if ahead and cleaning.todays_bar == "reject" else zone.key


def _cleaning_of_home() -> CleaningConfig:
    try:
        return load_settings().config.cleaning
    except K4Error:
        return CleaningConfig()  # the runs themselves say what is wrong with the settings


ZONE = zone_of(_cleaning_of_home())
ZONES: dict[str, str] = {}  # schedules of further markets with a clock of their own; filled when they are loaded


def no_session(exchange: str, day: dt.date) -> str:
    """Why there is nothing to read after `day`; "" when the exchange had a session."""
    from k4_pipeline.market.calendar import sessions

    return "" if len(sessions(exchange, day, day)) else f"{exchange} had no session on {day:%A}, {day}"


@dg.schedule(
    name="nightly_signals",
    job=nightly,
    cron_schedule=NIGHTLY_CRON,
    execution_timezone=ZONE,
    description="After every session of the exchange, on its own clock and calendar: new bars to signals.",
)
def nightly_schedule(context: dg.ScheduleEvaluationContext, k4: K4Resource) -> dg.RunRequest | dg.SkipReason:
    """One run for the session of the day that ended half an hour ago."""
    day = context.scheduled_execution_time.date() - dt.timedelta(days=1)
    why = no_session(k4.settings().config.cleaning.default_exchange, day)
    return dg.SkipReason(why) if why else dg.RunRequest(run_key=f"night-{day}")


@dg.schedule(
    name="weekly_full_run",
    job=nightly_full,
    cron_schedule=FULL_CRON,
    execution_timezone=ZONE,
    description="Every Saturday: the whole source to signals; takes in what the nights added and what was restated.",
)
def full_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run a week."""
    return dg.RunRequest(run_key=f"full-{context.scheduled_execution_time.date()}")


@dg.schedule(
    name="quarterly_retraining",
    job=retrain,
    cron_schedule=RETRAIN_CRON,
    execution_timezone=ZONE,
    description="Every quarter: retrain at the newest as_of whose test span is labelled by then, so that the "
    "candidate can be validated before it may serve.",
)
def retrain_schedule(context: dg.ScheduleEvaluationContext, k4: K4Resource) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """One run for the newest as_of that can be validated on the day."""
    from k4_pipeline.defs.retraining import too_little_data

    config = k4.settings().config
    today = context.scheduled_execution_time.date()
    as_of = newest_labelled_as_of(today, config.split.test_months, config.labels.horizon_bars)
    why = too_little_data(k4.settings(), as_of)
    yield dg.SkipReason(why) if why else dg.RunRequest(run_key=f"retrain-{as_of}-{today}", partition_key=as_of)


SCHEDULES = [nightly_schedule, full_schedule, retrain_schedule]
