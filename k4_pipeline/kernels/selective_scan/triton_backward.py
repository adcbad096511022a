"""Backward kernel of the Triton scan for short sequences.

One program: ROWS rows of the batch, one after the other, and BD neighbouring channels. Chunks of T bars are taken from
the last to the first: the states of a chunk are recomputed from the state the forward pass saved in front of it and
kept in registers, then the chunk is walked backwards. Sums over states stay inside a thread. Sums over channels, dB and
dC, are products with a one-hot matrix on the tensor cores (`DOT`) or plain reductions; per channel block they go to a
partial buffer, so that no atomic is needed and results repeat bit by bit. dA, dD and the gradient of the bias are
summed over the ROWS rows and written once per program.
"""

from __future__ import annotations

import triton
import triton.language as tl

from k4_pipeline.kernels.selective_scan.triton_math import exp2, load_channels, load_states, sigmoid, softplus, to_bf16

_LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit(do_not_specialize=["zero"])
def scan_backward(
    u_ptr, dt_ptr, z_ptr, b_ptr, c_ptr, a2_ptr, d_ptr, bias_ptr, saved_ptr, dy_ptr,
    du_ptr, ddt_ptr, dz_ptr, db_ptr, dc_ptr, da_ptr, dd_ptr, dbias_ptr,
    batch, length, channels, zero,
    u_row, u_bar, dt_row, dt_bar, z_row, z_bar, b_row, b_bar, c_row, c_bar, dy_row, dy_bar,
    N: tl.constexpr, BD: tl.constexpr, T: tl.constexpr, TP: tl.constexpr, ROWS: tl.constexpr, EVEN: tl.constexpr, FULL: tl.constexpr,
    HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    DOT: tl.constexpr, KEEP: tl.constexpr, HARDWARE: tl.constexpr,
):  # fmt: skip
    """du, ddt, dz: (batch, length, channels); db, dc: (channel blocks, batch, length, d_state) float32 partials;
    da: (row blocks, d_state, channels), dd, dbias: (row blocks, channels) float32 partials.

    DOT: "" for plain sums, else the input precision of the product. KEEP: decays are kept in registers instead of
    being computed again.
    """
    block = tl.program_id(1)
    d = block * BD + tl.arange(0, BD)
    n = tl.arange(0, N)
    column = tl.arange(0, TP)
    inside = d < channels
    CHECKED: tl.constexpr = not (EVEN and FULL)
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
            full = row * length * channels
            narrow = (block * batch + row) * length * N
            saved = saved_ptr + row * (chunks - 1) * N * channels
            g = tl.zeros((N, BD), tl.float32)
            for back in range(chunks):
                chunk = chunks - 1 - back
                h = tl.load(
                    saved + (chunk - 1) * N * channels + n[:, None] * channels + d[None, :] + zero,
                    mask=(inside & (chunk + d * 0 > 0))[None, :],
                    other=0.0,
                )
                states = (h,)
                decays = ()
                weights = ()
                for i in tl.static_range(T):
                    t = chunk * T + i
                    here = inside & (t + d * 0 < length)
                    x = load_channels(u_ptr + row * u_row + t * u_bar, d, here, CHECKED)
                    step = load_channels(dt_ptr + row * dt_row + t * dt_bar, d, here, CHECKED) + bias
                    weight = load_channels(dy_ptr + row * dy_row + t * dy_bar, d, here, CHECKED)
                    b = load_states(b_ptr + row * b_row + t * b_bar, n, t, length, FULL)
                    if SOFTPLUS:
                        step = softplus(step, HARDWARE)
                    e = exp2(step[None, :] * a2, HARDWARE)
                    h = e * h + (step * x)[None, :] * b[:, None]
                    states = states + (h,)
                    if KEEP:
                        decays = decays + (e,)
                    if HAS_Z:
                        c = load_states(c_ptr + row * c_row + t * c_bar, n, t, length, FULL)
                        gate = load_channels(z_ptr + row * z_row + t * z_bar, d, here, CHECKED)
                        s = sigmoid(gate, HARDWARE)
                        y = tl.sum(h * c[:, None], axis=0) + x * skip
                        dz = weight * y * s * (1.0 + gate * (1.0 - s))
                        tl.store(dz_ptr + full + t * channels + d, dz.to(dz_ptr.dtype.element_ty), mask=here)
                        weight = weight * gate * s
                    weights = weights + (weight,)

                sums_b = tl.zeros((N, TP), tl.float32)
                sums_c = tl.zeros((N, TP), tl.float32)
                for k in tl.static_range(T):
                    t = chunk * T + (T - 1 - k)
                    here = inside & (t + d * 0 < length)
                    x = load_channels(u_ptr + row * u_row + t * u_bar, d, here, CHECKED)
                    raw = load_channels(dt_ptr + row * dt_row + t * dt_bar, d, here, CHECKED) + bias
                    b = load_states(b_ptr + row * b_row + t * b_bar, n, t, length, FULL)
                    c = load_states(c_ptr + row * c_row + t * c_bar, n, t, length, FULL)
                    step = raw
                    if SOFTPLUS:
                        step = softplus(raw, HARDWARE)
                    weight = weights[T - 1 - k]
                    push = step * x
                    # past the end of the row nothing flows: weight = 0 there and g is still zero
                    g = g + weight[None, :] * c[:, None]
                    to_c = states[T - k] * weight[None, :]
                    to_b = g * push[None, :]
                    if DOT == "":
                        at = narrow + t * N + n
                        tl.store(dc_ptr + at, tl.sum(to_c, axis=1), mask=t + n * 0 < length)
                        tl.store(db_ptr + at, tl.sum(to_b, axis=1), mask=t + n * 0 < length)
                    else:
                        if DOT == "bf16" and HARDWARE:
                            ones = tl.full((BD, TP), 1.0, tl.bfloat16)
                            total_c = tl.dot(to_bf16(to_c, HARDWARE), ones)
                            total_b = tl.dot(to_bf16(to_b, HARDWARE), ones)
                        elif DOT == "bf16":  # the interpreter's product does not know bf16
                            ones = tl.full((BD, TP), 1.0, tl.float32)
                            total_c = tl.dot(to_bf16(to_c, HARDWARE).to(tl.float32), ones)
                            total_b = tl.dot(to_bf16(to_b, HARDWARE).to(tl.float32), ones)
                        else:
                            ones = tl.full((BD, TP), 1.0, tl.float32)
                            total_c = tl.dot(to_c, ones, input_precision=DOT)
                            total_b = tl.dot(to_b, ones, input_precision=DOT)
                        # every column holds the sum; this bar keeps its own
                        sums_c = tl.where(column[None, :] == T - 1 - k, total_c, sums_c)
                        sums_b = tl.where(column[None, :] == T - 1 - k, total_b, sums_b)
                    through_b = tl.sum(g * b[:, None], axis=0)
                    if KEEP:
                        g = g * decays[T - 1 - k]
                    else:
                        g = g * exp2(step[None, :] * a2, HARDWARE)
                    p = g * states[T - 1 - k]
                    da += p * step[None, :]
                    through_a = tl.sum(p * a2, axis=0) * _LN_2
                    du = through_b * step + weight * skip
                    ddt = through_a + through_b * x
                    if SOFTPLUS:
                        ddt = ddt * sigmoid(raw, HARDWARE)
                    if CHECKED:
                        ddt = tl.where(here, ddt, 0.0)
                    dd += weight * x
                    dbias += ddt
                    tl.store(du_ptr + full + t * channels + d, du.to(du_ptr.dtype.element_ty), mask=here)
                    tl.store(ddt_ptr + full + t * channels + d, ddt.to(ddt_ptr.dtype.element_ty), mask=here)
                if DOT != "":
                    bars = chunk * T + column
                    at = narrow + bars[None, :] * N + n[:, None]
                    keep = ((column < T) & (bars < length))[None, :]
                    tl.store(dc_ptr + at, sums_c, mask=keep)
                    tl.store(db_ptr + at, sums_b, mask=keep)

    part = tl.program_id(0).to(tl.int64)
    tl.store(da_ptr + (part * N + n[:, None]) * channels + d[None, :] + zero, da, mask=inside[None, :])
    tl.store(dd_ptr + part * channels + d, dd, mask=inside)
    tl.store(dbias_ptr + part * channels + d, dbias, mask=inside)
