"""The checks of an audit of stored artifacts on the cores of a Ray cluster; every node must see the home folder.

The seal is that of the local engine. A Ray worker has sockets, threads and shared memory and is no place for a proof:
it only starts a fresh interpreter of one thread, not connected to the cluster, which verifies and loads the artifacts
itself and forks a sealed process for each of its checks (`isolated.run_isolated`). A part whose worker or node dies is
asked again.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from typing import Any

from k4_pipeline.config.execution import ExecutionConfig
from k4_pipeline.leakage.engine.audit import AuditReport, load_checks
from k4_pipeline.leakage.engine.isolated import ContextSource, end_with_parent, groups, lost, run_isolated
from k4_pipeline.pipeline.sharded.engine import cluster, run_tasks
from k4_pipeline.progress import Progress


def _ask(source: ContextSource, names: list[str], options: dict[str, Any]) -> AuditReport:
    end_with_parent()
    return run_isolated(source, names, **options)


def _part(source: ContextSource, names: list[str], options: dict[str, Any]) -> AuditReport:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_ask, source, names, options).result()
        except BrokenProcessPool:
            return AuditReport([lost(name, "the process of its part of the audit died") for name in names], {})


def run_on_ray(
    source: ContextSource,
    execution: ExecutionConfig,
    names: Sequence[str] | None = None,
    *,
    budget_s: float | None = None,
    stop_at_failure: bool = False,
    progress: Progress | None = None,
) -> AuditReport:
    """`run_isolated` with the checks dealt out to as many tasks as the cluster has cores, one check at a time in each.

    `stop_at_failure` ends a task at its own first failure. Progress counts tasks.
    """
    wanted = list(load_checks()) if names is None else list(names)
    dealt = groups(wanted)
    with cluster(execution) as ray:
        count = min(len(dealt), int(ray.cluster_resources()["CPU"]))
        parts = [list(chain.from_iterable(dealt[i::count])) for i in range(count)]
        options = {"budget_s": budget_s, "stop_at_failure": stop_at_failure}
        reports = run_tasks(execution, _part, [(source, part, options) for part in parts], progress)
    report = AuditReport([], {})
    for part in reports:
        report.verdicts += part.verdicts
        report.seconds |= part.seconds
        report.not_applicable |= part.not_applicable
        report.not_proved |= part.not_proved
    order = {name: i for i, name in enumerate(wanted)}
    report.verdicts.sort(key=lambda v: order.get(v.name, -1))
    return report
