"""The causal depthwise convolution in Triton, forward and backward: a walk over the bars with the taps in registers.

A thread owns a few neighbouring channels of a row and keeps the last bars it has seen, so that every value is read once
and nothing is exchanged between threads. Operands are fetched a chunk of T bars ahead, in front of the stores. The
backward walks from the last bar to the first and sums the gradients of the weights over the rows of a program, written
once: no atomics, the same bits on every run.
"""

# ruff: noqa: RUF005  # Triton builds tuples by addition and knows no unpacking
# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

from k4_pipeline.kernels.selective_scan.triton_math import sigmoid


@triton.jit
def _load_bars(
    row, bar: tl.constexpr, t, step: tl.constexpr, low, high, d, inside, T: tl.constexpr, FULL: tl.constexpr
):
    """The channels of bars t, t + step, ... (T of them) of a row, 0 where the bar is not in low .. high - 1.

    FULL: the caller knows that none is past the end.
    """
    values = ()
    at = row + t * bar
    for i in tl.static_range(T):
        there = inside & (t + i * step + d * 0 >= low)
        if not FULL:
            there = there & (t + i * step + d * 0 < high)
        values = values + (tl.load(at + i * step * bar + d, mask=there, other=0.0),)
    return values


@triton.jit
def _store_bar(pointer, value, here, CHECKED: tl.constexpr):
    if CHECKED:
        tl.store(pointer, value.to(pointer.dtype.element_ty), mask=here)
    else:
        tl.store(pointer, value.to(pointer.dtype.element_ty))


@triton.jit
def _load_taps(weight_ptr, d, inside, channels: tl.constexpr):
    taps = ()
    for k in tl.static_range(4):
        taps = taps + (tl.load(weight_ptr + k * channels + d, mask=inside, other=0.0),)
    return taps


@triton.jit(do_not_specialize=["rows", "batch", "length"])
def conv_forward(
    x_ptr, weight_ptr, bias_ptr, first_ptr, y_ptr, batch, rows, length,
    x_bar: tl.constexpr, channels: tl.constexpr, BD: tl.constexpr, T: tl.constexpr, FULL: tl.constexpr,
    HAS_FIRST: tl.constexpr, ACTIVATION: tl.constexpr, HARDWARE: tl.constexpr,
):  # fmt: skip
    """weight: (4, channels) and bias: (channels,) float32; x: a row begins where the one before ends; y: contiguous."""
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    inside = d < channels
    CHECKED: tl.constexpr = not (FULL and channels % BD == 0)
    bias = tl.load(bias_ptr + d, mask=inside, other=0.0)
    w = _load_taps(weight_ptr, d, inside, channels)
    for r in range(rows):
        row = tl.program_id(0).to(tl.int64) * rows + r
        if row < batch:
            first = 0
            if HAS_FIRST:
                first = tl.load(first_ptr + row).to(tl.int32)
            x_row = x_ptr + row * length * x_bar
            y_row = y_ptr + row * length * channels
            x_1, x_2, x_3 = (tl.zeros((BD,), tl.float32),) * 3  # the bars before
            ahead = _load_bars(x_row, x_bar, 0, 1, first, length, d, inside, T, FULL)
            chunks = tl.cdiv(length, T)
            for chunk in range(chunks):
                now = ahead
                following = tl.minimum(chunk + 1, chunks - 1) * T  # the last chunk fetches itself again, unused
                ahead = _load_bars(x_row, x_bar, following, 1, first, length, d, inside, T, FULL)
                y_at = y_row + chunk * T * channels
                for i in tl.static_range(T):
                    t = chunk * T + i
                    x = now[i].to(tl.float32)
                    out = bias + w[3] * x + w[2] * x_1 + w[1] * x_2 + w[0] * x_3
                    if ACTIVATION:
                        out = out * sigmoid(out, HARDWARE)
                    if HAS_FIRST:
                        out = tl.where(t + d * 0 >= first, out, 0.0)
                    _store_bar(y_at + i * channels + d, out, inside & (t + d * 0 < length), CHECKED)
                    x_1, x_2, x_3 = x, x_1, x_2


