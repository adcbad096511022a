"""Ray tasks over shards: results in the order of the items, progress as they finish, lost tasks run again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from k4_pipeline.config.execution import ExecutionConfig
from k4_pipeline.errors import ConfigError

Progress = Callable[[int, int], None] | None
RETRIES = 5  # of a task whose worker or node died


@contextmanager
def cluster(execution: ExecutionConfig) -> Iterator[Any]:
    """The module `ray`, connected: to what this process is connected to already, to `address`, or to a new cluster."""
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "execution.engine=ray needs the package ray: pip install 'k4-pipeline[ray]', or use execution.engine=local"
        ) from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    mine = not ray.is_initialized()
    if mine:
        try:
            ray.init(address=execution.address or "local", include_dashboard=False, log_to_driver=False)
        except ConnectionError as problem:
            raise ConfigError(f"no Ray cluster answers at execution.address={execution.address}: {problem}") from None
    try:
        yield ray
    finally:
        if mine:
            ray.shutdown()


def task_threads() -> int | None:
    """Threads of a task: one on Ray, where the tasks take the cores; all (None) where they run one after another."""
    ray = sys.modules.get("ray")
    return 1 if ray is not None and ray.is_initialized() and ray.get_runtime_context().get_task_id() else None


def run_tasks(
    execution: ExecutionConfig, task: Callable[..., Any], items: Sequence[tuple[Any, ...]], progress: Progress = None
) -> list[Any]:
    """`[task(*item) for item in items]`, with Ray as tasks spread over the nodes; an error of a task is raised here."""
    if execution.engine == "local":
        made = []
        for item in items:
            made.append(task(*item))
            if progress is not None:
                progress(len(made), len(items))
        return made
    with cluster(execution) as ray:
        remote = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(task)
        pending = [remote.remote(*item) for item in items]
        todo, done = list(pending), 0
        while todo:
            ready, todo = ray.wait(todo, num_returns=1)
            ray.get(ready)
            done += len(ready)
            if progress is not None:
                progress(done, len(items))
        return ray.get(pending)
