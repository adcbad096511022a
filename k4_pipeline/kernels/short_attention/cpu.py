"""The `cpu` backend of short attention: the numba kernels as a differentiable PyTorch function.

Rows are independent, so results depend neither on the number of threads nor on the rest of the batch.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from k4_pipeline._numba import run_chunks
from k4_pipeline.kernels.short_attention.cpu_kernels import W, backward_rows, forward_rows

_ROWS = 8  # rows per chunk


def fits(qkv: Tensor) -> bool:
    """Whether the kernels take this operand: float32, a head width that fills whole lane groups."""
    return qkv.dtype == torch.float32 and qkv.shape[4] % W == 0


def _flat(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().view(-1).numpy()


def first_bars(first_valid: Tensor, length: int) -> np.ndarray:
    """(batch,) int64, each below `length`."""
    # The kernels do not check bounds; without a valid bar the softmax would be empty.
    return first_valid.detach().to(torch.int64).clamp(0, length - 1).contiguous().numpy()


class _ShortAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, first_valid: Tensor) -> Tensor:
        batch, length, _, heads, width = qkv.shape
        out = torch.empty((batch, length, heads * width), dtype=torch.float32)
        scale = np.float32(width**-0.5 * math.log2(math.e))
        operands = (_flat(qkv), first_bars(first_valid, length), out.view(-1).numpy())
        run_chunks(lambda a, b: forward_rows(a, b, length, heads, width, scale, *operands), batch, _ROWS)
        ctx.save_for_backward(qkv, first_valid)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        qkv, first_valid = ctx.saved_tensors
        batch, length, _, heads, width = qkv.shape
        gradient = torch.empty(qkv.shape, dtype=torch.float32)
        root = width**-0.5
        factors = (np.float32(root * math.log2(math.e)), np.float32(root))
        operands = (_flat(qkv), first_bars(first_valid, length), _flat(dout), gradient.view(-1).numpy())
        run_chunks(lambda a, b: backward_rows(a, b, length, heads, width, *factors, *operands), batch, _ROWS)
        return gradient, None


def short_attention_cpu(qkv: Tensor, first_valid: Tensor) -> Tensor:
    """`short_attention_naive` on CPU tensors that fit (see `fits`)."""
    return _ShortAttention.apply(qkv, first_valid)
