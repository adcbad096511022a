"""What a network sees of a sequence: all bars, its last ones, or its bars in another order. For ablations."""

from __future__ import annotations

import torch
from torch import Tensor

_MIX = (12.9898, 78.233, 37.719)  # of the usual one-line hash
_SCALE = 43758.5453


def seen(x: Tensor, mask: Tensor, bars: int, shuffled: bool) -> tuple[Tensor, Tensor]:
    """x (batch, length, features) and mask (batch, length) as the network is to see them.

    `bars`: only the last ones. `shuffled`: the valid bars in an order that follows from nothing but the values of
    the row, the last bar where it was; padding stays in front.
    """
    if bars < x.shape[1]:
        x, mask = x[:, -bars:].contiguous(), mask[:, -bars:].contiguous()
    if not shuffled:
        return x, mask
    values = torch.nan_to_num(x[..., : len(_MIX)].float())
    sums = sum((factor * values[..., i] for i, factor in enumerate(_MIX)), values.new_zeros(()))  # (batch, length)
    key = (torch.sin(sums) * _SCALE).frac().abs().masked_fill(~mask, -1.0)
    key[:, -1] = 2.0
    order = key.argsort(dim=1, stable=True)
    return torch.gather(x, 1, order.unsqueeze(-1).expand_as(x)), mask
