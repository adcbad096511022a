"""The as_of partition: one key per quarter, named by its first day."""

from __future__ import annotations

import datetime as dt

import dagster as dg
import pandas as pd

# end_offset 1: the key named by a day exists from that day on, not only when its quarter has ended. An as_of needs
# only bars before its day, so the newest quarter can be trained on its first morning.
as_of_partitions = dg.TimeWindowPartitionsDefinition(
    start="2000-01-01", cron_schedule="0 0 1 */3 *", fmt="%Y-%m-%d", end_offset=1
)
# 252 sessions a year make 1.45 calendar days a session; rounded up, with two weeks for closures and late data.
DAYS_PER_SESSION, SLACK_DAYS = 1.5, 14


def newest_labelled_as_of(today: dt.date, test_months: int, horizon_bars: int) -> str:
    """The newest quarter start whose whole test span has known labels on `today`.

    The models of younger quarters can be trained, but nothing is known yet by which to judge them.
    """
    known_until = pd.Timestamp(today) - pd.Timedelta(days=horizon_bars * DAYS_PER_SESSION + SLACK_DAYS)
    latest = known_until - pd.DateOffset(months=test_months)
    return str((latest.to_period("Q").start_time).date())
