"""Puts the code location together: all assets, checks, jobs, schedules and sensors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.execution.retries import RetryMode

from k4_pipeline.defs.assets import ASSETS
from k4_pipeline.defs.checks import CHECKS
from k4_pipeline.defs.freshness import FRESHNESS_CHECKS, freshness_sensor
from k4_pipeline.defs.jobs import JOBS
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.retraining import retrain_when_needed
from k4_pipeline.defs.run_monitor import OneWriterExecutor, run_monitor
from k4_pipeline.defs.schedules import SCHEDULES
from k4_pipeline.defs.sensors import SENSORS

# The links from an asset to its source are beta in Dagster 1.13; what may go wrong is a missing link.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

# Each step has a process of its own (its memory goes back when it ends), forked from one that has imported the rest.
PRELOADED = ["k4_pipeline.definitions", "pandera.pandas"]


@dg.executor(name="one_writer", requirements=multiple_process_executor_requirements())
def one_writer(_: dg.InitExecutorContext) -> OneWriterExecutor:
    """Two steps of a run at once, each in a process of its own; runs beside each other where they write partitions."""
    return OneWriterExecutor(
        retries=RetryMode.ENABLED,
        max_concurrent=2,
        start_method="forkserver",
        explicit_forkserver_preload=PRELOADED,
    )


def build_defs(
    resource_overrides: Mapping[str, Any] | None = None, *, loggers: Mapping[str, dg.LoggerDefinition] | None = None
) -> dg.Definitions:
    """All assets, checks, jobs, schedules and sensors; `resource_overrides` replaces resources by key."""
    return dg.Definitions(
        assets=dg.with_source_code_references(ASSETS),
        asset_checks=[*CHECKS, *FRESHNESS_CHECKS],
        jobs=JOBS,
        schedules=SCHEDULES,
        sensors=[*SENSORS, run_monitor, retrain_when_needed, freshness_sensor],
        resources={"k4": K4Resource(), **(resource_overrides or {})},
        loggers=loggers,
        executor=one_writer,
    )
