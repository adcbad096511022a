"""The attention block of the `cpu` backend as one differentiable PyTorch function."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from k4_pipeline._numba import run_chunks
from k4_pipeline.kernels.cpu_blocks.attention_kernels import (
    Gradients,
    Heads,
    Saved,
    Weights,
    backward_rows,
    forward_rows,
)
from k4_pipeline.kernels.cpu_blocks.draw import Draw
from k4_pipeline.kernels.cpu_blocks.saved_activations import space_to_save
from k4_pipeline.kernels.cpu_blocks.sums import GradientSums
from k4_pipeline.kernels.cpu_blocks.views import FORWARD_ROWS, Half, flat, half_products, matrix
from k4_pipeline.kernels.gemm import pack
from k4_pipeline.kernels.short_attention.cpu import first_bars

_NAMES = Gradients._fields


def _heads(count: int, d_model: int) -> Heads:
    root = (d_model // count) ** -0.5
    return Heads(count, np.float32(root * math.log2(math.e)), np.float32(root))


class _AttentionBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        keep: bool,
        half: Half,
        draw: Draw,
        heads: int,
        eps: float,
        hidden: Tensor,
        first_valid: Tensor,
        *given: Tensor,
    ) -> Tensor:
        p = dict(zip(_NAMES, given, strict=True))
        batch, length, d_model = hidden.shape
        saved = Saved(*(space_to_save(batch * length * width if keep else 0, half) for width in (3 * d_model, d_model)))
        out = torch.empty(hidden.shape, dtype=torch.float32)
        weights = Weights(
            flat(p["norm_weight"]), flat(p["norm_bias"]), np.float32(eps), pack(matrix(p["qkv_weight"]).T, half),
            flat(p["qkv_bias"]), pack(matrix(p["out_weight"]).T, half), flat(p["out_bias"]),
        )  # fmt: skip
        operands = (
            half, length, d_model, _heads(heads, d_model), weights, flat(hidden), first_bars(first_valid, length), draw,
            flat(out), keep, saved,
        )  # fmt: skip
        run_chunks(lambda i, j: forward_rows(i, j, *operands), batch, FORWARD_ROWS)
        if keep:
            ctx.save_for_backward(hidden, first_valid, *given)
            ctx.saved = saved
            ctx.half, ctx.draw, ctx.heads, ctx.eps = half, draw, heads, eps
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        hidden, first_valid, *given = ctx.saved_tensors
        p = dict(zip(_NAMES, given, strict=True))
        batch, length, d_model = hidden.shape
        dhidden = torch.empty(hidden.shape, dtype=torch.float32)
        weights = Weights(
            flat(p["norm_weight"]), flat(p["norm_bias"]), np.float32(ctx.eps), pack(matrix(p["qkv_weight"]), ctx.half),
            flat(p["qkv_bias"]), pack(matrix(p["out_weight"]), ctx.half), flat(p["out_bias"]),
        )  # fmt: skip
        operands = (
            ctx.half, length, d_model, _heads(ctx.heads, d_model), weights, flat(hidden),
            first_bars(first_valid, length), ctx.draw, flat(dout), ctx.saved, flat(dhidden),
        )  # fmt: skip
        sums = GradientSums(batch, **{name: tuple(p[name].shape) for name in _NAMES})
        sums.run(lambda i, j, *views: backward_rows(i, j, *operands, Gradients(*views)))
        total = sums.total()
        return (None, None, None, None, None, dhidden, None, *(torch.from_numpy(total[name]) for name in _NAMES))


def attention_block_cpu(
    hidden: Tensor, first_valid: Tensor, heads: int, rate: float, eps: float, *parameters: Tensor
) -> Tensor:
    """hidden + dropout(out_proj(attention(qkv(norm(hidden))))): hidden (batch, length, d_model) float32.

    first_valid: (batch,). `parameters` in the order of `_NAMES`, shapes as in `MaskedSelfAttention`; `rate` of dropout
    is drawn from torch's global generator.
    """
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (hidden, *parameters))
    return _AttentionBlock.apply(keep, half_products(), Draw.at(rate), heads, eps, hidden, first_valid, *parameters)
