"""Backward kernel of the Triton scan for short sequences.

One program: ROWS rows of the batch, one after the other, and BD neighbouring channels. Chunks of T bars are taken from
the last to the first: the states of a chunk are recomputed from the state the forward pass saved in front of it and
kept in registers, then the chunk is walked backwards. Sums over states stay inside a thread. Sums over channels, dB and
dC, are products with a matrix of ones on the tensor cores (`DOT`) or plain reductions; per channel block they go to a
partial buffer, so that no atomic is needed and results repeat bit by bit. dA, dD and the gradient of the bias are
summed over the ROWS rows and written once per program.
"""

# ruff: noqa: RUF005  # Triton builds tuples by addition and knows no unpacking
# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

from k4_pipeline.kernels.selective_scan.triton_math import (
    exp2,
    load_channels,
    load_states,
    sigmoid,
    softplus,
    sum_channels,
    widen,
)

_LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _load_chunk(pointer, bar: tl.constexpr, first, d, inside, length, T: tl.constexpr, CHECKED: tl.constexpr):
    """The channels of bars first .. first + T - 1, pointer at the first, in the dtype they are stored in."""
    values = ()
    for i in tl.static_range(T):
        here = inside & (first + i + d * 0 < length) & (first + d * 0 >= 0)
        values = values + (load_channels(pointer + i * bar, d, here, CHECKED),)
    return values


