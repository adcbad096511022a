"""AdamW with the reference's weight-decay groups, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from k4_pipeline.config import TrainConfig

# Parameters that are no matrices of weights: mamba_simple.py marks A_log and D with `_no_weight_decay`; biases, norms
# and the pooling shares follow the usual practice (nanoGPT: decay only for dim >= 2).
NO_DECAY_NAMES = ("A_log", "D")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices, decayed; everything else, not."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.dim() >= 2 and name.rsplit(".", 1)[-1] not in NO_DECAY_NAMES
        (decayed if is_matrix else kept).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def build_optimiser(model: nn.Module, config: TrainConfig, *, capturable: bool = False) -> torch.optim.AdamW:
    """AdamW, betas 0.9 and 0.999, one fused update. `capturable`: the rate is a tensor, for a captured CUDA graph."""
    rate: Any = config.learning_rate
    if capturable:
        rate = torch.tensor(config.learning_rate, device=next(model.parameters()).device)
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay), lr=rate, betas=(0.9, 0.999), fused=True, capturable=capturable
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of all groups, in place where it is a tensor."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)  # its address is what a captured graph reads
        else:
            group["lr"] = rate


def learning_rate_at(step: int, total_steps: int, peak: float, warmup_frac: float) -> float:
    """Rate of 0-based `step`: linear warm-up over `warmup_frac` of all steps, then half a cosine towards 0."""
    warmup = max(1, round(warmup_frac * total_steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    return peak * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
