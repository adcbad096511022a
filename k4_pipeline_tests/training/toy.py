"""A small in-memory `BatchSource` whose classes can be read off the features, for the tests of this folder."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from k4_pipeline.config import K4, N_FEATURES, SEQUENCE_BARS


class ToySource:
    """Rows kept as tensors. Counts the rows that were asked for, so that a test can say which ones were read."""

    def __init__(self, x: Tensor, mask: Tensor, targets: np.ndarray | None, weights: np.ndarray | None = None) -> None:
        self.x, self.mask, self.targets, self.weights = x, mask, targets, weights
        self.rows_read: set[int] = set()

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, i: np.ndarray) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        self.rows_read.update(int(k) for k in i)
        at = torch.as_tensor(i)
        y = None if self.targets is None else torch.from_numpy(self.targets[i]).long()
        w = None if self.weights is None else torch.from_numpy(self.weights[i]).float()
        return self.x[at], self.mask[at], y, w


def toy_source(
    n: int = 96, seed: int = 0, length: int = SEQUENCE_BARS, k4_share: float = 0.15, signal: float = 1.5
) -> ToySource:
    """Classes with `k4_share` K4; the class shifts one feature of the last five bars by `signal`."""
    rng = np.random.default_rng(seed)
    shares = np.full(6, (1 - k4_share) / 5)
    shares[K4] = k4_share
    targets = rng.choice(6, size=n, p=shares).astype(np.int64)
    x = rng.standard_normal((n, length, N_FEATURES)).astype(np.float32)
    x[np.arange(n)[:, None], np.arange(max(0, length - 5), length)[None, :], targets[:, None]] += signal
    n_valid = rng.integers(1, length + 1, size=n)
    n_valid[: n // 2] = length
    mask = np.arange(length)[None, :] >= length - n_valid[:, None]
    x[~mask] = 0.0
    return ToySource(torch.from_numpy(x), torch.from_numpy(mask), targets)
