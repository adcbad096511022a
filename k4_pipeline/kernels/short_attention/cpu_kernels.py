"""Short attention on a CPU: numba kernels over rows of the batch, forward and backward, float32.

Sixteen queries side by side in the lanes: the softmax then runs down the keys without any sum across lanes. Queries and
upstream gradients are transposed once per head; keys and values are the scalar factors of the products.
"""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.kernels.gemm import multiply
from k4_pipeline.simd.simd_f32 import LANES, fma, load, maximum, splat, spread, store, transpose_block
from k4_pipeline.simd.simd_math import exp2_falling

W = LANES
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@njit
def transpose(source, at, row, length, width, tile, span):  # type: ignore[no-untyped-def]
    """tile[d * span + t] = source[at + t * row + d] for bars t and columns d; from `length` to `span` the last bar."""
    for t in range(0, length, W):
        for d in range(0, width, W):
            transpose_block(source, at + t * row + d, row, length - t, tile, d * span + t, span)


@njit
def exponentials(p, span, group, first, length, scale):  # type: ignore[no-untyped-def]
    """Scores p[key * span + 16 group] of keys first..length to exp(score - greatest), in place; 1 / their sum.

    `scale` holds log2(e).
    """
    at = first * span + group * W
    top = load(p, at)
    for j in range(first + 1, length):
        top = maximum(load(p, group * W + j * span), top)
    total, factor = splat(_ZERO), splat(scale)
    for j in range(first, length):
        x = exp2_falling((load(p, group * W + j * span) - top) * factor)
        store(p, group * W + j * span, x)
        total = total + x
    return splat(_ONE) / total


@njit
def forward_rows(start, stop, length, heads, width, scale, qkv, first_valid, out):  # type: ignore[no-untyped-def]
    """Rows start..stop of out (batch, length, heads * width); qkv (batch, length, 3, heads, width), both flat."""
    groups = (length + W - 1) // W
    span = groups * W
    bar, model = 3 * heads * width, heads * width
    queries = np.empty(width * span, np.float32)
    p = np.empty(length * span, np.float32)
    inverse = np.empty(span, np.float32)
    for row in range(start, stop):
        first = first_valid[row]
        valid = length - first
        for head in range(heads):
            q = row * length * bar + head * width
            k, v = q + model + first * bar, q + 2 * model + first * bar
            transpose(qkv, q, bar, length, width, queries, span)
            multiply(valid, groups, width, qkv, k, bar, 1, queries, 0, span, p, 0, span, 0)
            for g in range(groups):
                store(inverse, g * W, exponentials(p, span, g, 0, valid, scale))
            # From here on the lanes are columns of the head and the sum runs over the keys.
            to = row * length * model + head * width
            multiply(length, width // W, valid, p, 0, 1, span, qkv, v, bar, out, to, model, 0)
            for t in range(length):
                share = spread(inverse, t)
                for d in range(to + t * model, to + t * model + width, W):
                    store(out, d, load(out, d) * share)


@njit
def backward_rows(  # type: ignore[no-untyped-def]
    start, stop, length, heads, width, scale, root, qkv, first_valid, dout, dqkv
):
    """dqkv of rows start..stop, in the layout of qkv; `root` is width ** -0.5 and scale is root * log2(e).

    With p = softmax(s): dv = p' dy, ds = p * (dp - sum(p * dp)) with dp = dy v', dq = root ds k, dk = root ds' q.
    """
    groups = (length + W - 1) // W
    span = groups * W
    bar, model = 3 * heads * width, heads * width
    queries, upstream = np.empty(width * span, np.float32), np.empty(width * span, np.float32)
    p, ds = np.empty(length * span, np.float32), np.empty(length * span, np.float32)
    for row in range(start, stop):
        first = first_valid[row]
        valid = length - first
        for head in range(heads):
            q = row * length * bar + head * width
            k, v = q + model + first * bar, q + 2 * model + first * bar
            dy = row * length * model + head * width
            transpose(qkv, q, bar, length, width, queries, span)
            transpose(dout, dy, model, length, width, upstream, span)
            multiply(valid, groups, width, qkv, k, bar, 1, queries, 0, span, p, 0, span, 0)
            multiply(valid, groups, width, qkv, v, bar, 1, upstream, 0, span, ds, 0, span, 0)
            for g in range(groups):
                inverse = exponentials(p, span, g, 0, valid, scale)
                total = splat(_ZERO)
                for j in range(g * W, g * W + valid * span, span):
                    total = fma(load(p, j), load(ds, j), total)
                total, factor = total * inverse, inverse * splat(root)
                for j in range(g * W, g * W + valid * span, span):
                    x = load(p, j)
                    store(ds, j, (load(ds, j) - total) * (x * factor))
                    store(p, j, x * inverse)
            multiply(length, width // W, valid, ds, 0, 1, span, qkv, k, bar, dqkv, q, bar, 0)
            for t in range(first):
                for d in range(width):
                    dqkv[q + model + t * bar + d] = _ZERO
                    dqkv[q + 2 * model + t * bar + d] = _ZERO
            multiply(valid, width // W, length, ds, 0, span, 1, qkv, q, bar, dqkv, k, bar, 0)
            multiply(valid, width // W, length, p, 0, span, 1, dout, dy, model, dqkv, v, bar, 0)
