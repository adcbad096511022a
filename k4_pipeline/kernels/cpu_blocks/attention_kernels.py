"""The attention block on a CPU, x + dropout(out_proj(attention(qkv(norm(x))))), a few sequences at a time.

For the backward pass the forward pass keeps the packed projection and the result of the attention.
"""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.kernels.cpu_blocks.rows import (
    add_columns,
    add_to_residual,
    dropout_backward,
    fill_bars,
    normalise,
    normalise_backward,
)
from k4_pipeline.kernels.products import multiply
from k4_pipeline.kernels.short_attention.cpu_kernels import backward_rows as attention_backward
from k4_pipeline.kernels.short_attention.cpu_kernels import forward_rows as attention_forward
from k4_pipeline.kernels.simd import LANES


@njit
def forward_rows(  # type: ignore[no-untyped-def]
    start, stop, together, length, d_model, heads, scale, hidden, first_valid, norm_weight, norm_bias, eps,
    qkv_weight, qkv_bias, out_weight, out_bias, key, dropped, factor, out, keep, qkv_kept, mixed_kept,
):  # fmt: skip
    """Rows start..stop of out; the kept arrays are written where `keep`. Weights are packed for these products."""
    bars, groups = together * length, d_model // LANES
    normed, branch = np.empty(bars * d_model, np.float32), np.empty(bars * d_model, np.float32)
    qkv, mixed = np.empty(bars * 3 * d_model, np.float32), np.empty(bars * d_model, np.float32)
    for row in range(start, stop, together):
        rows = min(together, stop - row)
        n, first = rows * length, row * length
        if keep:
            qkv = qkv_kept[3 * first * d_model : 3 * (first + n) * d_model]
            mixed = mixed_kept[first * d_model : (first + n) * d_model]
        normalise(n, d_model, hidden, first * d_model, norm_weight, norm_bias, eps, normed)
        fill_bars(n, 3 * d_model, qkv_bias, qkv, 0)
        multiply(n, 3 * groups, d_model, normed, 0, d_model, 1, qkv_weight, 0, 0, qkv, 0, 3 * d_model, 1)
        attention_forward(0, rows, length, heads, d_model // heads, scale, qkv, first_valid[row:], mixed)
        multiply(n, groups, d_model, mixed, 0, d_model, 1, out_weight, 0, 0, branch, 0, d_model, 0)
        add_to_residual(n, d_model, hidden, first * d_model, branch, out_bias, key, dropped, factor, out)


@njit
def backward_rows(  # type: ignore[no-untyped-def]
    start, stop, together, length, d_model, heads, scale, root, hidden, first_valid, norm_weight, norm_bias, eps,
    qkv_weight, out_weight, key, dropped, factor, dout, qkv_kept, mixed_kept, dhidden,
    dnorm_weight, dnorm_bias, dqkv_weight, dqkv_bias, dout_weight, dout_bias,
):  # fmt: skip
    """dhidden of rows start..stop; the gradients of the parameters are sums over these rows, added to what is there.

    Here the weights are packed as they are (not transposed).
    """
    bars, groups = together * length, d_model // LANES
    normed, dnormed = np.empty(bars * d_model, np.float32), np.empty(bars * d_model, np.float32)
    dbranch, dmixed = np.empty(bars * d_model, np.float32), np.empty(bars * d_model, np.float32)
    dqkv = np.empty(bars * 3 * d_model, np.float32)
    for row in range(start, stop, together):
        rows = min(together, stop - row)
        n, first = rows * length, row * length
        qkv = qkv_kept[3 * first * d_model : 3 * (first + n) * d_model]
        mixed = mixed_kept[first * d_model : (first + n) * d_model]
        dropout_backward(n, d_model, dout, first * d_model, key, dropped, factor, dbranch)
        add_columns(n, d_model, dbranch, 0, dout_bias)
        multiply(n, groups, d_model, dbranch, 0, d_model, 1, out_weight, 0, 0, dmixed, 0, d_model, 0)
        multiply(d_model, groups, n, dbranch, 0, 1, d_model, mixed, 0, d_model, dout_weight, 0, d_model, 1)
        attention_backward(
            0, rows, length, heads, d_model // heads, scale, root, qkv, first_valid[row:], dmixed, dqkv
        )  # fmt: skip
        add_columns(n, 3 * d_model, dqkv, 0, dqkv_bias)
        normalise(n, d_model, hidden, first * d_model, norm_weight, norm_bias, eps, normed)
        multiply(n, groups, 3 * d_model, dqkv, 0, 3 * d_model, 1, qkv_weight, 0, 0, dnormed, 0, d_model, 0)
        multiply(3 * d_model, groups, n, dqkv, 0, 1, 3 * d_model, normed, 0, d_model, dqkv_weight, 0, d_model, 1)
        normalise_backward(
            n, d_model, hidden, first * d_model, norm_weight, eps, dnormed, dout, dhidden, dnorm_weight, dnorm_bias
        )
