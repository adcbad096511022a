"""The as_of partition: one key per quarter, named by its first day."""

from __future__ import annotations

import datetime as dt
import os

import dagster as dg
import pandas as pd

from k4_pipeline.config import PipelineConfig
from k4_pipeline.errors import K4Error
from k4_pipeline.settings import Settings, load_settings
from k4_pipeline.storage import ArtifactStore

FIRST_QUARTER = "2000-01-01"
# 252 sessions a year make 1.45 calendar days a session; rounded up, with two weeks for closures and late data.
DAYS_PER_SESSION, SLACK_DAYS = 1.5, 14
DAYS_A_BAR = 365.25 / 252
ONGOING_DAYS = 200  # bars that end less long ago still grow, so their quarters have no last one
UI_VARIABLE = "K4_PARTITIONS_OF_THE_DATA"  # set by `k4 ui`: what it loads lists the quarters of the stored bars alone


def quarters(first: str = FIRST_QUARTER, last: str | None = None) -> dg.TimeWindowPartitionsDefinition:
    """Quarter starts from `first` to `last`, both included; without `last` up to today.

    end_offset 1: the key named by a day exists from that day on, not only when its quarter has ended. An as_of needs
    only bars before its day, so the newest quarter can be trained on its first morning.
    """
    end = None if last is None else str((pd.Timestamp(last) + pd.DateOffset(months=3)).date())
    return dg.TimeWindowPartitionsDefinition(
        start=first, end=end, cron_schedule="0 0 1 */3 *", fmt="%Y-%m-%d", end_offset=1 if last is None else 0
    )


def quarters_of_data(first_bar: str, last_bar: str, config: PipelineConfig, today: dt.date) -> tuple[str, str | None]:
    """(first, last) quarter that bars of this span can be split at and tested; last is None while the bars grow."""
    warm_up = (config.patterns.min_history_bars + config.labels.horizon_bars) * DAYS_PER_SESSION
    known = pd.Timestamp(first_bar) + pd.Timedelta(days=warm_up) + pd.DateOffset(months=config.split.validation_months)
    last = newest_labelled_as_of(dt.date.fromisoformat(last_bar), config.split.test_months, config.labels.horizon_bars)
    first = min(str((known.to_period("Q") + 1).start_time.date()), last)
    ongoing = (today - dt.date.fromisoformat(last_bar)).days < ONGOING_DAYS
    return max(first, FIRST_QUARTER), None if ongoing else max(last, FIRST_QUARTER)


def quarters_of(settings: Settings) -> dg.TimeWindowPartitionsDefinition:
    """Those of the stored bars, else of the market to be simulated, in what `k4 ui` loads; elsewhere, and where
    nothing is known yet, every quarter."""
    config = settings.config
    if not os.environ.get(UI_VARIABLE):
        return quarters()
    try:
        meta = ArtifactStore(settings.artifacts_dir).last_good("daily_bars").meta
        first, last = meta["first_date"], meta["last_date"]
    except K4Error:
        if config.source.source != "simulated":
            return quarters()
        last = config.simulation.end_date
        first = str(pd.Timestamp(last).date() - dt.timedelta(days=config.simulation.n_bars * DAYS_A_BAR))
    return quarters(*quarters_of_data(first, last, config, dt.date.today()))


def newest_labelled_as_of(today: dt.date, test_months: int, horizon_bars: int) -> str:
    """The newest quarter start whose whole test span has known labels on `today`.

    The models of younger quarters can be trained, but nothing is known yet by which to judge them.
    """
    known_until = pd.Timestamp(today) - pd.Timedelta(days=horizon_bars * DAYS_PER_SESSION + SLACK_DAYS)
    latest = known_until - pd.DateOffset(months=test_months)
    return str((latest.to_period("Q").start_time).date())


as_of_partitions = quarters_of(load_settings()) if os.environ.get(UI_VARIABLE) else quarters()
