"""A whole Mamba block on a CPU, x + dropout(mixer(norm(x))): one sequence at a time, all of it in the cache.

Composed from the kernels of its parts (products, convolution, scan) on buffers of one thread; only valid bars are
computed, padding passes unchanged. For the backward pass the forward pass keeps the two halves of the input projection
and the small projection; the rest is computed again.

`half` is None for float32 products, else their factors are rounded to bfloat16; the projection to dt, which is small
and feeds an exponential, is float32 always.
"""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.kernels.causal_conv.cpu_kernels import backward_rows as conv_backward
from k4_pipeline.kernels.causal_conv.cpu_kernels import forward_rows as conv_forward
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
    room_for,
    rows_of,
    sequences_together,
    terms,
)
from k4_pipeline.kernels.selective_scan.cpu_kernels import backward_rows as scan_backward
from k4_pipeline.kernels.selective_scan.cpu_kernels import forward_rows as scan_forward
from k4_pipeline.simd.simd_f32 import LANES


@njit
def _floats(size):  # type: ignore[no-untyped-def]
    return np.empty(size, np.float32)


@njit
def forward_rows(  # type: ignore[no-untyped-def]
    start, stop, half, length, d_model, d_inner, d_state, rank, hidden, first_valid, norm_weight, norm_bias, eps,
    in_x, in_z, conv_weight, conv_bias, small, dt_weight, dt_bias, a2, d, out_weight, zeros,
    key, dropped, factor, out, keep, x_kept, z_kept, small_kept,
):  # fmt: skip
    """Rows start..stop of out; the kept arrays are written where `keep`. Weights are packed for these products."""
    groups, groups_model = d_inner // LANES, d_model // LANES
    small_width = (rank + 2 * d_state + LANES - 1) // LANES * LANES
    wide, narrow = (length * d_inner, d_inner), (length * small_width, small_width)
    normed, branch = _floats(length * d_model), _floats(length * d_model)
    u, dt, y = _floats(length * d_inner), _floats(length * d_inner), _floats(length * d_inner)
    x_room, z_room, parts = _floats(length * d_inner), _floats(length * d_inner), _floats(length * small_width)
    room, whole = room_for(length * d_inner, half), np.zeros(1, np.int64)
    for row in range(start, stop):
        begin, end = row * length, (row + 1) * length
        first = min(begin + first_valid[row], end)
        n, at = end - first, first * d_model
        copy_bars(first - begin, d_model, hidden, begin * d_model, out)
        x = place(x_room, x_kept, first * d_inner, n * d_inner, keep)
        z = place(z_room, z_kept, first * d_inner, n * d_inner, keep)
        if keep:
            parts = small_kept[first * small_width : end * small_width]
        normalise(n, d_model, hidden, at, norm_weight, norm_bias, eps, normed)
        rows = rows_of(n, d_model, normed, 0, room)
        dense(n, groups, d_model, rows, d_model, in_x, x, 0, d_inner, 0, room)
        dense(n, groups, d_model, rows, d_model, in_z, z, 0, d_inner, 0, room)
        put_away(n, d_inner, x, x_kept, first * d_inner, keep)
        put_away(n, d_inner, z, z_kept, first * d_inner, keep)
        conv_forward(0, 1, n, d_inner, None, True, x, wide, conv_weight, conv_bias, whole, u, None)
        rows = rows_of(n, d_inner, u, 0, room)
        dense(n, small_width // LANES, d_inner, rows, d_inner, small, parts, 0, small_width, 0, room)
        multiply(n, groups, rank, parts, 0, small_width, 1, dt_weight, 0, 0, dt, 0, d_inner, 0)
        scan_forward(
            0, 1, n, d_inner, d_state, None, None, True, True, u, wide, dt, wide, z, wide, parts[rank:], narrow,
            parts[rank + d_state :], narrow, a2, d, dt_bias, y,
        )  # fmt: skip
        rows = rows_of(n, d_inner, y, 0, room)
        dense(n, groups_model, d_inner, rows, d_inner, out_weight, branch, 0, d_model, 0, room)
        add_to_residual(n, d_model, hidden, at, branch, zeros, key, dropped, factor, out)


@njit
def backward_rows(  # type: ignore[no-untyped-def]
    start, stop, half, length, d_model, d_inner, d_state, rank, hidden, first_valid, norm_weight, norm_bias, eps,
    in_x, in_z, conv_weight, conv_bias, small, dt_weight, dt_back, dt_bias, a2, a, d, out_weight,
    key, dropped, factor, dout, x_kept, z_kept, small_kept, dhidden,
    dnorm_weight, dnorm_bias, din_x, din_z, dconv_weight, dconv_bias, dsmall, ddt_weight, ddt_bias, da, dd,
    dout_weight,
):  # fmt: skip
    """dhidden of rows start..stop; the gradients of the parameters are sums over these rows, added to what is there.

    Here in_x, in_z, small, dt_back and out_weight are packed as they are (not transposed), dt_weight transposed. The
    gradient of the projection to dt is stored transposed, (rank, d_inner).
    """
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
    x_room, z_room = _floats(length * d_inner), _floats(length * d_inner)
    room, whole = room_for(length * max(d_inner, small_width), half), np.zeros(1, np.int64)
    together = sequences_together(half)
    inner, model = together * (length + 1) * d_inner, together * (length + 1) * d_model
    branch_room, normed_room = room_for(model, half), room_for(model, half)
    y_room, u_room, dx_room, dz_room = (
        room_for(inner, half), room_for(inner, half), room_for(inner, half), room_for(inner, half)
    )  # fmt: skip
    parts_room = room_for(together * (length + 1) * small_width, half)
    waiting, before = 0, 0
    for row in range(start, stop):
        begin, end = row * length, (row + 1) * length
        first = min(begin + first_valid[row], end)
        n, at = end - first, first * d_model
        waiting += 1
        last = waiting == together or row == stop - 1  # of those whose gradients of weights are summed together
        count = before + terms(n, room)
        copy_bars(first - begin, d_model, dout, begin * d_model, dhidden)
        x = bring_back(n, d_inner, x_kept, first * d_inner, x_room)
        z = bring_back(n, d_inner, z_kept, first * d_inner, z_room)
        parts = small_kept[first * small_width : end * small_width]

        dropout_backward(n, d_model, dout, at, key, dropped, factor, dbranch)
        rows = rows_of(n, d_model, dbranch, 0, room)
        dense(n, groups, d_model, rows, d_model, out_weight, dy, 0, d_inner, 0, room)
        conv_forward(0, 1, n, d_inner, None, True, x, wide, conv_weight, conv_bias, whole, u, slopes)
        multiply(n, groups, rank, parts, 0, small_width, 1, dt_weight, 0, 0, dt, 0, d_inner, 0)
        scan_backward(
            0, 1, n, d_inner, d_state, None, None, True, True, u, wide, dt, wide, z, wide, parts[rank:], narrow,
            parts[rank + d_state :], narrow, a2, a, d, dt_bias, dy, wide, du, ddt, dz, db, dc, da, dd, ddt_bias, y,
        )  # fmt: skip
        branch_bars = bars_of(n, d_model, dbranch, 0, branch_room, before)
        y_bars = bars_of(n, d_inner, y, 0, y_room, before)
        if last:
            add_outer(d_model, groups, count, branch_bars, d_model, y_bars, dout_weight)

        rows = rows_of(n, d_inner, ddt, 0, room)
        dense(n, rank_width // LANES, d_inner, rows, d_inner, dt_back, drank, 0, rank_width, 0, room)
        multiply(rank, groups, n, parts, 0, 1, small_width, ddt, 0, d_inner, ddt_weight, 0, d_inner, 1)
        for t in range(n):
            from_state, to = t * d_state, t * small_width
            for i in range(rank):
                dparts[to + i] = drank[t * rank_width + i]
            for i in range(d_state):
                dparts[to + rank + i] = db[from_state + i]
                dparts[to + rank + d_state + i] = dc[from_state + i]
        rows = rows_of(n, small_width, dparts, 0, room)
        dense(n, groups, n_small, rows, small_width, small, du, 0, d_inner, 1, room)
        parts_bars = bars_of(n, small_width, dparts, 0, parts_room, before)
        u_bars = bars_of(n, d_inner, u, 0, u_room, before)
        if last:
            add_outer(n_small, groups, count, parts_bars, small_width, u_bars, dsmall)

        conv_backward(
            0, 1, n, d_inner, None, True, x, wide, conv_weight, conv_bias, whole, slopes, du, wide, dx, dconv_weight,
            dconv_bias,
        )  # fmt: skip
        rows = rows_of(n, d_inner, dx, 0, room)
        dense(n, groups_model, d_inner, rows, d_inner, in_x, dnormed, 0, d_model, 0, room)
        rows = rows_of(n, d_inner, dz, 0, room)
        dense(n, groups_model, d_inner, rows, d_inner, in_z, dnormed, 0, d_model, 1, room)
        normalise(n, d_model, hidden, at, norm_weight, norm_bias, eps, normed)
        normed_bars = bars_of(n, d_model, normed, 0, normed_room, before)
        dx_bars = bars_of(n, d_inner, dx, 0, dx_room, before)
        dz_bars = bars_of(n, d_inner, dz, 0, dz_room, before)
        if last:
            add_outer(d_inner, groups_model, count, dx_bars, d_inner, normed_bars, din_x)
            add_outer(d_inner, groups_model, count, dz_bars, d_inner, normed_bars, din_z)
        normalise_backward(n, d_model, hidden, at, norm_weight, eps, dnormed, dout, dhidden, dnorm_weight, dnorm_bias)
        before = count
        if last:
            waiting, before = 0, 0
