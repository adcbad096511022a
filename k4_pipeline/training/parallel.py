"""Several processes that share every batch (data parallel, as `torch.nn.parallel.DistributedDataParallel`).

Each process holds the whole model and takes every n-th row of a batch; gradients and sums are those of the whole batch,
by one all-reduce a step, so the loss curve is that of one process at the same batch size (to rounding; dropout draws
other numbers). One flat tensor instead of torch's wrapper: it is captured in the graph of a step, it carries the
weights of the rows with it, and the weights keep their names. Without a process group everything is as for one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from k4_pipeline.errors import ConfigError
from k4_pipeline.losses import LossResult
from k4_pipeline.training.source import Batch, BatchSource


def size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Of this process; 0 writes the files."""
    return dist.get_rank() if size() > 1 else 0


def is_first() -> bool:
    """Whether this process is alone or the first of those that `torchrun` started, in a process group yet or not."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def process_group() -> Iterator[None]:
    """Inside, the processes that `torchrun` started (WORLD_SIZE) train together: NCCL with a GPU each, else gloo."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or size() > 1:
        yield
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"process {local} of this machine finds {torch.cuda.device_count()} GPUs; start as many processes "
                "as there are GPUs (training.processes), or set training.device=cpu"
            )
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def mine(rows: np.ndarray) -> np.ndarray:
    """This process's rows of a batch (n,); `ConfigError` when there are fewer rows than processes."""
    if len(rows) < size():
        raise ConfigError(f"a batch of {len(rows)} rows cannot be shared by {size()} processes; lower their number")
    return rows[rank() :: size()]


def reseed(seed: int, epoch: int) -> None:
    """Other dropout in every process, the same in every run; process 0 draws as a process alone does."""
    if rank():
        torch.manual_seed((seed * 1_000_003 + epoch) * 1_009 + rank())


@torch.no_grad()
def start_equal(model: nn.Module) -> None:
    """Give every process the weights of process 0."""
    if size() > 1:
        for value in model.state_dict().values():
            dist.broadcast(value, 0)


@torch.no_grad()
def reduce_step(parameters: Sequence[Tensor], result: LossResult, weight: Tensor | float) -> LossResult:
    """Gradients and result of the whole batch, from those of this process's rows, whose weights sum to `weight`."""
    if size() == 1:
        return result
    used = [p for p in parameters if p.grad is not None]
    first = used[0]
    sums = torch.stack(
        [
            result.loss.detach() * weight,
            torch.nan_to_num(result.k4_loss) * result.k4_count,
            result.k4_count.to(first.dtype),
            torch.nan_to_num(result.k4_accuracy) * result.k4_count,
            torch.ones((), dtype=first.dtype, device=first.device) * weight,  # no copy from the host, to be captured
        ]
    )
    flat = torch.cat([*(p.grad.flatten() * weight for p in used), sums])  # type: ignore[union-attr]
    dist.all_reduce(flat)
    loss, k4_loss, count, found, total = flat[-5:].unbind()
    gradients = (flat[:-5] / total).split([p.numel() for p in used])
    for p, gradient in zip(used, gradients, strict=True):
        p.grad.copy_(gradient.view_as(p))  # type: ignore[union-attr]
    return LossResult(loss / total, k4_loss / count, count, found / count)


class Part:
    """This process's rows of a source, for predictions that the processes share."""

    def __init__(self, source: BatchSource) -> None:
        self.source, self.rows, self.targets = source, np.arange(rank(), len(source), size()), None

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, i: np.ndarray) -> Batch:
        """Of the source, without classes."""
        x, mask, _, _ = self.source.batch(self.rows[i])
        return x, mask, None, None

    def bar_context(self, i: Any) -> Tensor | None:
        """Of the source."""
        found = getattr(self.source, "bar_context", None)
        return None if found is None else found(self.rows[i])


def gathered(values: Tensor, n: int, device: torch.device) -> Tensor:
    """The values (n, k) of all rows on the CPU, from those of each process's `Part`."""
    whole = torch.zeros(n, values.shape[-1], dtype=values.dtype, device=device)
    whole[rank() :: size()] = values.to(device)
    dist.all_reduce(whole)
    return whole.cpu()


def agreed(number: int, device: torch.device) -> bool:
    """Whether every process has the same number."""
    if size() == 1:
        return True
    pair = torch.tensor([number, -number], device=device)
    dist.all_reduce(pair, op=dist.ReduceOp.MAX)
    return int(pair[0]) == -int(pair[1])
