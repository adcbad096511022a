"""What lies between the products of a block, bar by bar: LayerNorm, dropout with the residual, sums over bars.

Bars are `width` numbers apart in flat float32 arrays; `width` is a multiple of sixteen.
"""

from __future__ import annotations

import math

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.kernels.dropout_rng import keep_factor
from k4_pipeline.simd.simd_f32 import LANES, fma, load, splat, store, total

W = LANES
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@njit
def moments(width, x, at, eps):  # type: ignore[no-untyped-def]
    """Mean and 1 / sqrt(variance + eps) of one bar."""
    count = np.float32(width)
    sums = splat(_ZERO)
    for j in range(0, width, W):
        sums = sums + load(x, at + j)
    mean = total(sums) / count
    squares = splat(_ZERO)
    for j in range(0, width, W):
        off = load(x, at + j) - splat(mean)
        squares = fma(off, off, squares)
    return mean, _ONE / np.float32(math.sqrt(total(squares) / count + eps))


@njit
def normalise(bars, width, x, x_at, weight, bias, eps, y):  # type: ignore[no-untyped-def]
    """LayerNorm of `bars` bars of x from `x_at` on into y."""
    for i in range(bars):
        at, to = x_at + i * width, i * width
        mean, scale = moments(width, x, at, eps)
        for j in range(0, width, W):
            unit = (load(x, at + j) - splat(mean)) * splat(scale)
            store(y, to + j, fma(unit, load(weight, j), load(bias, j)))


@njit
def normalise_backward(  # type: ignore[no-untyped-def]
    bars, width, x, x_at, weight, eps, dy, residual, dx, dweight, dbias
):
    """dx from `x_at` on = residual there + gradient of `normalise` for the upstream dy; adds to dweight and dbias."""
    count = np.float32(width)
    for i in range(bars):
        at, to = x_at + i * width, i * width
        mean, scale = moments(width, x, at, eps)
        sums = products = splat(_ZERO)
        for j in range(0, width, W):
            unit, upstream = (load(x, at + j) - splat(mean)) * splat(scale), load(dy, to + j)
            g = upstream * load(weight, j)
            sums, products = sums + g, fma(g, unit, products)
            store(dweight, j, fma(upstream, unit, load(dweight, j)))
            store(dbias, j, load(dbias, j) + upstream)
        shift, slope = total(sums) / count, total(products) / count
        for j in range(0, width, W):
            unit = (load(x, at + j) - splat(mean)) * splat(scale)
            g = load(dy, to + j) * load(weight, j) - splat(shift) - unit * splat(slope)
            store(dx, at + j, fma(g, splat(scale), load(residual, at + j)))


@njit
def add_to_residual(bars, width, x, x_at, branch, bias, key, dropped, factor, y):  # type: ignore[no-untyped-def]
    """y = x + dropout(branch + bias) from `x_at` on; see `keep_factor` for the draw. `branch` begins at 0."""
    for i in range(bars):
        at, to = x_at + i * width, i * width
        for j in range(0, width, W):
            value = load(branch, to + j) + load(bias, j)
            if dropped:
                value = value * keep_factor(key, at + j, dropped, factor)
            store(y, at + j, load(x, at + j) + value)


@njit
def dropout_backward(bars, width, dy, at, key, dropped, factor, out):  # type: ignore[no-untyped-def]
    """out (from 0) = gradient of the dropped branch for the upstream dy from `at` on."""
    for i in range(0, bars * width, W):
        value = load(dy, at + i)
        if dropped:
            value = value * keep_factor(key, at + i, dropped, factor)
        store(out, i, value)


@njit
def add_columns(bars, width, x, x_at, sums):  # type: ignore[no-untyped-def]
    """sums += the sum of the bars of x from `x_at` on."""
    for i in range(bars):
        for j in range(0, width, W):
            store(sums, j, load(sums, j) + load(x, x_at + i * width + j))


@njit
def fill_bars(bars, width, values, y, at):  # type: ignore[no-untyped-def]
    """Every bar of y from `at` on = values (width,)."""
    for i in range(bars):
        for j in range(0, width, W):
            store(y, at + i * width + j, load(values, j))


@njit
def copy_bars(bars, width, x, at, y):  # type: ignore[no-untyped-def]
    """`bars` bars of x into y, both from `at` on."""
    for i in range(at, at + bars * width, W):
        store(y, i, load(x, i))
