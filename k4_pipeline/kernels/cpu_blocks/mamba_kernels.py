"""A whole Mamba block on a CPU, x + dropout(mixer(norm(x))): one sequence at a time, all of it in the cache.

Composed from the kernels of its parts (products, convolution, scan) on buffers of one thread; only valid bars are
computed, padding passes unchanged. For the backward pass the forward pass keeps the two halves of the input projection
and the small projection; the rest is computed again.

`half` is None for float32 products, else their factors are rounded to bfloat16; the projection to dt, which is small
and feeds an exponential, is float32 always.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.kernels.causal_conv.cpu_kernels import backward_rows as conv_backward, forward_rows as conv_forward
from k4_pipeline.kernels.cpu_blocks.rows import (
    add_to_residual,
    copy_bars,
    dropout_backward,
    normalise,
    normalise_backward,
)
from k4_pipeline.kernels.cpu_blocks.saved_activations import bring_back, place, put_away
from k4_pipeline.kernels.gemm import (
    add_outer,
    bars_of,
    dense,
    multiply,
    rows_of,
    scratch_for,
    sequences_together,
    terms,
)
from k4_pipeline.kernels.selective_scan import cpu_kernels as scan
from k4_pipeline.kernels.selective_scan.cpu_kernels import backward_rows as scan_backward, forward_rows as scan_forward
from k4_pipeline.simd.simd_f32 import LANES

_PLAIN_SCAN = scan.Mode(None, None, True, True)


class Sizes(NamedTuple):
    """Sizes of the block; `rank` is that of the projection to dt."""

    length: int
    d_model: int
    d_inner: int
    d_state: int
    rank: int


class Weights(NamedTuple):
    """The parameters, flat; matrices are packed for the products of the pass, taps and shift for the convolution."""

    norm_weight: np.ndarray
    norm_bias: np.ndarray
    eps: np.float32
    in_x: np.ndarray
    in_z: np.ndarray
    taps: np.ndarray
    shift: np.ndarray
    small: np.ndarray
    dt_weight: np.ndarray
    dt_bias: np.ndarray
    a2: np.ndarray
    d: np.ndarray
    out_weight: np.ndarray


class Saved(NamedTuple):
    """What the forward pass keeps: both halves of the input projection, and the small one."""

    x: np.ndarray
    z: np.ndarray
    small: np.ndarray


class Gradients(NamedTuple):
    """Gradients of the parameters, flat; that of the projection to dt is transposed, (rank, d_inner)."""

    norm_weight: np.ndarray
    norm_bias: np.ndarray
    in_x: np.ndarray
    in_z: np.ndarray
    taps: np.ndarray
    shift: np.ndarray
    small: np.ndarray
    dt_weight: np.ndarray
    dt_bias: np.ndarray
    a: np.ndarray
    d: np.ndarray
    out_weight: np.ndarray


@njit
def _floats(size):  # type: ignore[no-untyped-def]
    return np.empty(size, np.float32)


@njit
def forward_rows(  # type: ignore[no-untyped-def]
    start, stop, half, sizes, weights, hidden, first_valid, zeros, draw, out, keep, saved
):
    """Rows start..stop of out; the saved arrays are written where `keep`."""
    length, d_model, d_inner, d_state, rank = sizes
    norm_weight, norm_bias, eps, in_x, in_z, taps, shift, small, dt_weight, dt_bias, a2, d, out_weight = weights
    x_kept, z_kept, small_kept = saved
    groups, groups_model = d_inner // LANES, d_model // LANES
    small_width = (rank + 2 * d_state + LANES - 1) // LANES * LANES
    wide, narrow = (length * d_inner, d_inner), (length * small_width, small_width)
    normed, branch = _floats(length * d_model), _floats(length * d_model)
    u, dt, y = _floats(length * d_inner), _floats(length * d_inner), _floats(length * d_inner)
    x_scratch, z_scratch, parts = _floats(length * d_inner), _floats(length * d_inner), _floats(length * small_width)
    scratch, whole = scratch_for(length * d_inner, half), np.zeros(1, np.int64)
    for row in range(start, stop):
        begin, end = row * length, (row + 1) * length
        first = min(begin + first_valid[row], end)
        n, at = end - first, first * d_model
        copy_bars(first - begin, d_model, hidden, begin * d_model, out)
        x = place(x_scratch, x_kept, first * d_inner, n * d_inner, keep)
        z = place(z_scratch, z_kept, first * d_inner, n * d_inner, keep)
        if keep:
            parts = small_kept[first * small_width : end * small_width]
        normalise(n, d_model, hidden, at, norm_weight, norm_bias, eps, normed)
        rows = rows_of(n, d_model, normed, 0, scratch)
        dense(n, groups, d_model, rows, d_model, in_x, x, 0, d_inner, 0, scratch)
        dense(n, groups, d_model, rows, d_model, in_z, z, 0, d_inner, 0, scratch)
        put_away(n, d_inner, x, x_kept, first * d_inner, keep)
        put_away(n, d_inner, z, z_kept, first * d_inner, keep)
        conv_forward(0, 1, n, d_inner, None, True, x, wide, taps, shift, whole, u, None)
        rows = rows_of(n, d_inner, u, 0, scratch)
        dense(n, small_width // LANES, d_inner, rows, d_inner, small, parts, 0, small_width, 0, scratch)
        multiply(n, groups, rank, parts, 0, small_width, 1, dt_weight, 0, 0, dt, 0, d_inner, 0)
        inputs = scan.Inputs(
            (u, wide), (dt, wide), (z, wide), (parts[rank:], narrow), (parts[rank + d_state :], narrow)
        )
        scan_forward(0, 1, scan.Sizes(n, d_inner, d_state), _PLAIN_SCAN, inputs, scan.Weights(a2, d, dt_bias), y)
        rows = rows_of(n, d_inner, y, 0, scratch)
        dense(n, groups_model, d_inner, rows, d_inner, out_weight, branch, 0, d_model, 0, scratch)
        add_to_residual(n, d_model, hidden, at, branch, zeros, draw.key, draw.dropped, draw.factor, out)


@njit
def backward_rows(  # type: ignore[no-untyped-def]
    start, stop, half, sizes, weights, dt_back, a, hidden, first_valid, draw, dout, saved, dhidden, gradients
):
    """dhidden of rows start..stop; the gradients of the parameters are sums over these rows, added to what is there.

    Here in_x, in_z, small, dt_back and out_weight are packed as they are (not transposed), dt_weight transposed.
    """
    length, d_model, d_inner, d_state, rank = sizes
    norm_weight, norm_bias, eps, in_x, in_z, taps, shift, small, dt_weight, dt_bias, a2, d, out_weight = weights
    x_kept, z_kept, small_kept = saved
    sums = scan.Sums(gradients.a, gradients.d, gradients.dt_bias)
    groups, groups_model = d_inner // LANES, d_model // LANES
    n_small = rank + 2 * d_state
    small_width = (n_small + LANES - 1) // LANES * LANES
    rank_width = (rank + LANES - 1) // LANES * LANES
    wide, narrow = (length * d_inner, d_inner), (length * small_width, small_width)
    normed, dnormed, dbranch = _floats(length * d_model), _floats(length * d_model), _floats(length * d_model)
    u, dt, dy = _floats(length * d_inner), _floats(length * d_inner), _floats(length * d_inner)
    du, dz, slopes = _floats(length * d_inner), _floats(length * d_inner), _floats(length * d_inner)
    ddt, y, dx = dt, dy, dy  # the cache is short: each is written when the other is needed no more
    dparts, drank = np.zeros(length * small_width, np.float32), _floats(length * rank_width)
    db, dc = _floats(length * d_state), _floats(length * d_state)
    x_scratch, z_scratch = _floats(length * d_inner), _floats(length * d_inner)
    scratch, whole = scratch_for(length * max(d_inner, small_width), half), np.zeros(1, np.int64)
    together = sequences_together(half)
    inner, model = together * (length + 1) * d_inner, together * (length + 1) * d_model
    branch_scratch, normed_scratch = scratch_for(model, half), scratch_for(model, half)
    y_scratch, u_scratch, dx_scratch, dz_scratch = (
        scratch_for(inner, half), scratch_for(inner, half), scratch_for(inner, half), scratch_for(inner, half)
    )  # fmt: skip
    parts_scratch = scratch_for(together * (length + 1) * small_width, half)
    waiting, before = 0, 0
    for row in range(start, stop):
        begin, end = row * length, (row + 1) * length
        first = min(begin + first_valid[row], end)
        n, at = end - first, first * d_model
        waiting += 1
        last = waiting == together or row == stop - 1  # of those whose gradients of weights are summed together
        count = before + terms(n, scratch)
        copy_bars(first - begin, d_model, dout, begin * d_model, dhidden)
        x = bring_back(n, d_inner, x_kept, first * d_inner, x_scratch)
        z = bring_back(n, d_inner, z_kept, first * d_inner, z_scratch)
        parts = small_kept[first * small_width : end * small_width]

        dropout_backward(n, d_model, dout, at, draw.key, draw.dropped, draw.factor, dbranch)
        rows = rows_of(n, d_model, dbranch, 0, scratch)
        dense(n, groups, d_model, rows, d_model, out_weight, dy, 0, d_inner, 0, scratch)
        conv_forward(0, 1, n, d_inner, None, True, x, wide, taps, shift, whole, u, slopes)
        multiply(n, groups, rank, parts, 0, small_width, 1, dt_weight, 0, 0, dt, 0, d_inner, 0)
        inputs = scan.Inputs(
            (u, wide), (dt, wide), (z, wide), (parts[rank:], narrow), (parts[rank + d_state :], narrow)
        )
        scan_backward(
            0, 1, scan.Sizes(n, d_inner, d_state), _PLAIN_SCAN, inputs, scan.Weights(a2, d, dt_bias), a, (dy, wide),
            scan.Gradients(du, ddt, dz, db, dc), sums, y,
        )  # fmt: skip
        branch_bars = bars_of(n, d_model, dbranch, 0, branch_scratch, before)
        y_bars = bars_of(n, d_inner, y, 0, y_scratch, before)
        if last:
            add_outer(d_model, groups, count, branch_bars, d_model, y_bars, gradients.out_weight)

        rows = rows_of(n, d_inner, ddt, 0, scratch)
        dense(n, rank_width // LANES, d_inner, rows, d_inner, dt_back, drank, 0, rank_width, 0, scratch)
        multiply(rank, groups, n, parts, 0, 1, small_width, ddt, 0, d_inner, gradients.dt_weight, 0, d_inner, 1)
        for t in range(n):
            from_state, to = t * d_state, t * small_width
            for i in range(rank):
                dparts[to + i] = drank[t * rank_width + i]
            for i in range(d_state):
                dparts[to + rank + i] = db[from_state + i]
                dparts[to + rank + d_state + i] = dc[from_state + i]
        rows = rows_of(n, small_width, dparts, 0, scratch)
        dense(n, groups, n_small, rows, small_width, small, du, 0, d_inner, 1, scratch)
        parts_bars = bars_of(n, small_width, dparts, 0, parts_scratch, before)
        u_bars = bars_of(n, d_inner, u, 0, u_scratch, before)
        if last:
            add_outer(n_small, groups, count, parts_bars, small_width, u_bars, gradients.small)

        conv_backward(
            0, 1, n, d_inner, None, True, x, wide, taps, shift, whole, slopes, du, wide, dx, gradients.taps,
            gradients.shift,
        )  # fmt: skip
        rows = rows_of(n, d_inner, dx, 0, scratch)
        dense(n, groups_model, d_inner, rows, d_inner, in_x, dnormed, 0, d_model, 0, scratch)
        rows = rows_of(n, d_inner, dz, 0, scratch)
        dense(n, groups_model, d_inner, rows, d_inner, in_z, dnormed, 0, d_model, 1, scratch)
        normalise(n, d_model, hidden, at, norm_weight, norm_bias, eps, normed)
        normed_bars = bars_of(n, d_model, normed, 0, normed_scratch, before)
        dx_bars = bars_of(n, d_inner, dx, 0, dx_scratch, before)
        dz_bars = bars_of(n, d_inner, dz, 0, dz_scratch, before)
        if last:
            add_outer(d_inner, groups_model, count, dx_bars, d_inner, normed_bars, gradients.in_x)
            add_outer(d_inner, groups_model, count, dz_bars, d_inner, normed_bars, gradients.in_z)
        normalise_backward(
            n, d_model, hidden, at, norm_weight, eps, dnormed, dout, dhidden, gradients.norm_weight,
            gradients.norm_bias,
        )  # fmt: skip
        before = count
        if last:
            waiting, before = 0, 0