@triton.jit(do_not_specialize=["zero"])
def scan_backward(
    u_ptr, dt_ptr, z_ptr, b_ptr, c_ptr, a2_ptr, d_ptr, bias_ptr, saved_ptr, dy_ptr,
    du_ptr, ddt_ptr, dz_ptr, db_ptr, dc_ptr, da_ptr, dd_ptr, dbias_ptr,
    batch, length, zero, u_row, dt_row, z_row, b_row, c_row, dy_row,
    u_bar: tl.constexpr, dt_bar: tl.constexpr, z_bar: tl.constexpr, b_bar: tl.constexpr, c_bar: tl.constexpr,
    dy_bar: tl.constexpr, channels: tl.constexpr, N: tl.constexpr, BD: tl.constexpr, T: tl.constexpr,
    TP: tl.constexpr, ROWS: tl.constexpr, FULL: tl.constexpr,
    HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    DOT: tl.constexpr, KEEP: tl.constexpr, HARDWARE: tl.constexpr,
):  # fmt: skip
    """du, ddt, dz: (batch, length, channels); db, dc: (channel blocks, batch, length, d_state) float32 partials;
    da: (row blocks, d_state, channels), dd, dbias: (row blocks, channels) float32 partials.

    DOT: "" for plain sums over channels, else the precision of the product that replaces them. KEEP: decays are kept in
    registers instead of being computed again; adding `zero` hides from the compiler that it has them already. FULL and
    what else `zero` is for: see the forward kernel.
    """
    block = tl.program_id(1)
    d = block * BD + tl.arange(0, BD)
    n = tl.arange(0, N)
    column = tl.arange(0, TP)
    inside = d < channels
    CHECKED: tl.constexpr = not (FULL and channels % BD == 0)
    chunks = tl.cdiv(length, T)

    a2 = tl.load(a2_ptr + n[:, None] * channels + d[None, :] + zero, mask=inside[None, :], other=0.0)  # (N, BD)
    skip = tl.zeros((BD,), tl.float32)
    if HAS_D:
        skip = tl.load(d_ptr + d, mask=inside, other=0.0).to(tl.float32)
    bias = tl.zeros((BD,), tl.float32)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + d, mask=inside, other=0.0).to(tl.float32)
    da = tl.zeros((N, BD), tl.float32)
    dd = tl.zeros((BD,), tl.float32)
    dbias = tl.zeros((BD,), tl.float32)

    for r in range(ROWS):
        row = tl.program_id(0).to(tl.int64) * ROWS + r
        if row < batch:
            g = tl.zeros((N, BD), tl.float32)
            # The operands of a chunk are fetched while the chunk behind it is at work, B and C (small, soon cached) a
            # bar ahead, and always in front of a store: the compiler may not move a load across a store that could
            # overlap it, and would wait for memory.
            last = (chunks - 1) * T
            u_at = u_ptr + row * u_row + last * u_bar
            dt_at = dt_ptr + row * dt_row + last * dt_bar
            z_at = z_ptr + row * z_row + last * z_bar
            dy_at = dy_ptr + row * dy_row + last * dy_bar
            b_at = b_ptr + row * b_row + last * b_bar
            c_at = c_ptr + row * c_row + last * c_bar
            ahead_u = _load_chunk(u_at, u_bar, last, d, inside, length, T, CHECKED)
            ahead_dt = _load_chunk(dt_at, dt_bar, last, d, inside, length, T, CHECKED)
            ahead_dy = _load_chunk(dy_at, dy_bar, last, d, inside, length, T, CHECKED)
            ahead_z = _load_chunk(z_at, z_bar, last, d, inside, length, T, CHECKED)
            saved = saved_ptr + (row * (chunks - 1) + chunks - 2) * N * channels
            for back in range(chunks):
                chunk = chunks - 1 - back
                first = chunk * T
                full = (row * length + first) * channels
                narrow = ((block * batch + row) * length + first) * N
                h = tl.load(
                    saved + n[:, None] * channels + d[None, :] + zero,
                    mask=(inside & (chunk + d * 0 > 0))[None, :],
                    other=0.0,
                ).to(tl.float32)
                inputs, raw_steps, weights, gates = ahead_u, ahead_dt, ahead_dy, ahead_z
                next_b = load_states(b_at, n, first, length, FULL)
                next_c = load_states(c_at, n, first, length, FULL)

                states = ()  # the state in front of each bar of the chunk
                decays = ()
                upstream = ()  # gradients of the ungated output
                steps = ()
                slopes = ()
                sums_c = tl.zeros((N, TP), tl.float32)
                for i in tl.static_range(T):
                    t = first + i
                    here = inside & (t + d * 0 < length)
                    x = inputs[i].to(tl.float32)
                    step = raw_steps[i].to(tl.float32) + bias
                    weight = weights[i].to(tl.float32)
                    b, c = widen(next_b, HARDWARE), widen(next_c, HARDWARE)
                    if i < T - 1:
                        next_b = load_states(b_at + (i + 1) * b_bar, n, t + 1, length, FULL)
                        next_c = load_states(c_at + (i + 1) * c_bar, n, t + 1, length, FULL)
                    if SOFTPLUS:
                        slopes = slopes + (sigmoid(step, HARDWARE),)
                        step = softplus(step, HARDWARE)
                    e = exp2(step[None, :] * a2, HARDWARE)
                    states = states + (h,)
                    h = e * h + (step * x)[None, :] * b[:, None]
                    if KEEP:
                        decays = decays + (e,)
                    if HAS_Z:
                        gate = gates[i].to(tl.float32)
                        s = sigmoid(gate, HARDWARE)
                        y = tl.sum(h * c[:, None], axis=0) + x * skip
                        dz = weight * y * s * (1.0 + gate * (1.0 - s))
                        tl.store(dz_ptr + full + i * channels + d, dz.to(dz_ptr.dtype.element_ty), mask=here)
                        weight = weight * gate * s
                    upstream = upstream + (weight,)
                    steps = steps + (step,)
                    to_c = h * weight[None, :]
                    if DOT == "":
                        tl.store(dc_ptr + narrow + i * N + n, tl.sum(to_c, axis=1), mask=t + n * 0 < length)
                    else:
                        # every column of the product holds the sum; the bar keeps its own
                        sums_c = tl.where(column[None, :] == i, sum_channels(to_c, TP, DOT, HARDWARE), sums_c)

                u_at -= T * u_bar
                dt_at -= T * dt_bar
                z_at -= T * z_bar
                dy_at -= T * dy_bar
                saved -= N * channels
                ahead_u = _load_chunk(u_at, u_bar, first - T, d, inside, length, T, True)
                ahead_dt = _load_chunk(dt_at, dt_bar, first - T, d, inside, length, T, True)
                ahead_dy = _load_chunk(dy_at, dy_bar, first - T, d, inside, length, T, True)
                ahead_z = _load_chunk(z_at, z_bar, first - T, d, inside, length, T, True)
                sums_b = tl.zeros((N, TP), tl.float32)
                for k in tl.static_range(T):
                    t = first + (T - 1 - k)
                    here = inside & (t + d * 0 < length)
                    b, c = widen(next_b, HARDWARE), widen(next_c, HARDWARE)
                    if k < T - 1:
                        next_b = load_states(b_at + (T - 2 - k) * b_bar, n, t - 1, length, FULL)
                        next_c = load_states(c_at + (T - 2 - k) * c_bar, n, t - 1, length, FULL)
                    x = inputs[T - 1 - k].to(tl.float32)
                    step = steps[T - 1 - k]
                    weight = upstream[T - 1 - k]
                    # past the end of the row nothing flows: weight = 0 there and g is still zero
                    g = g + weight[None, :] * c[:, None]
                    to_b = g * (step * x)[None, :]
                    if DOT == "":
                        at = narrow + (T - 1 - k) * N + n
                        tl.store(db_ptr + at, tl.sum(to_b, axis=1), mask=t + n * 0 < length)
                    else:
                        sums_b = tl.where(column[None, :] == T - 1 - k, sum_channels(to_b, TP, DOT, HARDWARE), sums_b)
                    through_b = tl.sum(g * b[:, None], axis=0)
                    if KEEP:
                        g = g * decays[T - 1 - k]
                    else:
                        g = g * exp2((step + zero)[None, :] * a2, HARDWARE)
                    p = g * states[T - 1 - k]
                    da += p * step[None, :]
                    through_a = tl.sum(p * a2, axis=0) * _LN_2
                    du = through_b * step + weight * skip
                    ddt = through_a + through_b * x
                    if SOFTPLUS:
                        ddt = ddt * slopes[T - 1 - k]
                    if CHECKED:
                        ddt = tl.where(here, ddt, 0.0)
                    dd += weight * x
                    dbias += ddt
                    at = full + (T - 1 - k) * channels + d
                    tl.store(du_ptr + at, du.to(du_ptr.dtype.element_ty), mask=here)
                    tl.store(ddt_ptr + at, ddt.to(ddt_ptr.dtype.element_ty), mask=here)
                b_at -= T * b_bar
                c_at -= T * c_bar
                if DOT != "":
                    at = narrow + column[None, :] * N + n[:, None]
                    keep = ((column < T) & (first + column < length))[None, :]
                    tl.store(dc_ptr + at, sums_c, mask=keep)
                    tl.store(db_ptr + at, sums_b, mask=keep)

    part = tl.program_id(0).to(tl.int64)
    tl.store(da_ptr + (part * N + n[:, None]) * channels + d[None, :] + zero, da, mask=inside[None, :])
    tl.store(dd_ptr + part * channels + d, dd, mask=inside)
    tl.store(dbias_ptr + part * channels + d, dbias, mask=inside)
