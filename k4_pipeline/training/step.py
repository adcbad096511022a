"""One step of training: forward, loss, backward, clipped AdamW update. The loop and the benchmark run the same one."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from k4_pipeline.config import TrainConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.losses import AsymmetricLoss, LossResult
from k4_pipeline.training.optimiser import build_optimiser, set_learning_rate


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """The context of the forward pass: bfloat16 matrix products with float32 weights, or plain float32."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    if precision != "fp32":
        raise ConfigError(f"precision {precision!r} is unknown; use fp32 or bf16")
    return contextlib.nullcontext()


class TrainStep:
    """Owns the optimiser; `__call__` takes one batch and a learning rate and returns the loss and the gradient norm."""

    def __init__(self, model: nn.Module, loss: AsymmetricLoss, config: TrainConfig, *, loss_scale: float = 1.0) -> None:
        """`loss_scale` multiplies the loss before backward(): it sets how the clip of the gradient binds, nothing else
        (AdamW does not see the scale of its gradients)."""
        self.model, self.loss, self.config, self.loss_scale = model, loss, config, loss_scale
        self.device = next(model.parameters()).device
        self.fast = config.compile and self.device.type == "cuda"
        self.forward = torch.compile(model, dynamic=False) if self.fast else model
        self.optimiser = build_optimiser(model, config, capturable=self.fast)
        self.parameters = [p for p in model.parameters() if p.requires_grad]

    def __call__(
        self, x: Tensor, mask: Tensor, y: Tensor, weight: Tensor | None, learning_rate: float
    ) -> tuple[LossResult, Tensor]:
        """One update on x (b, bars, features), mask (b, bars), y (b,), weight (b,) or None."""
        set_learning_rate(self.optimiser, learning_rate)
        return self.update(x, mask, y, weight)

    def update(self, x: Tensor, mask: Tensor, y: Tensor, weight: Tensor | None) -> tuple[LossResult, Tensor]:
        """The step at the rate that is set: what a CUDA graph captures."""
        with autocast(self.device, self.config.precision):
            logits = self.forward(x, mask)
        result = self.loss(logits, y, weight)
        self.optimiser.zero_grad(set_to_none=True)
        (result.loss * self.loss_scale).backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.grad_clip, foreach=True)
        self.optimiser.step()
        return result._replace(loss=result.loss.detach()), norm
