"""The selective scan on a CPU: numba kernels over rows of the batch, forward and backward, float32.

Sixteen channels are handled at a time (one lane group) and four states, whose decay, state and readout stay in
registers while the loop runs over the bars. The backward pass recomputes the states of one row and lane group into a
buffer that fits the first-level cache, so that the forward pass stores nothing but its output.

Arrays are flat; row b and bar t of a (batch, length, channels) input begin at b * stride[0] + t * stride[1].
`a2` is A * log2(e), packed as (groups, d_state, 16); D and the bias are padded to whole groups; d_state is a multiple
of four (padded states have A = B = C = 0 and stay zero).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.kernels.flat_views import FlatView
from k4_pipeline.simd.simd_f32 import fma, load, load_channels, splat, spread, store, store_channels, sum_of_four
from k4_pipeline.simd.simd_math import exp2, exp2_falling, sigmoid, softplus, softplus_and_slope

W = 16  # channels of one lane group
S = 4  # states in flight
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


class Sizes(NamedTuple):
    """Sizes of the scan; the batch is what the rows are taken from."""

    length: int
    d_inner: int
    d_state: int


class Mode(NamedTuple):
    """`narrow`: see simd_f32.narrow; `grows`: None where no decay exceeds one; the rest as the scan's arguments."""

    narrow: bool | None
    grows: bool | None
    softplus: bool
    gated: bool


class Inputs(NamedTuple):
    """The operands that change from bar to bar; z is any of them where nothing is gated."""

    u: FlatView
    dt: FlatView
    z: FlatView
    b: FlatView
    c: FlatView


class Weights(NamedTuple):
    """The operands by channel."""

    a2: np.ndarray
    d: np.ndarray
    bias: np.ndarray


class Gradients(NamedTuple):
    """Gradients of the inputs, contiguous."""

    u: np.ndarray
    dt: np.ndarray
    z: np.ndarray
    b: np.ndarray
    c: np.ndarray


class Sums(NamedTuple):
    """Gradients of the weights, as sums over rows; `a` is packed like a2."""

    a: np.ndarray
    d: np.ndarray
    bias: np.ndarray


@njit
def _decay(x, grows):  # type: ignore[no-untyped-def]
    """2**x; `grows` is None where x cannot be positive, which is cheaper (numba compiles the two apart)."""
    if grows is None:
        return exp2_falling(x)
    return exp2(x)


@njit
def _step_sizes(  # type: ignore[no-untyped-def]
    length, lanes, narrow, u, u_at, u_t, dt, dt_at, dt_t, bias, use_softplus, delta, drive, readout, slopes
):
    """delta_t and delta_t * u_t of one row and lane group; clears the readout.

    Writes d(delta_t) / d(dt_t) unless `slopes` is None.
    """
    for t in range(length):
        step = load_channels(dt, dt_at + t * dt_t, lanes, narrow) + bias
        if slopes is None:
            if use_softplus:
                step = softplus(step)
        elif use_softplus:
            step, slope = softplus_and_slope(step)
            store(slopes, t * W, slope)
        else:
            store(slopes, t * W, splat(_ONE))
        store(delta, t * W, step)
        store(drive, t * W, step * load_channels(u, u_at + t * u_t, lanes, narrow))
        store(readout, t * W, splat(_ZERO))