@triton.jit(do_not_specialize=["rows", "batch", "length"])
def conv_backward(
    x_ptr, weight_ptr, bias_ptr, first_ptr, dy_ptr, dx_ptr, sums_ptr, batch, rows, length,
    x_bar: tl.constexpr, dy_bar: tl.constexpr, dx_bar: tl.constexpr,
    channels: tl.constexpr, BD: tl.constexpr, T: tl.constexpr, FULL: tl.constexpr,
    HAS_FIRST: tl.constexpr, ACTIVATION: tl.constexpr, HARDWARE: tl.constexpr,
):  # fmt: skip
    """dx, and per program the sums for the four taps and the bias: sums (programs, 5, channels) float32.

    g_t = dy_t silu'(pre-activation at t); dx_t = sum_k weight_k g_{t + 3 - k}, dweight_k = sum_t g_t x_{t - 3 + k}.
    """
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    inside = d < channels
    CHECKED: tl.constexpr = not (FULL and channels % BD == 0)
    bias = tl.load(bias_ptr + d, mask=inside, other=0.0)
    w = _load_taps(weight_ptr, d, inside, channels)
    dw_0, dw_1, dw_2, dw_3, dbias = (tl.zeros((BD,), tl.float32),) * 5
    for r in range(rows):
        row = tl.program_id(0).to(tl.int64) * rows + r
        if row < batch:
            first = 0
            if HAS_FIRST:
                first = tl.load(first_ptr + row).to(tl.int32)
            x_row = x_ptr + row * length * x_bar
            dy_row = dy_ptr + row * length * dy_bar
            dx_row = dx_ptr + row * length * dx_bar
            chunks = tl.cdiv(length, T)
            last = chunks * T - 1
            # x of bars t, t - 1, t - 2 and (fetched) t - 3; g of bars t + 1, t + 2, t + 3
            known = _load_bars(x_row, x_bar, last, -1, first, length, d, inside, 3, FULL)
            x_0, x_1, x_2 = known[0].to(tl.float32), known[1].to(tl.float32), known[2].to(tl.float32)
            g_1, g_2, g_3 = (tl.zeros((BD,), tl.float32),) * 3
            ahead_x = _load_bars(x_row, x_bar, last - 3, -1, first, length, d, inside, T, FULL)
            ahead_dy = _load_bars(dy_row, dy_bar, last, -1, first, length, d, inside, T, FULL)
            for back in range(chunks):
                xs, dys = ahead_x, ahead_dy
                ahead_x = _load_bars(x_row, x_bar, last - (back + 1) * T - 3, -1, first, length, d, inside, T, FULL)
                ahead_dy = _load_bars(dy_row, dy_bar, last - (back + 1) * T, -1, first, length, d, inside, T, FULL)
                dx_at = dx_row + (last - back * T) * dx_bar
                for i in tl.static_range(T):
                    t = last - back * T - i
                    x_3 = xs[i].to(tl.float32)
                    g = dys[i].to(tl.float32)  # 0 before the first valid bar and behind the end
                    if ACTIVATION:
                        pre = bias + w[3] * x_0 + w[2] * x_1 + w[1] * x_2 + w[0] * x_3
                        s = sigmoid(pre, HARDWARE)
                        g = g * (s + s * pre * (1.0 - s))
                    dbias += g
                    dw_3 += g * x_0
                    dw_2 += g * x_1
                    dw_1 += g * x_2
                    dw_0 += g * x_3
                    dx = w[3] * g + w[2] * g_1 + w[1] * g_2 + w[0] * g_3
                    if HAS_FIRST:
                        dx = tl.where(t + d * 0 >= first, dx, 0.0)
                    _store_bar(dx_at - i * dx_bar + d, dx, inside & (t + d * 0 < length), CHECKED)
                    x_0, x_1, x_2 = x_1, x_2, x_3
                    g_1, g_2, g_3 = g, g_1, g_2
    sums = sums_ptr + tl.program_id(0).to(tl.int64) * 5 * channels + d
    tl.store(sums, dw_0, mask=inside)
    tl.store(sums + channels, dw_1, mask=inside)
    tl.store(sums + 2 * channels, dw_2, mask=inside)
    tl.store(sums + 3 * channels, dw_3, mask=inside)
    tl.store(sums + 4 * channels, dbias, mask=inside)
