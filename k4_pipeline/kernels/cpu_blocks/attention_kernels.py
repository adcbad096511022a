"""The attention block on a CPU, x + dropout(out_proj(attention(qkv(norm(x))))), one sequence at a time.

Only valid bars are computed; padding passes unchanged. For the backward pass the forward pass keeps the packed
projection and the result of the attention. `half` is None for float32 products around the attention, else their factors
are rounded to bfloat16.
"""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.kernels.cpu_blocks.rows import (
    add_columns,
    add_to_residual,
    copy_bars,
    dropout_backward,
    fill_bars,
    normalise,
    normalise_backward,
)
from k4_pipeline.kernels.cpu_blocks.saved_activations import bring_back, place, put_away
from k4_pipeline.kernels.gemm import add_outer, bars_of, dense, room_for, rows_of, sequences_together, terms
from k4_pipeline.kernels.short_attention.cpu_kernels import backward_rows as attention_backward
from k4_pipeline.kernels.short_attention.cpu_kernels import forward_rows as attention_forward
from k4_pipeline.simd.simd_f32 import LANES


@njit
def forward_rows(  # type: ignore[no-untyped-def]
    start, stop, half, length, d_model, heads, scale, hidden, first_valid, norm_weight, norm_bias, eps,
    qkv_weight, qkv_bias, out_weight, out_bias, key, dropped, factor, out, keep, qkv_kept, mixed_kept,
):  # fmt: skip
    """Rows start..stop of out; the kept arrays are written where `keep`. Weights are packed for these products."""
    groups, width = d_model // LANES, 3 * d_model
    normed, branch = np.empty(length * d_model, np.float32), np.empty(length * d_model, np.float32)
    qkv_room, mixed_room = np.empty(length * width, np.float32), np.empty(length * d_model, np.float32)
    room, whole = room_for(length * d_model, half), np.zeros(1, np.int64)
    for row in range(start, stop):
        begin, end = row * length, (row + 1) * length
        first = begin + first_valid[row]
        n, at = end - first, first * d_model
        copy_bars(first - begin, d_model, hidden, begin * d_model, out)
        qkv = place(qkv_room, qkv_kept, first * width, n * width, keep)
        mixed = place(mixed_room, mixed_kept, at, n * d_model, keep)
        normalise(n, d_model, hidden, at, norm_weight, norm_bias, eps, normed)
        fill_bars(n, width, qkv_bias, qkv, 0)
        rows = rows_of(n, d_model, normed, 0, room)
        dense(n, 3 * groups, d_model, rows, d_model, qkv_weight, qkv, 0, width, 1, room)
        attention_forward(0, 1, n, heads, d_model // heads, scale, qkv, whole, mixed)
        put_away(n, width, qkv, qkv_kept, first * width, keep)
        put_away(n, d_model, mixed, mixed_kept, at, keep)
        rows = rows_of(n, d_model, mixed, 0, room)
        dense(n, groups, d_model, rows, d_model, out_weight, branch, 0, d_model, 0, room)
        add_to_residual(n, d_model, hidden, at, branch, out_bias, key, dropped, factor, out)


@njit
def backward_rows(  # type: ignore[no-untyped-def]
    start, stop, half, length, d_model, heads, scale, root, hidden, first_valid, norm_weight, norm_bias, eps,
    qkv_weight, out_weight, key, dropped, factor, dout, qkv_kept, mixed_kept, dhidden,
    dnorm_weight, dnorm_bias, dqkv_weight, dqkv_bias, dout_weight, dout_bias,
):  # fmt: skip
    """dhidden of rows start..stop; the gradients of the parameters are sums over these rows, added to what is there.

    Here the weights are packed as they are (not transposed).
    """
    groups, width = d_model // LANES, 3 * d_model
    normed, dnormed = np.empty(length * d_model, np.float32), np.empty(length * d_model, np.float32)
    dbranch, dmixed = np.empty(length * d_model, np.float32), np.empty(length * d_model, np.float32)
    dqkv = np.empty(length * width, np.float32)
    qkv_room, mixed_room = np.empty(length * width, np.float32), np.empty(length * d_model, np.float32)
    room, whole = room_for(length * width, half), np.zeros(1, np.int64)
    together = sequences_together(half)
    model = together * (length + 1) * d_model
    branch_bars_room, mixed_bars_room, normed_room = room_for(model, half), room_for(model, half), room_for(model, half)
    dqkv_room = room_for(3 * model, half)
    waiting, before = 0, 0
    for row in range(start, stop):
        begin, end = row * length, (row + 1) * length
        first = begin + first_valid[row]
        n, at = end - first, first * d_model
        waiting += 1
        last = waiting == together or row == stop - 1  # of those whose gradients of weights are summed together
        count = before + terms(n, room)
        copy_bars(first - begin, d_model, dout, begin * d_model, dhidden)
        qkv = bring_back(n, width, qkv_kept, first * width, qkv_room)
        mixed = bring_back(n, d_model, mixed_kept, at, mixed_room)
        dropout_backward(n, d_model, dout, at, key, dropped, factor, dbranch)
        add_columns(n, d_model, dbranch, 0, dout_bias)
        rows = rows_of(n, d_model, dbranch, 0, room)
        dense(n, groups, d_model, rows, d_model, out_weight, dmixed, 0, d_model, 0, room)
        branch_bars = bars_of(n, d_model, dbranch, 0, branch_bars_room, before)
        mixed_bars = bars_of(n, d_model, mixed, 0, mixed_bars_room, before)
        attention_backward(0, 1, n, heads, d_model // heads, scale, root, qkv, whole, dmixed, dqkv)
        add_columns(n, width, dqkv, 0, dqkv_bias)
        rows = rows_of(n, width, dqkv, 0, room)
        dense(n, groups, width, rows, width, qkv_weight, dnormed, 0, d_model, 0, room)
        normalise(n, d_model, hidden, at, norm_weight, norm_bias, eps, normed)
        normed_bars = bars_of(n, d_model, normed, 0, normed_room, before)
        dqkv_bars = bars_of(n, width, dqkv, 0, dqkv_room, before)
        normalise_backward(n, d_model, hidden, at, norm_weight, eps, dnormed, dout, dhidden, dnorm_weight, dnorm_bias)
        before = count
        if last:
            add_outer(d_model, groups, count, branch_bars, d_model, mixed_bars, dout_weight)
            add_outer(width, groups, count, dqkv_bars, width, normed_bars, dqkv_weight)
            waiting, before = 0, 0