@njit
def forward_rows(start, stop, sizes, mode, inputs, weights, y):  # type: ignore[no-untyped-def]
    """Rows start..stop of y, which is contiguous."""
    length, d_inner, d_state = sizes
    narrow, grows, use_softplus, has_gate = mode
    (u, u_stride), (dt, dt_stride), (z, z_stride), (b, b_stride), (c, c_stride) = inputs
    a2, d, bias = weights
    delta = np.empty(length * W, np.float32)
    drive = np.empty(length * W, np.float32)
    readout = np.empty(length * W, np.float32)
    for row in range(start, stop):
        for channel in range(0, d_inner, W):
            lanes = min(W, d_inner - channel)
            u_at = row * u_stride[0] + channel
            _step_sizes(
                length, lanes, narrow, u, u_at, u_stride[1], dt, row * dt_stride[0] + channel, dt_stride[1],
                load(bias, channel), use_softplus, delta, drive, readout, None,
            )  # fmt: skip
            for n in range(0, d_state, S):
                a_at = channel * d_state + n * W
                a_0, a_1, a_2, a_3 = load(a2, a_at), load(a2, a_at + W), load(a2, a_at + 2 * W), load(a2, a_at + 3 * W)
                h_0 = h_1 = h_2 = h_3 = splat(_ZERO)
                b_at, c_at = row * b_stride[0] + n, row * c_stride[0] + n
                for t in range(length):
                    step, push = load(delta, t * W), load(drive, t * W)
                    h_0 = fma(_decay(step * a_0, grows), h_0, push * spread(b, b_at))
                    h_1 = fma(_decay(step * a_1, grows), h_1, push * spread(b, b_at + 1))
                    h_2 = fma(_decay(step * a_2, grows), h_2, push * spread(b, b_at + 2))
                    h_3 = fma(_decay(step * a_3, grows), h_3, push * spread(b, b_at + 3))
                    out = fma(h_0, spread(c, c_at), load(readout, t * W))
                    out = fma(h_1, spread(c, c_at + 1), out)
                    out = fma(h_2, spread(c, c_at + 2), out)
                    store(readout, t * W, fma(h_3, spread(c, c_at + 3), out))
                    b_at += b_stride[1]
                    c_at += c_stride[1]
            skip = load(d, channel)
            for t in range(length):
                out = fma(load_channels(u, u_at + t * u_stride[1], lanes, narrow), skip, load(readout, t * W))
                if has_gate:
                    gate = load_channels(z, row * z_stride[0] + t * z_stride[1] + channel, lanes, narrow)
                    out = out * (gate * sigmoid(gate))
                store_channels(y, (row * length + t) * d_inner + channel, out, lanes, narrow)


