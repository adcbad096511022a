"""The attention block on a CPU, x + dropout(out_proj(attention(qkv(norm(x))))), one sequence at a time.

Only valid bars are computed; padding passes unchanged. For the backward pass the forward pass keeps the packed
projection and the result of the attention. `half` is None for float32 products around the attention, else their factors
are rounded to bfloat16.
"""

from __future__ import annotations

from typing import NamedTuple

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
from k4_pipeline.kernels.gemm import add_outer, bars_of, dense, rows_of, scratch_for, sequences_together, terms
from k4_pipeline.kernels.short_attention.cpu_kernels import (
    backward_rows as attention_backward,
    forward_rows as attention_forward,
)
from k4_pipeline.simd.simd_f32 import LANES


class Heads(NamedTuple):
    """How many heads; the factor of their products is `root`, and `scale` in powers of two."""

    n: int
    scale: np.float32
    root: np.float32


class Weights(NamedTuple):
    """The parameters, flat; matrices are packed for the products of the pass."""

    norm_weight: np.ndarray
    norm_bias: np.ndarray
    eps: np.float32
    qkv_weight: np.ndarray
    qkv_bias: np.ndarray
    out_weight: np.ndarray
    out_bias: np.ndarray


class Saved(NamedTuple):
    """What the forward pass keeps: the packed projection, and the result of the attention."""

    qkv: np.ndarray
    mixed: np.ndarray


class Gradients(NamedTuple):
    """Gradients of the parameters, flat."""

    norm_weight: np.ndarray
    norm_bias: np.ndarray
    qkv_weight: np.ndarray
    qkv_bias: np.ndarray
    out_weight: np.ndarray
    out_bias: np.ndarray


@njit
def forward_rows(  # type: ignore[no-untyped-def]
    start, stop, half, length, d_model, heads, weights, hidden, first_valid, draw, out, keep, saved
):
    """Rows start..stop of out; the saved arrays are written where `keep`."""
    norm_weight, norm_bias, eps, qkv_weight, qkv_bias, out_weight, out_bias = weights
    qkv_kept, mixed_kept = saved
    groups, width = d_model // LANES, 3 * d_model
    normed, branch = np.empty(length * d_model, np.float32), np.empty(length * d_model, np.float32)
    qkv_scratch, mixed_scratch = np.empty(length * width, np.float32), np.empty(length * d_model, np.float32)
    scratch, whole = scratch_for(length * d_model, half), np.zeros(1, np.int64)
    for row in range(start, stop):
        begin, end = row * length, (row + 1) * length
        first = begin + first_valid[row]
        n, at = end - first, first * d_model
        copy_bars(first - begin, d_model, hidden, begin * d_model, out)
        qkv = place(qkv_scratch, qkv_kept, first * width, n * width, keep)
        mixed = place(mixed_scratch, mixed_kept, at, n * d_model, keep)
        normalise(n, d_model, hidden, at, norm_weight, norm_bias, eps, normed)
        fill_bars(n, width, qkv_bias, qkv, 0)
        rows = rows_of(n, d_model, normed, 0, scratch)
        dense(n, 3 * groups, d_model, rows, d_model, qkv_weight, qkv, 0, width, 1, scratch)
        attention_forward(0, 1, n, heads.n, d_model // heads.n, heads.scale, qkv, whole, mixed)
        put_away(n, width, qkv, qkv_kept, first * width, keep)
        put_away(n, d_model, mixed, mixed_kept, at, keep)
        rows = rows_of(n, d_model, mixed, 0, scratch)
        dense(n, groups, d_model, rows, d_model, out_weight, branch, 0, d_model, 0, scratch)
        add_to_residual(n, d_model, hidden, at, branch, out_bias, draw.key, draw.dropped, draw.factor, out)


@njit
def backward_rows(  # type: ignore[no-untyped-def]
    start, stop, half, length, d_model, heads, weights, hidden, first_valid, draw, dout, saved, dhidden, gradients
):
    """dhidden of rows start..stop; the gradients of the parameters are sums over these rows, added to what is there.

    Here the weights are packed as they are (not transposed).
    """
    norm_weight, norm_bias, eps, qkv_weight, _, out_weight, _ = weights
    qkv_kept, mixed_kept = saved
    head_width = d_model // heads.n
    groups, width = d_model // LANES, 3 * d_model
    normed, dnormed = np.empty(length * d_model, np.float32), np.empty(length * d_model, np.float32)
    dbranch, dmixed = np.empty(length * d_model, np.float32), np.empty(length * d_model, np.float32)
    dqkv = np.empty(length * width, np.float32)
    qkv_scratch, mixed_scratch = np.empty(length * width, np.float32), np.empty(length * d_model, np.float32)
    scratch, whole = scratch_for(length * width, half), np.zeros(1, np.int64)
    together = sequences_together(half)
    model = together * (length + 1) * d_model
    branch_bars_scratch, mixed_bars_scratch, normed_scratch = (
        scratch_for(model, half),
        scratch_for(model, half),
        scratch_for(model, half),
    )
    dqkv_scratch = scratch_for(3 * model, half)
    waiting, before = 0, 0
    for row in range(start, stop):
        begin, end = row * length, (row + 1) * length
        first = begin + first_valid[row]
        n, at = end - first, first * d_model
        waiting += 1
        last = waiting == together or row == stop - 1  # of those whose gradients of weights are summed together
        count = before + terms(n, scratch)
        copy_bars(first - begin, d_model, dout, begin * d_model, dhidden)
        qkv = bring_back(n, width, qkv_kept, first * width, qkv_scratch)
        mixed = bring_back(n, d_model, mixed_kept, at, mixed_scratch)
        dropout_backward(n, d_model, dout, at, draw.key, draw.dropped, draw.factor, dbranch)
        add_columns(n, d_model, dbranch, 0, gradients.out_bias)
        rows = rows_of(n, d_model, dbranch, 0, scratch)
        dense(n, groups, d_model, rows, d_model, out_weight, dmixed, 0, d_model, 0, scratch)
        branch_bars = bars_of(n, d_model, dbranch, 0, branch_bars_scratch, before)
        mixed_bars = bars_of(n, d_model, mixed, 0, mixed_bars_scratch, before)
        attention_backward(0, 1, n, heads.n, head_width, heads.scale, heads.root, qkv, whole, dmixed, dqkv)
        add_columns(n, width, dqkv, 0, gradients.qkv_bias)
        rows = rows_of(n, width, dqkv, 0, scratch)
        dense(n, groups, width, rows, width, qkv_weight, dnormed, 0, d_model, 0, scratch)
        normalise(n, d_model, hidden, at, norm_weight, norm_bias, eps, normed)
        normed_bars = bars_of(n, d_model, normed, 0, normed_scratch, before)
        dqkv_bars = bars_of(n, width, dqkv, 0, dqkv_scratch, before)
        normalise_backward(
            n, d_model, hidden, at, norm_weight, eps, dnormed, dout, dhidden, gradients.norm_weight,
            gradients.norm_bias,
        )  # fmt: skip
        before = count
        if last:
            add_outer(d_model, groups, count, branch_bars, d_model, mixed_bars, gradients.out_weight)
            add_outer(width, groups, count, dqkv_bars, width, normed_bars, gradients.qkv_weight)
            waiting, before = 0, 0
