"""One seed for everything random in training, and no trace of it outside.

cuDNN is switched off while a model is trained and while it predicts. Only an LSTM would use it, and torch's own layer
can be captured as a graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

from k4_pipeline.errors import ConfigError


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside, torch's generators (CPU and `device`) start at `seed`; afterwards they are as they were before.

    On the CPU, with the same number of threads, the same seed gives the same bits. On CUDA the atomics of some backward
    kernels leave differences in the last bits.
    """
    device = torch.device(device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the rows in one epoch, int64 (n,): a permutation that depends on (n, seed, epoch) alone."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def resolve_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA when there is one, else the CPU. A missing CUDA is a `ConfigError`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} was asked for, but torch {torch.__version__} sees no CUDA device; use cpu")
    return device
