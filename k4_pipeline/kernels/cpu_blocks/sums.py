"""Gradients of parameters as sums over rows of the batch, the same bits for any number of threads.

The batch is cut into a fixed number of chunks; each adds into arrays of its own, and these are added in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from k4_pipeline._numba import run_chunks
from k4_pipeline.kernels.cpu_blocks.views import scratch

_CHUNKS = 16


class GradientSums:
    """Named arrays to add into, one set per chunk of the batch."""

    def __init__(self, batch: int, **shapes: tuple[int, ...]) -> None:
        self.batch, self.shapes = batch, shapes
        self.rows = -(-batch // _CHUNKS)
        self.bounds = [0]
        for shape in shapes.values():
            self.bounds.append(self.bounds[-1] + math.prod(shape))
        self.parts = scratch(-(-batch // self.rows) * self.bounds[-1]).reshape(-1, self.bounds[-1])

    def _views(self, line: np.ndarray) -> list[np.ndarray]:
        return [line[i:j] for i, j in zip(self.bounds, self.bounds[1:])]

    def run(self, function: Callable[..., Any]) -> None:
        """`function(start, stop, *arrays)` over all rows; the arrays are flat, zero at first, in the order given."""

        def chunk(start: int, stop: int) -> None:
            line = self.parts[start // self.rows]
            line[:] = 0.0
            function(start, stop, *self._views(line))

        run_chunks(chunk, self.batch, self.rows)

    def total(self) -> dict[str, np.ndarray]:
        """The sums over all rows by name, in their shapes."""
        whole = self.parts.sum(axis=0)
        return {name: view.reshape(shape) for (name, shape), view in zip(self.shapes.items(), self._views(whole))}
