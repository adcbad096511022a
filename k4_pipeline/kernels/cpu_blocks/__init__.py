"""Whole blocks of the model for the `cpu` backend: norm, products, scan or attention, dropout and residual in one pass.

On a CPU the separate operations of a block move each activation through memory once or twice and wake all threads for
every one of them. Here a thread takes a few sequences through the whole block while they lie in its cache.
Every block has the same meaning as the modules in `models`, which stay the definition and run everywhere else.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from k4_pipeline.kernels.selective_scan.dispatch import choose_backend

__all__ = ["attention_fits", "mamba_fits", "rate", "takes"]

_LANES = 16  # of the kernels, which are imported only when they run


def mamba_fits(d_model: int, d_inner: int, d_state: int, d_conv: int) -> bool:
    """Whether there is a fused Mamba block of these sizes."""
    return d_model % _LANES == 0 and d_inner % _LANES == 0 and d_state % 4 == 0 and d_conv <= 4


def attention_fits(d_model: int, heads: int) -> bool:
    """Whether there is a fused attention block of these sizes."""
    return d_model % heads == 0 and (d_model // heads) % _LANES == 0


def rate(dropout: nn.Dropout) -> float:
    """The share that is dropped in the present mode."""
    return dropout.p if dropout.training else 0.0


def takes(x: Tensor, backend: str, module: nn.Module) -> bool:
    """Whether the fused blocks may compute `module` on x (batch, length, channels).

    float32 on the CPU, nothing traced, no empty dimension, backend `cpu` (asked for or chosen). Under autocast to
    bfloat16 the factors of the products are rounded where the processor has an instruction for it, and nothing else.
    """
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.numel() > 0
        and (not torch.is_autocast_enabled("cpu") or torch.get_autocast_dtype("cpu") == torch.bfloat16)
        and choose_backend(x.device, "auto" if backend == "mamba_ssm" else backend) == "cpu"
        and all(not isinstance(m, nn.Dropout) or rate(m) < 1.0 for m in module.modules())
        and all(p.dtype == torch.float32 and p.device.type == "cpu" for p in module.parameters())
    )
