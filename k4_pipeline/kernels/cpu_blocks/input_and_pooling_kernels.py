"""The two ends of the model on a CPU: the input layer over padded bars, and the final norm with the masked pooling.

Padded bars are never read, so they may hold NaN.
"""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.kernels.cpu_blocks.rows import add_columns, fill_bars, normalise, normalise_backward
from k4_pipeline.kernels.gemm import add_outer, bars_of, dense, rows_of, scratch_for, terms
from k4_pipeline.simd.simd_f32 import LANES, fma, load, splat, store

W = LANES
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@njit
def input_rows(start, stop, half, length, n_features, d_model, x, first_valid, weight, bias, y):  # type: ignore[no-untyped-def]
    """Rows start..stop of y = x W' + bias; on padding y is the bias. `weight` is packed for this product."""
    scratch = scratch_for(length * (n_features + 1), half)
    for row in range(start, stop):
        first, end = row * length + first_valid[row], (row + 1) * length
        fill_bars(length, d_model, bias, y, row * length * d_model)
        rows = rows_of(end - first, n_features, x, first * n_features, scratch)
        dense(end - first, d_model // W, n_features, rows, n_features, weight, y, first * d_model, d_model, 1, scratch)


@njit
def input_backward(  # type: ignore[no-untyped-def]
    start, stop, half, length, n_features, d_model, x, first_valid, dy, dweight, dbias
):
    """Sums over rows start..stop of the gradients, added to dweight (n_features, d_model), transposed, and dbias."""
    scratch, scratch_2 = scratch_for((length + 1) * n_features, half), scratch_for((length + 1) * d_model, half)
    for row in range(start, stop):
        first, end = row * length + first_valid[row], (row + 1) * length
        n = end - first
        add_columns(length, d_model, dy, row * length * d_model, dbias)
        values = bars_of(n, n_features, x, first * n_features, scratch, 0)
        upstream = bars_of(n, d_model, dy, first * d_model, scratch_2, 0)
        add_outer(n_features, d_model // W, terms(n, scratch), values, n_features, upstream, dweight)


@njit
def pool_rows(  # type: ignore[no-untyped-def]
    start, stop, length, d_model, hidden, first_valid, weight, bias, eps, mean_share, last_share, pooled
):
    """Rows start..stop of pooled = mean_share * mean over valid bars of norm(hidden) + last_share * its last bar."""
    sums, normed = np.empty(d_model, np.float32), np.empty(d_model, np.float32)
    for row in range(start, stop):
        first = first_valid[row]
        sums[:] = _ZERO
        for t in range(first, length):
            normalise(1, d_model, hidden, (row * length + t) * d_model, weight, bias, eps, normed)
            add_columns(1, d_model, normed, 0, sums)
        share = splat(_ONE / np.float32(length - first))
        for j in range(0, d_model, W):
            mean = load(sums, j) * share
            last = load(last_share, j) * load(normed, j)
            store(pooled, row * d_model + j, fma(load(mean_share, j), mean, last))


@njit
def pool_backward(  # type: ignore[no-untyped-def]
    start, stop, length, d_model, hidden, first_valid, weight, bias, eps, mean_share, last_share, dpooled, dhidden,
    dweight, dbias, dmean_share, dlast_share,
):  # fmt: skip
    """dhidden of rows start..stop, 0 on padding; the gradients of the parameters are sums over these rows, added."""
    sums, normed, dnormed = np.empty(d_model, np.float32), np.empty(d_model, np.float32), np.empty(d_model, np.float32)
    for row in range(start, stop):
        first, to = first_valid[row], row * d_model
        share = splat(_ONE / np.float32(length - first))
        begin = row * length * d_model
        dhidden[begin : begin + length * d_model] = _ZERO
        sums[:] = _ZERO
        for j in range(0, d_model, W):
            store(dnormed, j, load(dpooled, to + j) * load(mean_share, j) * share)
        for t in range(first, length):
            at = begin + t * d_model
            normalise(1, d_model, hidden, at, weight, bias, eps, normed)
            add_columns(1, d_model, normed, 0, sums)
            if t == length - 1:
                for j in range(0, d_model, W):
                    store(dnormed, j, fma(load(dpooled, to + j), load(last_share, j), load(dnormed, j)))
            normalise_backward(1, d_model, hidden, at, weight, eps, dnormed, dhidden, dhidden, dweight, dbias)
        for j in range(0, d_model, W):
            upstream = load(dpooled, to + j)
            store(dmean_share, j, fma(upstream, load(sums, j) * share, load(dmean_share, j)))
            store(dlast_share, j, fma(upstream, load(normed, j), load(dlast_share, j)))
