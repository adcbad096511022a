"""Short attention on a CPU: numba kernels over rows of the batch, forward and backward, float32.

Sixteen queries side by side in the lanes: the softmax then runs down the keys without any sum across lanes. Queries and
upstream gradients are transposed once per head; keys and values are the scalar factors of the products.
"""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.kernels.products import multiply
from k4_pipeline.kernels.simd import LANES, exp2_falling, fma, load, select_negative, splat, store

W = LANES
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@njit
def transpose(source, at, row, length, width, tile, span):  # type: ignore[no-untyped-def]
    """tile[d * span + t] = source[at + t * row + d] for bars t and columns d."""
    for t in range(length):
        for d in range(width):
            tile[d * span + t] = source[at + t * row + d]


@njit
def softmax(p, span, group, first, length, scale):  # type: ignore[no-untyped-def]
    """Over keys first..length of the scores p[key * span + 16 group], in place; `scale` holds log2(e)."""
    at = first * span + group * W
    top = load(p, at)
    for j in range(first + 1, length):
        x = load(p, group * W + j * span)
        top = select_negative(top - x, x, top)
    total = splat(_ZERO)
    factor = splat(scale)
    for j in range(first, length):
        x = exp2_falling((load(p, group * W + j * span) - top) * factor)
        store(p, group * W + j * span, x)
        total = total + x
    inverse = splat(_ONE) / total
    for j in range(first, length):
        store(p, group * W + j * span, load(p, group * W + j * span) * inverse)


@njit
def forward_rows(start, stop, length, heads, width, scale, qkv, first_valid, out):  # type: ignore[no-untyped-def]
    """Rows start..stop of out (batch, length, heads * width); qkv (batch, length, 3, heads, width), both flat."""
    groups = (length + W - 1) // W
    span = groups * W
    bar, model = 3 * heads * width, heads * width
    queries = np.zeros(width * span, np.float32)
    p = np.zeros(length * span, np.float32)
    y = np.empty(width * span, np.float32)
    for row in range(start, stop):
        first = first_valid[row]
        valid = length - first
        for head in range(heads):
            q = row * length * bar + head * width
            k, v = q + model + first * bar, q + 2 * model + first * bar
            transpose(qkv, q, bar, length, width, queries, span)
            multiply(valid, groups, width, qkv, k, bar, 1, queries, 0, span, p, first * span, span, 0)
            for g in range(groups):
                softmax(p, span, g, first, length, scale)
            multiply(width, groups, valid, qkv, v, 1, bar, p, first * span, span, y, 0, span, 0)
            to = row * length * model + head * width
            for t in range(length):
                for d in range(width):
                    out[to + t * model + d] = y[d * span + t]


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
    queries = np.zeros(width * span, np.float32)
    upstream = np.zeros(width * span, np.float32)
    p = np.zeros(length * span, np.float32)
    ds = np.zeros(length * span, np.float32)
    dq = np.empty(width * span, np.float32)
    factor = splat(root)
    for row in range(start, stop):
        first = first_valid[row]
        valid = length - first
        for head in range(heads):
            q = row * length * bar + head * width
            k, v = q + model + first * bar, q + 2 * model + first * bar
            dy = row * length * model + head * width
            transpose(qkv, q, bar, length, width, queries, span)
            transpose(dout, dy, model, length, width, upstream, span)
            multiply(valid, groups, width, qkv, k, bar, 1, queries, 0, span, p, first * span, span, 0)
            multiply(valid, groups, width, qkv, v, bar, 1, upstream, 0, span, ds, first * span, span, 0)
            for g in range(groups):
                softmax(p, span, g, first, length, scale)
                total = splat(_ZERO)
                for j in range(first, length):
                    total = fma(load(p, j * span + g * W), load(ds, j * span + g * W), total)
                for j in range(first, length):
                    slope = (load(ds, j * span + g * W) - total) * load(p, j * span + g * W) * factor
                    store(ds, j * span + g * W, slope)
            multiply(width, groups, valid, qkv, k, 1, bar, ds, first * span, span, dq, 0, span, 0)
            for t in range(length):
                for d in range(width):
                    dqkv[q + t * bar + d] = dq[d * span + t]
            for t in range(first):
                for d in range(width):
                    dqkv[q + model + t * bar + d] = _ZERO
                    dqkv[q + 2 * model + t * bar + d] = _ZERO
            # Here the lanes are columns of the head and the sum runs over the queries.
            multiply(valid, width // W, length, ds, first * span, span, 1, qkv, q, bar, dqkv, k, bar, 0)
            multiply(valid, width // W, length, p, first * span, span, 1, dout, dy, model, dqkv, v, bar, 0)
