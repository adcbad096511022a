"""Short attention on a CPU: numba kernels over rows of the batch, forward and backward, float32.

Sixteen queries side by side in the lanes: the softmax then runs down the keys without any sum across lanes, and every
product of the two passes has the same small form, `product`. Queries and upstream gradients are transposed into a tile
once per head; keys and values are read one number at a time, as the scalar factor of a lane group.
"""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.kernels.simd import LANES, exp2, fma, load, select_negative, splat, spread, store

W = LANES
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@njit
def product(m, m_at, m_row, m_col, rows, columns, t, t_at, t_row, out, out_at, out_row):  # type: ignore[no-untyped-def]
    """out[r] = sum_c m[r, c] * t[c] for lane groups t[c] and out[r]; m by its offset and two strides.

    Four rows at a time: four independent sums hide the latency of the multiply-add.
    """
    r = 0
    while r + 4 <= rows:
        a_0 = a_1 = a_2 = a_3 = splat(_ZERO)
        at = m_at + r * m_row
        for c in range(columns):
            x = load(t, t_at + c * t_row)
            a_0 = fma(spread(m, at), x, a_0)
            a_1 = fma(spread(m, at + m_row), x, a_1)
            a_2 = fma(spread(m, at + 2 * m_row), x, a_2)
            a_3 = fma(spread(m, at + 3 * m_row), x, a_3)
            at += m_col
        store(out, out_at + r * out_row, a_0)
        store(out, out_at + (r + 1) * out_row, a_1)
        store(out, out_at + (r + 2) * out_row, a_2)
        store(out, out_at + (r + 3) * out_row, a_3)
        r += 4
    while r < rows:
        a_0 = splat(_ZERO)
        at = m_at + r * m_row
        for c in range(columns):
            a_0 = fma(spread(m, at), load(t, t_at + c * t_row), a_0)
            at += m_col
        store(out, out_at + r * out_row, a_0)
        r += 1


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
        x = exp2((load(p, group * W + j * span) - top) * factor)
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
            for g in range(groups):
                product(qkv, k, bar, 1, valid, width, queries, g * W, span, p, first * span + g * W, span)
                softmax(p, span, g, first, length, scale)
                product(qkv, v, 1, bar, width, valid, p, first * span + g * W, span, y, g * W, span)
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
            for g in range(groups):
                at = first * span + g * W
                product(qkv, k, bar, 1, valid, width, queries, g * W, span, p, at, span)
                softmax(p, span, g, first, length, scale)
                product(qkv, v, bar, 1, valid, width, upstream, g * W, span, ds, at, span)
                total = splat(_ZERO)
                for j in range(first, length):
                    total = fma(load(p, j * span + g * W), load(ds, j * span + g * W), total)
                for j in range(first, length):
                    slope = (load(ds, j * span + g * W) - total) * load(p, j * span + g * W) * factor
                    store(ds, j * span + g * W, slope)
                product(qkv, k, 1, bar, width, valid, ds, at, span, dq, g * W, span)
            for t in range(length):
                for d in range(width):
                    dqkv[q + t * bar + d] = dq[d * span + t]
            for t in range(first):
                for d in range(width):
                    dqkv[q + model + t * bar + d] = _ZERO
                    dqkv[q + 2 * model + t * bar + d] = _ZERO
            # Here the lanes are columns of the head and the sum runs over the queries.
            for d in range(0, width, W):
                product(ds, first * span, span, 1, valid, length, qkv, q + d, bar, dqkv, k + d, bar)
                product(p, first * span, span, 1, valid, length, dout, dy + d, model, dqkv, v + d, bar)
