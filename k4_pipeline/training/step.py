"""One step of training: forward, loss, backward, clipped AdamW update. The loop and the benchmark run the same one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from k4_pipeline.config import TrainConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.losses import AsymmetricLoss, LossResult
from k4_pipeline.training import parallel
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
        parallel.start_equal(model)
        self.device = next(model.parameters()).device
        # On a GPU the step can be captured as a graph: the optimiser keeps its rate on the device.
        # cuDNN's recurrent layers that are not compiled stay out of it: capturing them is not tested.
        recurrent = torch.backends.cudnn.enabled and any(isinstance(module, nn.RNNBase) for module in model.modules())
        self.fast = self.device.type == "cuda" and (config.compile or not recurrent)
        self.forward = torch.compile(model, dynamic=False) if self.fast and config.compile else model
        self.optimiser = build_optimiser(model, config, capturable=self.fast)
        self.parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        # Exponential average of the weights: decay rises to its limit as (1 + t) / (10 + t), t the updates so far.
        self.average = [p.detach().clone() for p in self.parameters] if config.ema_decay else []
        self.average_share = torch.zeros((), device=self.device)  # what the next update counts in the average
        self.updates = 0

    def __call__(
        self,
        x: Tensor,
        mask: Tensor,
        y: Tensor,
        weight: Tensor | None,
        learning_rate: float,
        context: Tensor | None = None,
    ) -> tuple[LossResult, Tensor]:
        """One update on x (b, bars, features), mask (b, bars), y (b,), weight (b,) or None, context (b, k) or None.

        Where several processes train together, each passes its own rows of the batch; the result is the whole batch's.
        """
        self.set_rates(learning_rate)
        return self.update(x, mask, y, weight, context)

    def set_rates(self, learning_rate: float) -> None:
        """Before every update: the learning rate, and the share of the coming weights in their average."""
        set_learning_rate(self.optimiser, learning_rate)
        self.average_share.fill_(1.0 - min(self.config.ema_decay, (1.0 + self.updates) / (10.0 + self.updates)))
        self.updates += 1

    @torch.no_grad()
    def restart_average(self, values: list[Tensor]) -> None:
        """Set the average, in place: a captured graph reads its addresses."""
        for mine, value in zip(self.average, values):
            mine.copy_(value)

    def kept_weights(self) -> dict[str, Tensor]:
        """A copy of the state of the model, with the averaged weights where there is an average."""
        state = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        if self.average:
            names = [name for name, p in self.model.named_parameters() if p.requires_grad]
            state |= {name: value.clone() for name, value in zip(names, self.average)}
        return state

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model has the averaged weights."""
        if not self.average:
            yield
            return
        own = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            for p, mean in zip(self.parameters, self.average):
                p.copy_(mean)
        try:
            yield
        finally:
            with torch.no_grad():
                for p, value in zip(self.parameters, own):
                    p.copy_(value)

    def update(
        self, x: Tensor, mask: Tensor, y: Tensor, weight: Tensor | None, context: Tensor | None = None
    ) -> tuple[LossResult, Tensor]:
        """The step at the rate that is set: what a CUDA graph captures."""
        rows_weight: Tensor | float = float(len(y)) if weight is None else weight.sum()
        with autocast(self.device, self.config.precision):
            logits = self.forward(x, mask, *([] if context is None else [context]))
        if logits.dim() == 3:  # (batch, members, classes): the mean of the members' losses
            members = logits.shape[1]
            logits, y = logits.flatten(0, 1), y.repeat_interleave(members)
            weight = None if weight is None else weight.repeat_interleave(members)
        result = self.loss(logits, y, weight)
        self.optimiser.zero_grad(set_to_none=True)
        (result.loss * self.loss_scale).backward()
        result = parallel.reduce_step(self.parameters, result, rows_weight)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.grad_clip, foreach=True)
        self.optimiser.step()
        if self.average:
            with torch.no_grad():
                change = torch._foreach_sub(self.parameters, self.average)
                torch._foreach_mul_(change, self.average_share)
                torch._foreach_add_(self.average, change)
        return result._replace(loss=result.loss.detach()), norm
