"""The same computation for several as-of dates at once: each in a process of its own with its share of the cores.

What is large is mapped, not copied. Where there are GPUs the processes are dealt to them in turn.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from k4_pipeline._numba import n_threads
from k4_pipeline.pipeline.stages import PipelineRun

_held: dict[str, Any] = {}
_MAPPED = ("panel", "context")  # written once and mapped by every process
_THREADS = ("K4_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # read when libraries load
_GPUS = "CUDA_VISIBLE_DEVICES"


def gpus_to_use(device: str) -> list[str]:
    """The GPUs that processes are dealt to, as `CUDA_VISIBLE_DEVICES` names them; none where a CPU is used."""
    import torch

    if device not in ("auto", "cuda"):
        return []
    given = [g for g in os.environ.get(_GPUS, "").split(",") if g]
    return given or [str(i) for i in range(torch.cuda.device_count())]


def each(
    function: Callable[..., Any], path: PipelineRun, tasks: Sequence[tuple[Any, ...]], workers: int = 0
) -> Iterator[Any]:
    """`function(path, *task)` of every task, in their order; `function` is one of a module, its results can be sent.

    `workers` 0: as many as there are cores and tasks. With one worker everything is computed in this process.
    """
    cores = n_threads()
    workers = min(workers or cores, len(tasks), cores)
    if workers < 2:
        for task in tasks:
            yield function(path, *task)
        return
    threads = max(1, cores // workers)
    with tempfile.TemporaryDirectory(prefix="k4-side-by-side-") as folder:
        files = {}
        for name in _MAPPED:
            if isinstance(getattr(path, name), np.ndarray):
                files[name] = str(Path(folder) / f"{name}.npy")
                np.save(files[name], getattr(path, name))
        mapped: dict[str, Any] = {name: np.empty(0, np.float32) for name in files}
        light = dataclasses.replace(path, **mapped, _cache={})
        context = multiprocessing.get_context("spawn")
        handed = (light, files, threads, context.Value("i", 0), gpus_to_use(path.config.training.device))
        with (
            _environment(dict.fromkeys(_THREADS, str(threads))),
            ProcessPoolExecutor(workers, context, initializer=_start, initargs=handed) as pool,
        ):
            for job in [pool.submit(_in_process, function, task) for task in tasks]:
                yield job.result()


def _start(path: PipelineRun, files: dict[str, str], threads: int, turn: Any, gpus: Sequence[str]) -> None:
    import torch

    torch.set_num_threads(threads)
    with turn.get_lock():
        number = turn.value
        turn.value += 1
    if gpus:
        os.environ[_GPUS] = gpus[number % len(gpus)]  # before CUDA is first used in this process
    _held["path"] = dataclasses.replace(path, **{k: np.load(f, mmap_mode="r") for k, f in files.items()})


def _in_process(function: Callable[..., Any], task: tuple[Any, ...]) -> Any:
    return function(_held["path"], *task)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
