"""Batches of model inputs as torch tensors, assembled from the panel when they are read.

Nothing is cached: a batch costs less than the model's forward pass, and memory does not grow with the number of
sequences. The panel may be memory-mapped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from k4_pipeline.config import N_CLASSES, N_FEATURES, SEQUENCE_BARS
from k4_pipeline.errors import BadInputError
from k4_pipeline.sequences.assemble import SequenceIndex
from k4_pipeline.sequences.model_inputs import assemble_inputs
from k4_pipeline.sequences.standardisation import Scaler


class Batch(NamedTuple):
    """x (b, 50, 69) float32, mask (b, 50) bool, y (b,) int64 or None, w (b,) float32 (ones without weights)."""

    x: torch.Tensor
    mask: torch.Tensor
    y: torch.Tensor | None
    w: torch.Tensor


class SequenceDataset:
    """Some rows of a sequence index, with targets and weights in the same order.

    `rows` (n,) positions in the index; `targets` (n,) classes 0..5 or None; `weights` (n,) positive or None; `context`
    (n, k) or None. Positions passed to `batch` count in `rows`. Raises `BadInputError` when lengths differ or a target
    is no class.
    """

    def __init__(
        self,
        panel_values: np.ndarray,
        index: SequenceIndex,
        rows: np.ndarray,
        scaler: Scaler,
        targets: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        context: np.ndarray | None = None,
    ) -> None:
        self.context_values = None if context is None else np.ascontiguousarray(context, dtype=np.float32)
        self.panel_values = panel_values
        self.index = index
        self.rows = np.ascontiguousarray(rows, dtype=np.int64)
        self.scaler = scaler
        self.targets = None if targets is None else np.array(targets, dtype=np.int64)
        self.weights = np.ones(self.n, np.float32) if weights is None else np.array(weights, dtype=np.float32)
        for name, values in (("targets", self.targets), ("weights", self.weights)):
            if values is not None and values.shape != (self.n,):
                raise BadInputError(f"{name} have shape {values.shape}; expected one per row, ({self.n},)")
        if self.targets is not None and self.n and not (0 <= self.targets.min() <= self.targets.max() < N_CLASSES):
            raise BadInputError(f"targets run from {self.targets.min()} to {self.targets.max()}; classes are 0..5")
        if not (np.isfinite(self.weights).all() and (self.weights > 0).all()):
            raise BadInputError("a weight is not a positive finite number; make the split again")

    def __len__(self) -> int:
        return self.n

    @property
    def n(self) -> int:
        """Number of sequences."""
        return len(self.rows)

    def bar_context(self, positions: np.ndarray) -> torch.Tensor | None:
        """The context (b, k) float32 of the last bar of the sequences at `positions` (b,), NaN where not available."""
        if self.context_values is None:
            return None
        return torch.from_numpy(self.context_values[np.asarray(positions, dtype=np.int64)])

    def batch(self, positions: np.ndarray, out: Batch | None = None) -> Batch:
        """The sequences at `positions` (b,) of `rows`, in that order.

        With `out`, an earlier batch of the same size, its x and mask are overwritten and reused.
        """
        positions = np.asarray(positions, dtype=np.int64)
        if len(positions) and (positions.min() < 0 or positions.max() >= self.n):
            raise BadInputError(f"positions run from {positions.min()} to {positions.max()} of {self.n}")
        if out is None or len(out.x) != len(positions):
            x = torch.empty((len(positions), SEQUENCE_BARS, N_FEATURES), dtype=torch.float32)
            mask = torch.empty((len(positions), SEQUENCE_BARS), dtype=torch.bool)
        else:
            x, mask = out.x, out.mask
        assemble_inputs(self.panel_values, self.index, self.rows[positions], self.scaler, x.numpy(), mask.numpy())
        y = None if self.targets is None else torch.from_numpy(self.targets[positions])
        return Batch(x, mask, y, torch.from_numpy(self.weights[positions]))

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        reuse_buffers: bool = False,
    ) -> Iterator[Batch]:
        """All sequences once, in order or shuffled by `seed` (the same seed gives the same order on every machine).

        With `reuse_buffers` every batch is written into the same memory: it is only valid until the next one is asked
        for. Use it where each batch is consumed at once, not to collect batches.
        """
        if batch_size < 1:
            raise BadInputError(f"batch_size is {batch_size}; it must be at least 1")
        order = np.random.default_rng(seed).permutation(self.n) if shuffle else np.arange(self.n)
        stop = self.n - self.n % batch_size if drop_last else self.n
        buffer: Batch | None = None
        for start in range(0, stop, batch_size):
            made = self.batch(order[start : min(start + batch_size, stop)], buffer)
            if reuse_buffers:
                buffer = made
            yield made
