"""A training step and a prediction as captured CUDA graphs: the GPU runs hundreds of kernels from one launch.

The graph begins with the positions of the rows: the batch is gathered and transformed from the panel on the device
inside it, so that nothing but 8 bytes per row crosses the bus.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from k4_pipeline.losses import LossResult
from k4_pipeline.training.device_batches import DeviceBatches
from k4_pipeline.training.optimiser import set_learning_rate
from k4_pipeline.training.source import OnDevice
from k4_pipeline.training.step import TrainStep, autocast

_WARM_UP = 3


def batch_for(batches: OnDevice, positions: Any, precision: str) -> Any:
    """The batch in the form that suits the precision of the products that will read it."""
    if precision == "bf16" and isinstance(batches, DeviceBatches):
        return batches.wide_batch(positions)
    return batches.batch(positions)


class GraphedStep:
    """`TrainStep` on `batch_size` rows of `batches`, captured once and replayed."""

    def __init__(self, step: TrainStep, batches: OnDevice, batch_size: int) -> None:
        """Captures; the weights and the optimiser are afterwards as if nothing had run."""
        self.step, self.batches = step, batches
        self.positions = torch.zeros(batch_size, dtype=torch.int64, device=step.device)
        saved, averaged = copy.deepcopy(step.model.state_dict()), [a.clone() for a in step.average]
        stream = torch.cuda.Stream(step.device)
        stream.wait_stream(torch.cuda.current_stream(step.device))
        with torch.cuda.stream(stream):
            set_learning_rate(step.optimiser, 0.0)
            for _ in range(_WARM_UP):
                self._update()
        torch.cuda.current_stream(step.device).wait_stream(stream)
        step.optimiser.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        # Other processes' collectives are watched by a thread that may call CUDA while this one captures.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.result, self.norm = self._update()
        step.model.load_state_dict(saved)
        step.restart_average(averaged)
        for state in step.optimiser.state.values():
            for value in state.values():
                value.zero_()

    def _update(self) -> tuple[LossResult, Tensor]:
        x, mask, y, weight = batch_for(self.batches, self.positions, self.step.config.precision)
        assert y is not None
        return self.step.update(x, mask, y, weight, self.batches.bar_context(self.positions))

    def __call__(self, rows: np.ndarray | Tensor, learning_rate: float) -> tuple[LossResult, Tensor]:
        """One update on `rows` (batch_size,). The tensors returned are overwritten by the next call."""
        self.positions.copy_(torch.as_tensor(rows), non_blocking=True)
        self.step.set_rates(learning_rate)
        self.graph.replay()
        return self.result, self.norm


class GraphedPrediction:
    """Logits of `batch_size` rows of `batches`, compiled, captured once and replayed."""

    def __init__(self, model: nn.Module, batches: DeviceBatches, batch_size: int, precision: str = "bf16") -> None:
        self.positions = torch.zeros(batch_size, dtype=torch.int64, device=batches.device)
        self.model, self.batches, self.precision = model.eval(), batches, precision
        self.forward = torch.compile(model, dynamic=False)
        stream = torch.cuda.Stream(batches.device)
        stream.wait_stream(torch.cuda.current_stream(batches.device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._logits()
        torch.cuda.current_stream(batches.device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = self._logits()

    def _logits(self) -> Tensor:
        with torch.no_grad(), autocast(self.batches.device, self.precision):
            x, mask, _, _ = batch_for(self.batches, self.positions, self.precision)
            context = self.batches.bar_context(self.positions)
            return self.forward(x, mask, *([] if context is None else [context])).float()

    def __call__(self, rows: np.ndarray | Tensor) -> Tensor:
        """Logits (batch_size, classes) float32 on the device, overwritten by the next call."""
        self.positions.copy_(torch.as_tensor(rows), non_blocking=True)
        self.graph.replay()
        return self.logits
