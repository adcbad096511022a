"""The input layer and the pooled norm of the `cpu` backend as differentiable PyTorch functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from k4_pipeline._numba import run_chunks
from k4_pipeline.kernels.cpu_blocks.input_and_pooling_kernels import (
    input_backward,
    input_rows,
    pool_backward,
    pool_rows,
)
from k4_pipeline.kernels.cpu_blocks.sums import GradientSums
from k4_pipeline.kernels.cpu_blocks.views import FORWARD_ROWS, Half, flat, half_products, matrix
from k4_pipeline.kernels.gemm import pack
from k4_pipeline.kernels.short_attention.cpu import first_bars


class _MaskedInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, half: Half, x: Tensor, first_valid: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        batch, length, n_features = x.shape
        y = torch.empty((batch, length, len(weight)), dtype=torch.float32)
        operands = (flat(x), first_bars(first_valid, length), pack(matrix(weight).T, half), flat(bias), flat(y))
        sizes = (length, n_features, len(weight))
        run_chunks(lambda i, j: input_rows(i, j, half, *sizes, *operands), batch, FORWARD_ROWS)
        ctx.save_for_backward(x, first_valid, weight)
        ctx.half = half
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, first_valid, weight = ctx.saved_tensors
        batch, length, n_features = x.shape
        dx = None
        if ctx.needs_input_grad[1]:
            valid = torch.arange(length) >= first_valid[:, None]  # (batch, length)
            dx = (dy @ weight).masked_fill(~valid.unsqueeze(-1), 0.0)
        sums = GradientSums(batch, weight=(n_features, len(weight)), bias=(len(weight),))
        operands = (flat(x), first_bars(first_valid, length), flat(dy))
        sizes = (length, n_features, len(weight))
        sums.run(lambda i, j, *views: input_backward(i, j, ctx.half, *sizes, *operands, *views))
        total = sums.total()
        dweight = torch.from_numpy(np.ascontiguousarray(total["weight"].T))
        return None, dx, None, dweight, torch.from_numpy(total["bias"])


class _PooledNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, eps: float, hidden: Tensor, first_valid: Tensor, *given: Tensor) -> Tensor:
        batch, length, d_model = hidden.shape
        pooled = torch.empty((batch, d_model), dtype=torch.float32)
        weight, bias, *shares = (flat(tensor) for tensor in given)
        operands = (flat(hidden), first_bars(first_valid, length), weight, bias, np.float32(eps), *shares, flat(pooled))
        run_chunks(lambda i, j: pool_rows(i, j, length, d_model, *operands), batch, FORWARD_ROWS)
        ctx.save_for_backward(hidden, first_valid, *given)
        ctx.eps = eps
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dpooled: Tensor) -> tuple[Tensor | None, ...]:
        hidden, first_valid, *given = ctx.saved_tensors
        batch, length, d_model = hidden.shape
        dhidden = torch.empty(hidden.shape, dtype=torch.float32)
        weight, bias, *shares = (flat(tensor) for tensor in given)
        operands = (
            flat(hidden), first_bars(first_valid, length), weight, bias, np.float32(ctx.eps), *shares, flat(dpooled),
            flat(dhidden),
        )  # fmt: skip
        sums = GradientSums(batch, **{name: (d_model,) for name in ("weight", "bias", "mean_share", "last_share")})
        sums.run(lambda i, j, *views: pool_backward(i, j, length, d_model, *operands, *views))
        return None, dhidden, None, *(torch.from_numpy(g) for g in sums.total().values())


def masked_input_cpu(x: Tensor, first_valid: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x with padding as zero, times weight' plus bias: (batch, length, features) -> (batch, length, d_model)."""
    return _MaskedInput.apply(half_products(), x, first_valid, weight, bias)


def pooled_norm_cpu(hidden: Tensor, first_valid: Tensor, eps: float, *parameters: Tensor) -> Tensor:
    """`MaskedPool` of the LayerNorm of hidden (batch, length, d_model) float32 -> (batch, d_model).

    `parameters`: weight and bias of the norm, then mean_share and last_share, (d_model,) each.
    """
    return _PooledNorm.apply(eps, hidden, first_valid, *parameters)
