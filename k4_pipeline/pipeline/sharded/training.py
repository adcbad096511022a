"""A training as a Ray Train job: `training.processes` workers that share every batch, wherever the cluster has room.

The job folder travels through `execution.store` where one is named, else all nodes must see its path. A lost node costs
the epochs since the last kept state, or, where the state lies on that node alone, the whole fit; nothing else.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from k4_pipeline.config import PipelineConfig
from k4_pipeline.errors import K4Error
from k4_pipeline.pipeline import job as folders
from k4_pipeline.pipeline.sharded.engine import cluster
from k4_pipeline.pipeline.sharded.store import ShardStore
from k4_pipeline.progress import Progress
from k4_pipeline.training import parallel

RETRIES = 3
POLL_SECONDS = 0.5


class RayTrainingError(K4Error):
    """The training on the cluster ended without a result."""


def _send(store: ShardStore, folder: Path, name: str) -> None:
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        store.put_file(f"{name}/{path.name}", path)


def _fetch(store: ShardStore, name: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in store.names(name):
        store.get_file(f"{name}/{file}", folder / file)


def _work(given: dict[str, Any]) -> None:
    """One worker; Ray has joined all of them in a process group."""
    torch.set_num_threads(given["threads"])  # the bits of a training on the processor depend on it
    said = [-1.0]

    def progress(done: int, total: int) -> None:
        if done / max(total, 1) - said[0] >= 0.01 or done == total:
            said[0] = done / max(total, 1)
            given["told"].tell.remote(done, total)

    report = None if parallel.rank() else progress
    if not given["store"]:
        folders.run_job(Path(given["job"]), Path(given["out"]), unfinished=Path(given["state"]), progress=report)
        return
    store = ShardStore(given["store"])
    with tempfile.TemporaryDirectory() as place:
        job, out = Path(place, "job"), Path(place, "result")
        _fetch(store, "job", job)
        folders.run_job(job, out, unfinished=Path(place, "state"), progress=report)
        if not parallel.rank():
            _send(store, out, "result")


class _Told:
    """How far the first worker is."""

    def __init__(self) -> None:
        self.last = (0, 1)

    def tell(self, done: int, total: int) -> None:
        self.last = (done, total)

    def look(self) -> tuple[int, int]:
        return self.last


@contextmanager
def _shown(ray: Any, told: Any, progress: Progress) -> Iterator[None]:
    end = threading.Event()

    def look() -> None:
        while not end.wait(POLL_SECONDS):
            progress(*ray.get(told.look.remote()))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def train_on_ray(config: PipelineConfig, job: Path, out: Path, state: Path, progress: Progress) -> None:
    """Run the job folder `job` on the cluster of `config.execution`; the result lies in `out` afterwards.

    Raises `RayTrainingError` with what the workers said.
    """
    execution = config.execution
    url = f"{execution.store.rstrip('/')}/training/{job.parent.name}" if execution.store else ""
    if url:
        ShardStore(url).remove("result")
        _send(ShardStore(url), job, "job")
    with cluster(execution) as ray:
        from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.torch import TorchConfig, TorchTrainer

        gpu = bool(ray.cluster_resources().get("GPU"))
        told = ray.remote(num_cpus=0)(_Told).remote()
        given = {"job": str(job), "out": str(out), "state": str(state), "store": url, "told": told}
        with tempfile.TemporaryDirectory() as place, _shown(ray, told, progress):
            trainer = TorchTrainer(
                _work,
                train_loop_config={**given, "threads": torch.get_num_threads()},
                torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
                scaling_config=ScalingConfig(num_workers=config.training.processes, use_gpu=gpu),
                run_config=RunConfig(storage_path=place, failure_config=FailureConfig(max_failures=RETRIES)),
            )
            try:
                trainer.fit()
            except TrainingFailedError as problem:
                raise RayTrainingError(f"the training on Ray failed: {problem}") from None
    if url:
        _fetch(ShardStore(url), "result", out)
        ShardStore(url).remove("job")
        ShardStore(url).remove("result")
