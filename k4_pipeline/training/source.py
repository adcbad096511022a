"""What the training code asks of its data: batches by position, and the targets. Nothing else about where they live.

`sequences.dataset.SequenceDataset` (assembled on the CPU when read) and `training.device_batches.DeviceBatches` (a
panel that stays on the device) both fit.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from k4_pipeline.errors import BadInputError

Batch = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


@runtime_checkable
class BatchSource(Protocol):
    """Rows 0..len-1; row i is one sequence."""

    targets: Any  # (n,) integer classes as array or tensor, or None where the outcome is not known

    def __len__(self) -> int: ...

    def batch(self, i: np.ndarray) -> Batch:
        """x (b, bars, features) float32, mask (b, bars) bool, y (b,) int64 or None, sample weights (b,) or None."""
        ...


@runtime_checkable
class OnDevice(BatchSource, Protocol):
    """A source whose batches live on a device; where it is `fused` a batch is made there from the positions alone."""

    fused: bool

    def bar_context(self, i: Any) -> Tensor | None:
        """The context (b, k) of positions i, on the device."""
        ...


def context_of(source: BatchSource, i: Any) -> Tensor | None:
    """Context (b, k) of the last bars, from a source that has any (`bar_context`); else None."""
    found = getattr(source, "bar_context", None)
    return None if found is None else found(i)


def targets_of(source: BatchSource, what: str) -> np.ndarray:
    """The classes of all rows, (n,) int64; `BadInputError` when there is no row, or a row without a known class."""
    if len(source) == 0:
        raise BadInputError(f"the {what} set is empty; widen its span or lower the pattern criteria")
    if source.targets is None:
        raise BadInputError(f"the {what} set has no targets; rows without a known label cannot be used for training")
    values = source.targets
    targets = np.asarray(values.cpu() if isinstance(values, Tensor) else values).astype(np.int64)
    if len(targets) != len(source) or targets.min() < 0:
        raise BadInputError(
            f"the {what} set has {len(source)} rows and {len(targets)} targets, the lowest {targets.min()}; "
            "every row needs a class from 0 on"
        )
    return targets


def split_evenly(order: np.ndarray, batch_size: int, *, equal: bool = False) -> list[np.ndarray]:
    """`order` (n,) cut into batches of at most `batch_size` rows that differ by one row at most, none left out.

    `equal` (for captured graphs, which need one shape): batches of exactly `batch_size`, up to batch_size - 1 rows of
    this order left out; the next epoch's order leaves out others. With n < batch_size there is one batch of n rows.
    """
    n = len(order)
    if equal and n >= batch_size:
        return [order[i : i + batch_size] for i in range(0, n - batch_size + 1, batch_size)]
    return np.array_split(order, max(1, -(-n // batch_size)))