@njit
def backward_rows(  # type: ignore[no-untyped-def]
    start, stop, sizes, mode, inputs, weights, a, upstream, gradients, sums, y
):
    """Gradients of rows start..stop, and their sums; `upstream` is the flat view of dy, `a` is packed like a2.

    y is the output of the forward pass again where it has space for it (gate only), and untouched where it is empty.
    y may be dy and ddt may be dt: each is read for the last time where the other is written.

    With g_t = dL/dh_t (through y_t and h_{t+1}) and e_t = exp(delta_t A):
    dB_t = sum_channels g_t delta_t u_t, dC_t = sum_channels dy_t h_t, dA = sum_t g_t e_t h_{t-1} delta_t,
    d(delta_t) = sum_states g_t (e_t h_{t-1} A + B_t u_t), du_t = sum_states g_t B_t delta_t + D dy_t.
    """
    length, d_inner, d_state = sizes
    narrow, grows, use_softplus, has_gate = mode
    (u, u_stride), (dt, dt_stride), (z, z_stride), (b, b_stride), (c, c_stride) = inputs
    a2, d, bias = weights
    dy, dy_stride = upstream
    du, ddt, dz, db, dc = gradients
    da, dd, dbias = sums
    delta = np.empty(length * W, np.float32)
    drive = np.empty(length * W, np.float32)
    readout = np.empty(length * W, np.float32)
    slopes = np.empty(length * W, np.float32)
    gates = np.empty(length * W, np.float32)  # silu(z)
    gated = np.empty(length * W, np.float32)  # dy * silu(z)
    through_z = np.empty(length * W, np.float32)  # dy * silu'(z)
    through_a = np.empty(length * W, np.float32)  # sum over states of g e h A
    through_b = np.empty(length * W, np.float32)  # sum over states of g B
    decays = np.empty(length * S * W, np.float32)
    states = np.empty((length + 1) * S * W, np.float32)  # states[t + 1] is h_t, states[0] is zero
    sums_b = np.empty(length * d_state * 4, np.float32)
    sums_c = np.empty(length * d_state * 4, np.float32)
    states[: S * W] = _ZERO
    for row in range(start, stop):
        sums_b[:] = _ZERO
        sums_c[:] = _ZERO
        for channel in range(0, d_inner, W):
            lanes = min(W, d_inner - channel)
            u_at, dt_at = row * u_stride[0] + channel, row * dt_stride[0] + channel
            z_at, dy_at = row * z_stride[0] + channel, row * dy_stride[0] + channel
            _step_sizes(
                length, lanes, narrow, u, u_at, u_stride[1], dt, dt_at, dt_stride[1],
                load(bias, channel), use_softplus, delta, drive, readout, slopes,
            )  # fmt: skip
            for t in range(length):
                weight = load_channels(dy, dy_at + t * dy_stride[1], lanes, narrow)
                if has_gate:
                    gate = load_channels(z, z_at + t * z_stride[1], lanes, narrow)
                    s = sigmoid(gate)
                    store(gates, t * W, gate * s)
                    store(through_z, t * W, weight * s * fma(gate, splat(_ONE) - s, splat(_ONE)))
                    weight = weight * (gate * s)
                store(gated, t * W, weight)
                store(through_a, t * W, splat(_ZERO))
                store(through_b, t * W, splat(_ZERO))
            for n in range(0, d_state, S):
                a_at = channel * d_state + n * W
                a_0, a_1, a_2, a_3 = load(a2, a_at), load(a2, a_at + W), load(a2, a_at + 2 * W), load(a2, a_at + 3 * W)
                h_0 = h_1 = h_2 = h_3 = splat(_ZERO)
                b_at, c_at = row * b_stride[0] + n, row * c_stride[0] + n
                for t in range(length):
                    step, push = load(delta, t * W), load(drive, t * W)
                    at, to = t * S * W, (t + 1) * S * W
                    e_0, e_1, e_2, e_3 = (
                        _decay(step * a_0, grows),
                        _decay(step * a_1, grows),
                        _decay(step * a_2, grows),
                        _decay(step * a_3, grows),
                    )
                    store(decays, at, e_0)
                    store(decays, at + W, e_1)
                    store(decays, at + 2 * W, e_2)
                    store(decays, at + 3 * W, e_3)
                    h_0 = fma(e_0, h_0, push * spread(b, b_at))
                    h_1 = fma(e_1, h_1, push * spread(b, b_at + 1))
                    h_2 = fma(e_2, h_2, push * spread(b, b_at + 2))
                    h_3 = fma(e_3, h_3, push * spread(b, b_at + 3))
                    store(states, to, h_0)
                    store(states, to + W, h_1)
                    store(states, to + 2 * W, h_2)
                    store(states, to + 3 * W, h_3)
                    if has_gate:
                        out = fma(h_0, spread(c, c_at), load(readout, t * W))
                        out = fma(h_1, spread(c, c_at + 1), out)
                        out = fma(h_2, spread(c, c_at + 2), out)
                        store(readout, t * W, fma(h_3, spread(c, c_at + 3), out))
                    b_at += b_stride[1]
                    c_at += c_stride[1]

                a_0, a_1, a_2, a_3 = load(a, a_at), load(a, a_at + W), load(a, a_at + 2 * W), load(a, a_at + 3 * W)
                g_0 = g_1 = g_2 = g_3 = splat(_ZERO)
                da_0 = da_1 = da_2 = da_3 = splat(_ZERO)
                for t in range(length - 1, -1, -1):
                    b_at -= b_stride[1]
                    c_at -= c_stride[1]
                    at, to = t * S * W, (t + 1) * S * W
                    weight, step, push = load(gated, t * W), load(delta, t * W), load(drive, t * W)
                    g_0 = fma(weight, spread(c, c_at), g_0)
                    g_1 = fma(weight, spread(c, c_at + 1), g_1)
                    g_2 = fma(weight, spread(c, c_at + 2), g_2)
                    g_3 = fma(weight, spread(c, c_at + 3), g_3)
                    sum_at = t * d_state * 4 + n * 4
                    total = sum_of_four(weight * h_0, weight * h_1, weight * h_2, weight * h_3)
                    store(sums_c, sum_at, load(sums_c, sum_at) + total)
                    total = sum_of_four(push * g_0, push * g_1, push * g_2, push * g_3)
                    store(sums_b, sum_at, load(sums_b, sum_at) + total)
                    out = fma(g_0, spread(b, b_at), load(through_b, t * W))
                    out = fma(g_1, spread(b, b_at + 1), out)
                    out = fma(g_2, spread(b, b_at + 2), out)
                    store(through_b, t * W, fma(g_3, spread(b, b_at + 3), out))
                    # g becomes g e; times h_{t-1} it feeds A and delta, by itself it is the part of g_{t-1} from h_t
                    g_0 = g_0 * load(decays, at)
                    g_1 = g_1 * load(decays, at + W)
                    g_2 = g_2 * load(decays, at + 2 * W)
                    g_3 = g_3 * load(decays, at + 3 * W)
                    h_0, h_1, h_2, h_3 = (
                        load(states, at), load(states, at + W), load(states, at + 2 * W), load(states, at + 3 * W)
                    )  # fmt: skip
                    p_0, p_1, p_2, p_3 = g_0 * h_0, g_1 * h_1, g_2 * h_2, g_3 * h_3
                    da_0, da_1, da_2, da_3 = (
                        fma(p_0, step, da_0), fma(p_1, step, da_1), fma(p_2, step, da_2), fma(p_3, step, da_3)
                    )  # fmt: skip
                    out = fma(p_0, a_0, load(through_a, t * W))
                    out = fma(p_1, a_1, out)
                    out = fma(p_2, a_2, out)
                    store(through_a, t * W, fma(p_3, a_3, out))
                store(da, a_at, load(da, a_at) + da_0)
                store(da, a_at + W, load(da, a_at + W) + da_1)
                store(da, a_at + 2 * W, load(da, a_at + 2 * W) + da_2)
                store(da, a_at + 3 * W, load(da, a_at + 3 * W) + da_3)

            skip = load(d, channel)
            dd_sum, dbias_sum = load(dd, channel), load(dbias, channel)
            for t in range(length):
                x = load_channels(u, u_at + t * u_stride[1], lanes, narrow)
                weight, from_b = load(gated, t * W), load(through_b, t * W)
                at = (row * length + t) * d_inner + channel
                dd_sum = fma(weight, x, dd_sum)
                store_channels(du, at, fma(from_b, load(delta, t * W), weight * skip), lanes, narrow)
                grad = fma(from_b, x, load(through_a, t * W)) * load(slopes, t * W)
                dbias_sum = dbias_sum + grad
                store_channels(ddt, at, grad, lanes, narrow)
                if has_gate:
                    plain = fma(x, skip, load(readout, t * W))
                    if y.size:
                        store_channels(y, at, plain * load(gates, t * W), lanes, narrow)
                    store_channels(dz, at, plain * load(through_z, t * W), lanes, narrow)
            store(dd, channel, dd_sum)
            store(dbias, channel, dbias_sum)
        for t in range(length):
            for n in range(d_state):
                at = (t * d_state + n) * 4
                to = (row * length + t) * d_state + n
                db[to] = (sums_b[at] + sums_b[at + 1]) + (sums_b[at + 2] + sums_b[at + 3])
                dc[to] = (sums_c[at] + sums_c[at + 1]) + (sums_c[at + 2] + sums_c[at + 3])
