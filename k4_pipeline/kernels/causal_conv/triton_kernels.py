"""The causal depthwise convolution in Triton: one tile of bars and channels per program, forward and backward.

Nothing is carried from bar to bar: a tile reads its operands at four (forward) or seven (backward) shifts, all but the
first of which are in the cache, so that memory sees every value once. Sums over bars for the weights and the bias go to
a partial buffer, one line per program: no atomics, the same bits on every run.
"""

from __future__ import annotations

import triton
import triton.language as tl

from k4_pipeline.kernels.selective_scan.triton_math import sigmoid


@triton.jit
def _input(x_ptr, x_row, x_bar: tl.constexpr, t, d, first, length, inside):
    """x at bars t (a column), 0 before the first valid bar and behind the end; float32."""
    valid = (t >= first) & (t < length)
    at = x_ptr + x_row + t[:, None] * x_bar + d[None, :]
    return tl.load(at, mask=valid[:, None] & inside[None, :], other=0.0).to(tl.float32)


@triton.jit
def _silu_slope(pre, HARDWARE: tl.constexpr):
    s = sigmoid(pre, HARDWARE)
    return s * (1.0 + pre * (1.0 - s))


@triton.jit
def conv_forward(
    x_ptr, weight_ptr, bias_ptr, first_ptr, y_ptr, length, x_row,
    x_bar: tl.constexpr, channels: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr,
    HAS_FIRST: tl.constexpr, ACTIVATION: tl.constexpr, HARDWARE: tl.constexpr,
):  # fmt: skip
    """weight: (4, channels) and bias: (channels,) float32."""
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    t = tl.program_id(2) * BT + tl.arange(0, BT)
    inside = d < channels
    first = 0
    if HAS_FIRST:
        first = tl.load(first_ptr + row)
    out = tl.load(bias_ptr + d, mask=inside, other=0.0)[None, :] + tl.zeros((BT, BD), tl.float32)
    for k in tl.static_range(4):
        w = tl.load(weight_ptr + k * channels + d, mask=inside, other=0.0)
        out += w[None, :] * _input(x_ptr, row * x_row, x_bar, t - 3 + k, d, first, length, inside)
    if ACTIVATION:
        out = out * sigmoid(out, HARDWARE)
    out = tl.where((t >= first)[:, None], out, 0.0)
    at = y_ptr + (row * length + t[:, None]) * channels + d[None, :]
    tl.store(at, out.to(y_ptr.dtype.element_ty), mask=(t < length)[:, None] & inside[None, :])


@triton.jit
def conv_backward(
    x_ptr, weight_ptr, bias_ptr, first_ptr, dy_ptr, dx_ptr, sums_ptr, length, x_row, dy_row,
    x_bar: tl.constexpr, dy_bar: tl.constexpr, channels: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr,
    HAS_FIRST: tl.constexpr, ACTIVATION: tl.constexpr, HARDWARE: tl.constexpr,
):  # fmt: skip
    """dx, and per program the sums for the four taps and the bias: sums (bar blocks * batch, 5, channels).

    g_t = dy_t silu'(pre-activation at t); dx_t = sum_k weight_k g_{t + 3 - k}, dweight_k = sum_t g_t x_{t - 3 + k}.
    """
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    t = tl.program_id(2) * BT + tl.arange(0, BT)
    inside = d < channels
    first = 0
    if HAS_FIRST:
        first = tl.load(first_ptr + row)
    bias = tl.load(bias_ptr + d, mask=inside, other=0.0)
    w_0 = tl.load(weight_ptr + d, mask=inside, other=0.0)
    w_1 = tl.load(weight_ptr + channels + d, mask=inside, other=0.0)
    w_2 = tl.load(weight_ptr + 2 * channels + d, mask=inside, other=0.0)
    w_3 = tl.load(weight_ptr + 3 * channels + d, mask=inside, other=0.0)
    x_0 = _input(x_ptr, row * x_row, x_bar, t - 3, d, first, length, inside)
    x_1 = _input(x_ptr, row * x_row, x_bar, t - 2, d, first, length, inside)
    x_2 = _input(x_ptr, row * x_row, x_bar, t - 1, d, first, length, inside)
    x_3 = _input(x_ptr, row * x_row, x_bar, t, d, first, length, inside)
    dx = tl.zeros((BT, BD), tl.float32)
    sums = sums_ptr + (tl.program_id(2) * tl.num_programs(0) + row) * 5 * channels + d
    for j in tl.static_range(4):
        # dy is 0 before the first valid bar and behind the end, so g is too
        g = _input(dy_ptr, row * dy_row, dy_bar, t + j, d, first, length, inside)
        if ACTIVATION:
            pre = bias[None, :] + w_0[None, :] * x_0 + w_1[None, :] * x_1 + w_2[None, :] * x_2 + w_3[None, :] * x_3
            g = g * _silu_slope(pre, HARDWARE)
        if j == 0:
            tl.store(sums, tl.sum(g * x_0, axis=0), mask=inside)
            tl.store(sums + channels, tl.sum(g * x_1, axis=0), mask=inside)
            tl.store(sums + 2 * channels, tl.sum(g * x_2, axis=0), mask=inside)
            tl.store(sums + 3 * channels, tl.sum(g * x_3, axis=0), mask=inside)
            tl.store(sums + 4 * channels, tl.sum(g, axis=0), mask=inside)
            dx += w_3[None, :] * g
        elif j == 1:
            dx += w_2[None, :] * g
        elif j == 2:
            dx += w_1[None, :] * g
        else:
            dx += w_0[None, :] * g
        if j < 3:
            x_0, x_1, x_2 = x_1, x_2, x_3
            x_3 = _input(x_ptr, row * x_row, x_bar, t + j + 1, d, first, length, inside)
    dx = tl.where((t >= first)[:, None], dx, 0.0)
    at = dx_ptr + (row * length + t[:, None]) * channels + d[None, :]
    tl.store(at, dx.to(dx_ptr.dtype.element_ty), mask=(t < length)[:, None] & inside[None, :])
