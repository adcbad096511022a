"""How old each asset may become: policies on what has no partitions, checks on the newest partition of the rest.

The policies are judged by the Dagster daemon and shown on the pages of the assets; the checks by their own sensor,
which is stopped until switched on like every schedule.
"""

from __future__ import annotations

import datetime as dt
import warnings

import dagster as dg

from k4_pipeline.defs.graph import ASSET_ORDER, FULL_NIGHT_ASSETS, NIGHTLY_ASSETS, PARTITIONED_ASSETS

# Five nights a week; over a long weekend four days pass between two of them.
NIGHTLY = dg.FreshnessPolicy.time_window(fail_window=dt.timedelta(hours=104), warn_window=dt.timedelta(hours=80))
WEEKLY = dg.FreshnessPolicy.time_window(fail_window=dt.timedelta(days=15), warn_window=dt.timedelta(days=8))
QUARTERLY = dg.FreshnessPolicy.time_window(fail_window=dt.timedelta(days=200), warn_window=dt.timedelta(days=100))


def policy_of(asset: str) -> dg.FreshnessPolicy | None:
    """By the job that makes it; None for a partitioned asset."""
    if asset in PARTITIONED_ASSETS:
        return None
    return NIGHTLY if asset in NIGHTLY_ASSETS else WEEKLY if asset in FULL_NIGHT_ASSETS else QUARTERLY


with warnings.catch_warnings():
    # Dagster prefers policies, which know nothing of partitions.
    warnings.simplefilter("ignore")
    FRESHNESS_CHECKS = list(
        dg.build_last_update_freshness_checks(
            assets=[name for name in ASSET_ORDER if name in PARTITIONED_ASSETS],
            lower_bound_delta=dt.timedelta(days=200),
            severity=dg.AssetCheckSeverity.WARN,
        )
    )
    freshness_sensor = dg.build_sensor_for_freshness_checks(
        freshness_checks=FRESHNESS_CHECKS, minimum_interval_seconds=3600, name="newest_partitions_are_fresh"
    )
