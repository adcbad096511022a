"""What lies between the two outer projections of a Mamba block: convolution, inner projections, scan.

`mixer_core_naive` composes the public operators and is the reference. On CUDA one operator holds all of it, so that its
backward writes every gradient once, where the next product reads it: no joining of halves, no adding of two gradients.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from k4_pipeline.errors import BadInputError
from k4_pipeline.kernels.causal_conv import causal_conv
from k4_pipeline.kernels.selective_scan import selective_scan

__all__ = ["mixer_core_fits", "mixer_core_naive"]


def mixer_core_naive(
    xz: Tensor,
    first_valid: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    x_proj: Tensor,
    dt_proj: Tensor,
    A: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    *,
    backend: str = "naive",
) -> Tensor:
    """y (batch, length, d_inner) of xz (batch, length, 2 d_inner), the input projection with x and z side by side.

    first_valid: (batch,) integers, the first bar that is not padding; conv_weight: (d_inner, width); x_proj: (dt_rank +
    2 d_state, d_inner); dt_proj: (d_inner, dt_rank); A: (d_inner, d_state); the rest (d_inner,). Formulas and sources:
    `causal_conv_naive` and `selective_scan_naive`.
    """
    rank, d_state = dt_proj.shape[1], A.shape[1]
    if xz.shape[-1] != 2 * A.shape[0] or x_proj.shape != (rank + 2 * d_state, A.shape[0]):
        raise BadInputError(f"xz {tuple(xz.shape)} and x_proj {tuple(x_proj.shape)} do not fit A {tuple(A.shape)}")
    x, z = xz.chunk(2, dim=-1)
    u = causal_conv(x, conv_weight, conv_bias, first_valid=first_valid, backend=backend)
    dt, B, C = F.linear(u, x_proj).split([rank, d_state, d_state], dim=-1)
    return selective_scan(u, F.linear(dt, dt_proj), A, B, C, D, z=z, dt_bias=dt_bias, backend=backend)


def mixer_core_fits(xz: Tensor, conv_weight: Tensor, d_state: int) -> bool:
    """Whether the fused operator takes these operands: a type and sizes for which the kernels it is made of exist."""
    return (
        xz.dtype in (torch.float32, torch.bfloat16)
        and conv_weight.shape[1] <= 4
        and d_state <= 64
        and d_state & (d_state - 1) == 0
    )
