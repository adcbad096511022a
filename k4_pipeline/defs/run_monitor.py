"""Runs started by Dagster: who writes beside whom, a sign of life while they live, and an end for the killed ones.

Dagster's own run monitoring cannot ask the default launcher whether a run's process still lives; a killed run would
stay STARTED and hold its place in the queue. Every run here holds a lock while its process lives (storage/writer_lock),
so whoever gets that lock knows that the run is dead.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.executor.multiprocess import MultiprocessExecutor

from k4_pipeline.defs.confine import confine_home
from k4_pipeline.defs.graph import PARTITIONED_ASSETS
from k4_pipeline.defs.market_homes import SEPARATOR, homes_written
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.run_facts import PARTITION_TAG
from k4_pipeline.settings import home_dir
from k4_pipeline.storage.remote_home import RemoteHome
from k4_pipeline.storage.writer_lock import Owner, forget_life, is_dead, sharing, show_life, writing

INTERVAL_S = 30
AGE_CHECK = "freshness_check"  # Dagster names the steps of defs/freshness.py so
IN_PROGRESS = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def fail_dead_runs(instance: dg.DagsterInstance, home: Path) -> list[str]:
    """End every run in progress whose process is gone, free its slots, and return their ids."""
    ended, alive = [], set()
    for record in instance.get_run_records(dg.RunsFilter(statuses=IN_PROGRESS)):
        run_id = record.dagster_run.run_id
        if not is_dead(home, run_id):
            alive.add(run_id)
            continue
        run = instance.get_run_by_id(run_id)  # it may have ended between the two looks
        if run is None or run.is_finished:
            continue
        if run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message="The run was being cancelled when its process ended.")
        else:
            instance.report_run_failed(
                run,
                message="The process of this run was killed (kill -9, out of memory or a power cut). What it had "
                "finished is stored whole; start it again, a training goes on after its last epoch.",
            )
        if instance.event_log_storage.supports_global_concurrency_limits:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)
        ended.append(run_id)
    forget_life(home, alive)
    return ended


@dg.sensor(
    name="run_monitor",
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Marks a run whose process was killed as failed and frees its slot.",
)
def run_monitor(context: dg.SensorEvaluationContext, k4: K4Resource) -> dg.SkipReason:
    """One look."""
    ended = fail_dead_runs(context.instance, k4.settings().home)
    return dg.SkipReason(f"ended as killed: {', '.join(ended)}" if ended else "no run was killed")


class OneWriterExecutor(MultiprocessExecutor):
    """Each step in a process of its own, while this run is the one writer of its home; else it waits in line.

    Runs that write one partition alone (those of a backfill) share a home, one for each partition: none of them writes
    what another reads.
    """

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """The events of the run, in order."""
        run = plan_context.dagster_run
        home = home_of(run.run_config)
        confine_home(home)
        # Held until the process ends: the run is marked as ended only after its executor.
        show_life(home, run.run_id)
        owner = Owner.this_process(f"Dagster run of {run.job_name}", run.run_id)
        others: list[Owner] = []
        with contextlib.ExitStack() as held:
            steps, partition = execution_plan.step_keys_to_execute, run.tags.get(PARTITION_TAG, "")
            for place in homes_written(steps, home):
                waiting = functools.partial(_say, plan_context, others=others)
                alone = bool(partition) and all(writes_partitions_alone(step) for step in steps)
                if alone and RemoteHome.of(place) is None:
                    held.enter_context(sharing(place, owner, partition, waiting=waiting))
                else:
                    held.enter_context(writing(place, owner, wait=True, waiting=waiting))
            yield from super().execute(plan_context, execution_plan)


def _say(plan_context: Any, other: Owner, others: list[Owner]) -> None:
    others.append(other)
    plan_context.log.info(f"waiting until {other.in_words()} has ended: it writes what this run reads, or the reverse")


def writes_partitions_alone(step: str) -> bool:
    """Whether a step makes or checks a partition, or looks how old one is; in whichever market."""
    name = step.rpartition(SEPARATOR)[2]
    return name.removesuffix("_checks") in PARTITIONED_ASSETS or name.startswith(AGE_CHECK)


def home_of(run_config: Any) -> Path:
    """The home folder a run works in."""
    given = run_config.get("resources", {}).get("k4", {}).get("config", {}) if isinstance(run_config, dict) else {}
    return Path(given["home"]) if given.get("home") else home_dir()
