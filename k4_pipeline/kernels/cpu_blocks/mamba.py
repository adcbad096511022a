"""The Mamba block of the `cpu` backend as one differentiable PyTorch function."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from k4_pipeline._numba import run_chunks
from k4_pipeline.kernels.causal_conv.cpu import first_bars, packed_taps, unpacked_taps
from k4_pipeline.kernels.cpu_blocks.draw import Draw
from k4_pipeline.kernels.cpu_blocks.mamba_kernels import Gradients, Saved, Sizes, Weights, backward_rows, forward_rows
from k4_pipeline.kernels.cpu_blocks.saved_activations import space_to_save
from k4_pipeline.kernels.cpu_blocks.sums import GradientSums
from k4_pipeline.kernels.cpu_blocks.views import FORWARD_ROWS, Half, flat, half_products, matrix, scratch
from k4_pipeline.kernels.gemm import pack
from k4_pipeline.kernels.selective_scan.cpu import packed_states, unpacked_states
from k4_pipeline.simd.simd_f32 import LANES
from k4_pipeline.simd.simd_math import LOG2_E

_NAMES = (
    "norm_weight", "norm_bias", "in_weight", "conv_weight", "conv_bias", "small", "dt_weight", "dt_bias", "A_log", "D",
    "out_weight",
)  # fmt: skip


class _MambaBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, keep: bool, half: Half, draw: Draw, eps: float, hidden: Tensor, first_valid: Tensor, *given: Tensor
    ) -> Tensor:
        p = dict(zip(_NAMES, given, strict=True))
        batch, length, d_model = hidden.shape
        d_inner, d_state = p["A_log"].shape
        sizes = Sizes(length, d_model, d_inner, d_state, p["dt_weight"].shape[1])
        small_width = -(-p["small"].shape[0] // LANES) * LANES
        numbers = batch * length if keep else 0
        x_kept, z_kept = (space_to_save(numbers * d_inner, half) for _ in range(2))
        saved = Saved(x_kept, z_kept, scratch(numbers * small_width))
        out = torch.empty(hidden.shape, dtype=torch.float32)
        a = packed_states(torch.from_numpy(-np.exp(p["A_log"].detach().numpy())))
        in_weight = matrix(p["in_weight"])
        weights = Weights(
            flat(p["norm_weight"]), flat(p["norm_bias"]), np.float32(eps),
            pack(in_weight[:d_inner].T, half), pack(in_weight[d_inner:].T, half),
            *packed_taps(p["conv_weight"], p["conv_bias"]), pack(matrix(p["small"]).T, half),
            pack(matrix(p["dt_weight"]).T), flat(p["dt_bias"]), a * LOG2_E, flat(p["D"]),
            pack(matrix(p["out_weight"]).T, half),
        )  # fmt: skip
        operands = (flat(hidden), first_bars(first_valid, batch), np.zeros(d_model, np.float32), draw, flat(out))
        run_chunks(lambda i, j: forward_rows(i, j, half, sizes, weights, *operands, keep, saved), batch, FORWARD_ROWS)
        if keep:
            ctx.save_for_backward(hidden, first_valid, *given)
            ctx.saved = saved
            ctx.half, ctx.draw, ctx.eps, ctx.sizes = half, draw, eps, sizes
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        hidden, first_valid, *given = ctx.saved_tensors
        p = dict(zip(_NAMES, given, strict=True))
        half, sizes = ctx.half, ctx.sizes
        (batch, _, d_model), (d_inner, d_state) = hidden.shape, p["A_log"].shape
        n_small, rank = p["small"].shape[0], p["dt_weight"].shape[1]
        dhidden = torch.empty(hidden.shape, dtype=torch.float32)
        a = packed_states(torch.from_numpy(-np.exp(p["A_log"].detach().numpy())))
        in_weight, dt_weight = matrix(p["in_weight"]), matrix(p["dt_weight"])
        taps, shift = packed_taps(p["conv_weight"], p["conv_bias"])
        weights = Weights(
            flat(p["norm_weight"]), flat(p["norm_bias"]), np.float32(ctx.eps),
            pack(in_weight[:d_inner], half), pack(in_weight[d_inner:], half), taps, shift,
            pack(matrix(p["small"]), half), pack(dt_weight.T), flat(p["dt_bias"]), a * LOG2_E, flat(p["D"]),
            pack(matrix(p["out_weight"]), half),
        )  # fmt: skip
        operands = (
            half, sizes, weights, pack(dt_weight, half), a, flat(hidden), first_bars(first_valid, batch), ctx.draw,
            flat(dout), ctx.saved, flat(dhidden),
        )  # fmt: skip
        sums = GradientSums(
            batch,
            norm_weight=(d_model,), norm_bias=(d_model,), in_x=(d_inner, d_model), in_z=(d_inner, d_model),
            taps=taps.shape, shift=shift.shape, small=(n_small, d_inner), dt_weight=(rank, d_inner),
            dt_bias=(d_inner,), a=a.shape, d=(d_inner,), out_weight=(d_model, d_inner),
        )  # fmt: skip
        sums.run(lambda i, j, *views: backward_rows(i, j, *operands, Gradients(*views)))
        total = sums.total()
        da = unpacked_states(total["a"], d_inner, d_state)
        gradients = [
            total["norm_weight"], total["norm_bias"], np.concatenate([total["in_x"], total["in_z"]]),
            unpacked_taps(total["taps"], *p["conv_weight"].shape), total["shift"], total["small"],
            np.ascontiguousarray(total["dt_weight"].T), total["dt_bias"],
            da * torch.from_numpy(-np.exp(p["A_log"].detach().numpy())), total["d"], total["out_weight"],
        ]  # fmt: skip
        tensors = [g if isinstance(g, Tensor) else torch.from_numpy(g) for g in gradients]
        return (None, None, None, None, dhidden, None, *tensors)


def mamba_block_cpu(hidden: Tensor, first_valid: Tensor, rate: float, eps: float, *parameters: Tensor) -> Tensor:
    """hidden + dropout(mixer(norm(hidden))): hidden (batch, length, d_model) float32, first_valid (batch,).

    `parameters` in the order of `_NAMES`, shapes as in `MambaMixer` (conv_weight (d_inner, width)); `rate` of dropout
    is drawn from torch's global generator.
    """
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (hidden, *parameters))
    return _MambaBlock.apply(keep, half_products(), Draw.at(rate), eps, hidden, first_valid, *parameters)
