"""The selective scan in plain PyTorch: the frozen reference every other backend is compared with.

Readable before fast. Nothing here is tuned; a change of this file is a change of the definition.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def selective_scan_naive(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = True,
) -> Tensor:
    """y_t = (C_t . h_t + D u_t) * silu(z_t) with h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t and h_0 = 0.

    u, dt, z: (batch, length, d_inner); A: (d_inner, d_state), negative; B, C: (batch, length, d_state);
    D, dt_bias: (d_inner,). dt is softplus(dt + dt_bias) when `dt_softplus`. Computes in the promoted dtype of the
    inputs, at least float32 (float64 in: float64 throughout), and returns y in the dtype of `u`.

    Source: Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", algorithm 2, with the
    discretisation of `selective_scan_ref` in mamba-ssm (exact for A, Euler for B).
    """
    dtype = torch.float32
    for tensor in (u, dt, A, B, C, D, z, dt_bias):
        if tensor is not None:
            dtype = torch.promote_types(dtype, tensor.dtype)

    x, delta, a, b, c = (tensor.to(dtype) for tensor in (u, dt, A, B, C))
    if dt_bias is not None:
        delta = delta + dt_bias.to(dtype)
    if dt_softplus:
        delta = F.softplus(delta)

    batch, length, d_inner = u.shape
    state = x.new_zeros(batch, d_inner, A.shape[1])  # (batch, d_inner, d_state)
    outputs = []
    for t in range(length):
        decay = torch.exp(delta[:, t, :, None] * a)  # (batch, d_inner, d_state)
        drive = (delta[:, t] * x[:, t])[:, :, None] * b[:, t, None, :]  # (batch, d_inner, d_state)
        state = decay * state + drive
        outputs.append((state * c[:, t, None, :]).sum(-1))  # (batch, d_inner)
    y = torch.stack(outputs, dim=1) if outputs else torch.zeros_like(x)  # (batch, length, d_inner)
    if D is not None:
        y = y + x * D.to(dtype)
    if z is not None:
        y = y * F.silu(z.to(dtype))
    return y.to(u.dtype)
