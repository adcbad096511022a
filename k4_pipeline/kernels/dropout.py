"""Dropout that draws a quarter of the random numbers on the CPU.

torch draws one 64-bit step of its (serial) generator per element there; at one element in four random bytes the
generator stops being a visible part of a training step. The rate is met to 1 / 65536, and the scale is that of the rate
in fact used, so the expectation is exact. Elsewhere it is `torch.nn.Dropout` as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEVELS = 1 << 16
_LOWEST = -(1 << 15)


def keep_mask(shape: torch.Size, rate: float) -> Tensor:
    """float32 of `shape`: 0 with probability `rate`, else 1 / (1 - rate); from torch's global CPU generator."""
    dropped = round(rate * _LEVELS)
    n = shape.numel()
    words = torch.empty(-(-n // 4), dtype=torch.int64).random_(-(1 << 63), None)
    bits = words.view(torch.int16)[:n].view(shape)
    return (bits >= _LOWEST + dropped).to(torch.float32).mul_(_LEVELS / (_LEVELS - dropped))


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with `keep_mask` on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling() or not 0.0 < self.p < 1.0:
            return super().forward(x)
        return x * keep_mask(x.shape, self.p).to(x.dtype)
