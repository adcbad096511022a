"""The causal depthwise convolution on a CPU: numba kernels over rows of the batch, forward and backward, float32.

Four taps, sixteen channels at a time; a window of four bars moves through registers, so every value is read once.
Weights are packed as (4, padded channels), flat; narrower filters are padded with zeros in front.
"""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.simd.simd_f32 import fma, load, load_channels, splat, store, store_channels
from k4_pipeline.simd.simd_math import sigmoid

W = 16
TAPS = 4
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@njit
def forward_rows(  # type: ignore[no-untyped-def]
    start, stop, length, channels, narrow, activation, x, x_stride, weight, bias, first_valid, y, slopes
):
    """Rows start..stop of y, which is contiguous; of the slopes of the activation too, unless they are None."""
    padded = bias.size
    for row in range(start, stop):
        first = min(max(first_valid[row], 0), length)
        for channel in range(0, channels, W):
            lanes = min(W, channels - channel)
            w_0, w_1 = load(weight, channel), load(weight, padded + channel)
            w_2, w_3 = load(weight, 2 * padded + channel), load(weight, 3 * padded + channel)
            shift = load(bias, channel)
            x_0 = x_1 = x_2 = splat(_ZERO)
            to = row * length * channels + channel
            for _t in range(first):
                store_channels(y, to, splat(_ZERO), lanes, narrow)
                to += channels
            for t in range(first, length):
                x_3 = load_channels(x, row * x_stride[0] + t * x_stride[1] + channel, lanes, narrow)
                out = fma(w_0, x_0, fma(w_1, x_1, fma(w_2, x_2, fma(w_3, x_3, shift))))
                if activation:
                    s = sigmoid(out)
                    if slopes is not None:
                        store_channels(slopes, to, s * fma(out, splat(_ONE) - s, splat(_ONE)), lanes, narrow)
                    out = out * s
                store_channels(y, to, out, lanes, narrow)
                x_0, x_1, x_2 = x_1, x_2, x_3
                to += channels


@njit
def backward_rows(  # type: ignore[no-untyped-def]
    start, stop, length, channels, narrow, activation, x, x_stride, weight, bias, first_valid, slopes, dy, dy_stride,
    dx, dweight, dbias,
):  # fmt: skip
    """dx of rows start..stop; dweight (packed) and dbias are sums over these rows; `slopes` of `forward_rows` or None.

    With g_t = dy_t silu'(pre-activation at t):
    dx_t = sum_k weight_k g_{t + 3 - k}, dweight_k = sum_t g_t x_{t - 3 + k}, dbias = sum_t g_t.
    """
    padded = bias.size
    for row in range(start, stop):
        first = min(max(first_valid[row], 0), length)
        for channel in range(0, channels, W):
            lanes = min(W, channels - channel)
            w_0, w_1 = load(weight, channel), load(weight, padded + channel)
            w_2, w_3 = load(weight, 2 * padded + channel), load(weight, 3 * padded + channel)
            shift = load(bias, channel)
            dw_0, dw_1 = load(dweight, channel), load(dweight, padded + channel)
            dw_2, dw_3 = load(dweight, 2 * padded + channel), load(dweight, 3 * padded + channel)
            db = load(dbias, channel)
            g_1 = g_2 = g_3 = x_0 = x_1 = x_2 = x_3 = splat(_ZERO)  # g_k is g at t + k, x_k is x at t - 3 + k
            x_at = row * x_stride[0] + channel
            if length - 1 >= first:
                x_2 = load_channels(x, x_at + (length - 1) * x_stride[1], lanes, narrow)
            if length - 2 >= first:
                x_1 = load_channels(x, x_at + (length - 2) * x_stride[1], lanes, narrow)
            if length - 3 >= first:
                x_0 = load_channels(x, x_at + (length - 3) * x_stride[1], lanes, narrow)
            to = (row * length + length - 1) * channels + channel
            for t in range(length - 1, first - 1, -1):
                x_1, x_2, x_3 = x_0, x_1, x_2
                x_0 = splat(_ZERO)
                if t - 3 >= first:
                    x_0 = load_channels(x, x_at + (t - 3) * x_stride[1], lanes, narrow)
                g_0 = load_channels(dy, row * dy_stride[0] + t * dy_stride[1] + channel, lanes, narrow)
                if slopes is not None:
                    g_0 = g_0 * load_channels(slopes, to, lanes, narrow)
                elif activation:
                    pre = fma(w_0, x_0, fma(w_1, x_1, fma(w_2, x_2, fma(w_3, x_3, shift))))
                    s = sigmoid(pre)
                    g_0 = g_0 * (s * fma(pre, splat(_ONE) - s, splat(_ONE)))
                store_channels(dx, to, fma(w_0, g_3, fma(w_1, g_2, fma(w_2, g_1, w_3 * g_0))), lanes, narrow)
                dw_0, dw_1, dw_2, dw_3 = (
                    fma(g_0, x_0, dw_0),
                    fma(g_0, x_1, dw_1),
                    fma(g_0, x_2, dw_2),
                    fma(g_0, x_3, dw_3),
                )
                db = db + g_0
                g_1, g_2, g_3 = g_0, g_1, g_2
                to -= channels
            for _t in range(first):
                store_channels(dx, to, splat(_ZERO), lanes, narrow)
                to -= channels
            store(dweight, channel, dw_0)
            store(dweight, padded + channel, dw_1)
            store(dweight, 2 * padded + channel, dw_2)
            store(dweight, 3 * padded + channel, dw_3)
            store(dbias, channel, db)
