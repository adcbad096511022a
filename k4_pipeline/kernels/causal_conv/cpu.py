"""The `cpu` backend of the causal convolution: the numba kernels as a differentiable PyTorch function.

Sums over rows run in a fixed order, whatever the number of threads. float64 goes to the naive version.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from k4_pipeline._numba import run_chunks
from k4_pipeline.kernels.causal_conv.cpu_kernels import TAPS, W, backward_rows, forward_rows
from k4_pipeline.kernels.causal_conv.naive import causal_conv_naive
from k4_pipeline.kernels.flat_views import flat_view
from k4_pipeline.simd.simd_f32 import narrow

_ROWS = 16  # rows per chunk


def packed_taps(weight: Tensor, bias: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
    """Filters (channels, width) and bias as the kernels read them: (4, padded channels) flat and (padded channels,)."""
    channels, width = weight.shape
    padded = -(-channels // W) * W
    values = np.zeros((TAPS, padded), np.float32)
    values[TAPS - width :, :channels] = weight.detach().float().t().numpy()
    shift = np.zeros(padded, np.float32)
    if bias is not None:
        shift[:channels] = bias.detach().float().numpy()
    return values.reshape(-1), shift


def first_bars(first_valid: Tensor | None, batch: int) -> np.ndarray:
    """(batch,) int64, zeros for None."""
    if first_valid is None:
        return np.zeros(batch, np.int64)
    return first_valid.detach().to(torch.int64).contiguous().numpy()


def unpacked_taps(packed: np.ndarray, channels: int, width: int) -> Tensor:
    """The inverse of `packed_taps` for the filters."""
    return torch.from_numpy(packed).view(TAPS, -1)[TAPS - width :, :channels].t().contiguous()


class _CausalConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Any, first_valid: Any, activation: bool) -> Tensor:
        y = torch.empty(x.shape, dtype=torch.float32)
        packed, first = packed_taps(weight, bias), first_bars(first_valid, x.shape[0])
        view, out = flat_view(x), y.view(-1).numpy()
        run_chunks(
            lambda a, b: forward_rows(
                a, b, x.shape[1], x.shape[2], narrow(x.shape[2]), activation, *view, *packed, first, out, None
            ),
            x.shape[0],
            _ROWS,
        )
        ctx.save_for_backward(x, weight, bias, first_valid)
        ctx.activation = activation
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, first_valid = ctx.saved_tensors
        batch, length, channels = x.shape
        width = weight.shape[1]
        packed, first = packed_taps(weight, bias), first_bars(first_valid, batch)
        dx = torch.empty(x.shape, dtype=torch.float32)
        view, upstream, out = flat_view(x), flat_view(dy), dx.view(-1).numpy()

        def rows(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            sums = np.zeros_like(packed[0]), np.zeros_like(packed[1])
            backward_rows(
                start, stop, length, channels, narrow(channels), ctx.activation, *view, *packed, first, None, *upstream,
                out, *sums,
            )  # fmt: skip
            return sums

        parts = run_chunks(rows, batch, _ROWS)
        dweight, dbias = np.zeros_like(packed[0]), np.zeros_like(packed[1])
        for part in parts:
            dweight += part[0]
            dbias += part[1]
        taps = unpacked_taps(dweight, channels, width)
        shift = torch.from_numpy(dbias)[:channels].to(bias.dtype) if bias is not None else None
        return dx.to(x.dtype), taps.to(weight.dtype), shift, None, None


def causal_conv_cpu(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, first_valid: Tensor | None = None, activation: bool = True
) -> Tensor:
    """`causal_conv_naive` on CPU tensors; bf16 and fp32 inputs, float32 inside; at most four taps."""
    if x.dtype == torch.float64 or weight.dtype == torch.float64 or weight.shape[1] > TAPS:
        return causal_conv_naive(x, weight, bias, first_valid, activation)
    return _CausalConv.apply(x, weight, bias, first_valid, activation)
