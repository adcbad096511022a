"""The causal depthwise convolution in plain PyTorch: the frozen reference."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def causal_conv_naive(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, first_valid: Tensor | None = None, activation: bool = True
) -> Tensor:
    """y_t = silu(bias + sum_k weight[:, k] x_{t - width + 1 + k}), with x = 0 before the first valid bar.

    x: (batch, length, channels); weight: (channels, width); bias: (channels,); first_valid: (batch,) integers, the
    first bar of each row that is not padding (default 0). y is 0 before it. Without `activation` no silu is applied.

    Source: the short convolution of Mamba (Gu and Dao 2023), `causal_conv1d_ref` in causal-conv1d.
    """
    length, width = x.shape[1], weight.shape[1]
    valid = None
    if first_valid is not None:
        valid = torch.arange(length, device=x.device) >= first_valid[:, None].to(x.device)  # (batch, length)
        x = torch.where(valid[:, :, None], x, torch.zeros((), dtype=x.dtype, device=x.device))
    padded = F.pad(x, (0, 0, width - 1, 0))  # (batch, length + width - 1, channels)
    y = padded[:, width - 1 :] * weight[:, width - 1]
    for k in range(width - 1):
        y = y + padded[:, k : k + length] * weight[:, k]
    if bias is not None:
        y = y + bias
    if activation:
        y = F.silu(y)
    if valid is not None:
        y = torch.where(valid[:, :, None], y, torch.zeros((), dtype=y.dtype, device=y.device))
    return y.to(x.dtype)
