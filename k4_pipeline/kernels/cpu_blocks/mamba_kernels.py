"""A whole Mamba block on a CPU, x + dropout(mixer(norm(x))): a few sequences at a time, all of it in the cache.

Composed from the kernels of its parts (products, convolution, scan) on buffers of one thread. For the backward pass
the forward pass keeps the two halves of the input projection and the small projection; the rest is computed again.
"""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.kernels.causal_conv.cpu_kernels import backward_rows as conv_backward
from k4_pipeline.kernels.causal_conv.cpu_kernels import forward_rows as conv_forward
from k4_pipeline.kernels.cpu_blocks.rows import add_to_residual, dropout_backward, normalise, normalise_backward
from k4_pipeline.kernels.products import multiply
from k4_pipeline.kernels.selective_scan.cpu_kernels import backward_rows as scan_backward
from k4_pipeline.kernels.selective_scan.cpu_kernels import forward_rows as scan_forward
from k4_pipeline.kernels.simd import LANES


@njit
def forward_rows(  # type: ignore[no-untyped-def]
    start, stop, together, length, d_model, d_inner, d_state, rank, hidden, first_valid, norm_weight, norm_bias, eps,
    in_x, in_z, conv_weight, conv_bias, small, dt_weight, dt_bias, a2, d, out_weight, zeros,
    key, dropped, factor, out, keep, x_kept, z_kept, small_kept,
):  # fmt: skip
    """Rows start..stop of out, `together` at a time; the kept arrays are written where `keep`.

    Weights are packed for these products.
    """
    bars = together * length
    groups, groups_model = d_inner // LANES, d_model // LANES
    small_width = (rank + 2 * d_state + LANES - 1) // LANES * LANES
    wide, narrow = (length * d_inner, d_inner), (length * small_width, small_width)
    normed, branch = np.empty(bars * d_model, np.float32), np.empty(bars * d_model, np.float32)
    u, dt, y = (np.empty(bars * d_inner, np.float32), np.empty(bars * d_inner, np.float32),
                np.empty(bars * d_inner, np.float32))  # fmt: skip
    x, z = np.empty(bars * d_inner, np.float32), np.empty(bars * d_inner, np.float32)
    parts = np.empty(bars * small_width, np.float32)
    for row in range(start, stop, together):
        rows = min(together, stop - row)
        n, first = rows * length, row * length
        if keep:
            x, z = x_kept[first * d_inner : (first + n) * d_inner], z_kept[first * d_inner : (first + n) * d_inner]
            parts = small_kept[first * small_width : (first + n) * small_width]
        normalise(n, d_model, hidden, first * d_model, norm_weight, norm_bias, eps, normed)
        multiply(n, groups, d_model, normed, 0, d_model, 1, in_x, 0, 0, x, 0, d_inner, 0)
        multiply(n, groups, d_model, normed, 0, d_model, 1, in_z, 0, 0, z, 0, d_inner, 0)
        conv_forward(0, rows, length, d_inner, True, x, wide, conv_weight, conv_bias, first_valid[row:], u)
        multiply(n, small_width // LANES, d_inner, u, 0, d_inner, 1, small, 0, 0, parts, 0, small_width, 0)
        multiply(n, groups, rank, parts, 0, small_width, 1, dt_weight, 0, 0, dt, 0, d_inner, 0)
        scan_forward(
            0, rows, length, d_inner, d_state, True, True, u, wide, dt, wide, z, wide, parts[rank:], narrow,
            parts[rank + d_state :], narrow, a2, d, dt_bias, y,
        )  # fmt: skip
        multiply(n, groups_model, d_inner, y, 0, d_inner, 1, out_weight, 0, 0, branch, 0, d_model, 0)
        add_to_residual(n, d_model, hidden, first * d_model, branch, zeros, key, dropped, factor, out)


@njit
def backward_rows(  # type: ignore[no-untyped-def]
    start, stop, together, length, d_model, d_inner, d_state, rank, hidden, first_valid, norm_weight, norm_bias, eps,
    in_x, in_z, conv_weight, conv_bias, small, dt_weight, dt_back, dt_bias, a2, a, d, out_weight,
    key, dropped, factor, dout, x_kept, z_kept, small_kept, dhidden,
    dnorm_weight, dnorm_bias, din_x, din_z, dconv_weight, dconv_bias, dsmall, ddt_weight, ddt_bias, da, dd,
    dout_weight,
):  # fmt: skip
    """dhidden of rows start..stop; the gradients of the parameters are sums over these rows, added to what is there.

    Here in_x, in_z, small, dt_back and out_weight are packed as they are (not transposed), dt_weight transposed. The
    gradient of the projection to dt is stored transposed, (rank, d_inner).
    """
    bars = together * length
    groups, groups_model = d_inner // LANES, d_model // LANES
    n_small = rank + 2 * d_state
    small_width = (n_small + LANES - 1) // LANES * LANES
    rank_width = (rank + LANES - 1) // LANES * LANES
    wide, narrow, states = (length * d_inner, d_inner), (length * small_width, small_width), bars * d_state
    normed, dnormed = np.empty(bars * d_model, np.float32), np.empty(bars * d_model, np.float32)
    dbranch = np.empty(bars * d_model, np.float32)
    u, dt, dy = (np.empty(bars * d_inner, np.float32), np.empty(bars * d_inner, np.float32),
                 np.empty(bars * d_inner, np.float32))  # fmt: skip
    du, dz = np.empty(bars * d_inner, np.float32), np.empty(bars * d_inner, np.float32)
    ddt, y, dx = dt, dy, dy  # the cache is short: each is written when the other is needed no more
    dparts, drank = np.empty(bars * small_width, np.float32), np.empty(bars * rank_width, np.float32)
    db, dc = np.empty(states, np.float32), np.empty(states, np.float32)
    for row in range(start, stop, together):
        rows = min(together, stop - row)
        n, first = rows * length, row * length
        x, z = x_kept[first * d_inner : (first + n) * d_inner], z_kept[first * d_inner : (first + n) * d_inner]
        parts = small_kept[first * small_width : (first + n) * small_width]
        valid = first_valid[row:]

        dropout_backward(n, d_model, dout, first * d_model, key, dropped, factor, dbranch)
        multiply(n, groups, d_model, dbranch, 0, d_model, 1, out_weight, 0, 0, dy, 0, d_inner, 0)
        conv_forward(0, rows, length, d_inner, True, x, wide, conv_weight, conv_bias, valid, u)
        multiply(n, groups, rank, parts, 0, small_width, 1, dt_weight, 0, 0, dt, 0, d_inner, 0)
        scan_backward(
            0, rows, length, d_inner, d_state, True, True, u, wide, dt, wide, z, wide, parts[rank:], narrow,
            parts[rank + d_state :], narrow, a2, a, d, dt_bias, dy, wide, du, ddt, dz, db, dc, da, dd, ddt_bias, y,
        )  # fmt: skip
        multiply(d_model, groups, n, dbranch, 0, 1, d_model, y, 0, d_inner, dout_weight, 0, d_inner, 1)

        multiply(n, rank_width // LANES, d_inner, ddt, 0, d_inner, 1, dt_back, 0, 0, drank, 0, rank_width, 0)
        for t in range(n):
            at, to = t * d_state, t * small_width
            for i in range(rank):
                dparts[to + i] = drank[t * rank_width + i]
            for i in range(d_state):
                dparts[to + rank + i] = db[at + i]
                dparts[to + rank + d_state + i] = dc[at + i]
        multiply(rank, groups, n, parts, 0, 1, small_width, ddt, 0, d_inner, ddt_weight, 0, d_inner, 1)
        multiply(n, groups, n_small, dparts, 0, small_width, 1, small, 0, 0, du, 0, d_inner, 1)
        multiply(n_small, groups, n, dparts, 0, 1, small_width, u, 0, d_inner, dsmall, 0, d_inner, 1)

        conv_backward(
            0, rows, length, d_inner, True, x, wide, conv_weight, conv_bias, valid, du, wide, dx,
            dconv_weight, dconv_bias,
        )  # fmt: skip
        normalise(n, d_model, hidden, first * d_model, norm_weight, norm_bias, eps, normed)
        multiply(n, groups_model, d_inner, dx, 0, d_inner, 1, in_x, 0, 0, dnormed, 0, d_model, 0)
        multiply(n, groups_model, d_inner, dz, 0, d_inner, 1, in_z, 0, 0, dnormed, 0, d_model, 1)
        multiply(d_inner, groups_model, n, dx, 0, 1, d_inner, normed, 0, d_model, din_x, 0, d_model, 1)
        multiply(d_inner, groups_model, n, dz, 0, 1, d_inner, normed, 0, d_model, din_z, 0, d_model, 1)
        normalise_backward(
            n, d_model, hidden, first * d_model, norm_weight, eps, dnormed, dout, dhidden, dnorm_weight, dnorm_bias
        )
