"""Forward kernel of the Triton scan for short sequences.

One program: one row of the batch and BD neighbouring channels, one or few channels per thread, all states of a channel
in the registers of its thread, so that the sum over states needs no exchange between threads. Tiles are
(d_state, channels). The loop over the bars is unrolled in chunks of T; strides are compile-time constants, so that
within a chunk they cost no instruction. For the backward pass the state at the end of every chunk but the last is
written out.
"""

# ruff: noqa: RUF005  # Triton builds tuples by addition and knows no unpacking
# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

from k4_pipeline.kernels.selective_scan.triton_math import exp2, load_channels, load_states, sigmoid, softplus, widen


# `length` is not specialised: one compiled kernel serves all lengths that T divides, one more all others.
@triton.jit(do_not_specialize=["zero", "length"])
def scan_forward(
    u_ptr, dt_ptr, z_ptr, bc_ptr, a2_ptr, d_ptr, bias_ptr, y_ptr, saved_ptr,
    length, zero,
    u_bar: tl.constexpr, dt_bar: tl.constexpr, z_bar: tl.constexpr, bc_bar: tl.constexpr,
    channels: tl.constexpr, N: tl.constexpr, BD: tl.constexpr, T: tl.constexpr, FULL: tl.constexpr,
    HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    SAVE: tl.constexpr, HARDWARE: tl.constexpr,
):  # fmt: skip
    """bc: B and C side by side. a2 is A * log2(e), transposed to (d_state, channels). In every operand a row begins
    where the one before ends: strides of rows are `length` times strides of bars. saved: (batch, chunks - 1,
    d_state, channels).

    FULL: T divides the length. `zero` is 0, and because the compiler cannot know that, it gives every thread single
    channels instead of four neighbouring ones, which would spread the states of a channel over threads.
    """
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    n = tl.arange(0, N)
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

    u_ptr += row * length * u_bar
    dt_ptr += row * length * dt_bar
    z_ptr += row * length * z_bar
    bc_ptr += row * length * bc_bar
    y_ptr += row * length * channels
    saved_ptr += row * (chunks - 1) * N * channels

    # Operands are fetched ahead, channels by a chunk, B and C (small, soon cached) by a bar, and always in front of a
    # store: the compiler may not move a load across a store that could overlap it, and would wait for memory.
    ahead_x, ahead_step, ahead_gate = (), (), ()
    for i in tl.static_range(T):
        here = inside & (i + d * 0 < length)
        ahead_x = ahead_x + (load_channels(u_ptr + i * u_bar, d, here, CHECKED),)
        ahead_step = ahead_step + (load_channels(dt_ptr + i * dt_bar, d, here, CHECKED),)
        ahead_gate = ahead_gate + (load_channels(z_ptr + i * z_bar, d, here, CHECKED),)
    next_b = load_states(bc_ptr, n, 0, length, True)
    next_c = load_states(bc_ptr + N, n, 0, length, True)

    h = tl.zeros((N, BD), tl.float32)
    for chunk in range(chunks):
        xs, raw_steps, gates = ahead_x, ahead_step, ahead_gate
        ahead_x, ahead_step, ahead_gate = (), (), ()
        for i in tl.static_range(T):
            here = inside & ((chunk + 1) * T + i + d * 0 < length)  # behind the last chunk there is none
            ahead_x = ahead_x + (load_channels(u_ptr + (T + i) * u_bar, d, here, True),)
            ahead_step = ahead_step + (load_channels(dt_ptr + (T + i) * dt_bar, d, here, True),)
            ahead_gate = ahead_gate + (load_channels(z_ptr + (T + i) * z_bar, d, here, True),)
        for i in tl.static_range(T):
            t = chunk * T + i
            here = inside & (t + d * 0 < length)
            x, step, gate = xs[i].to(tl.float32), raw_steps[i].to(tl.float32) + bias, gates[i].to(tl.float32)
            b, c = widen(next_b, HARDWARE), widen(next_c, HARDWARE)
            next_b = load_states(bc_ptr + (i + 1) * bc_bar, n, t + 1, length, not (CHECKED or i == T - 1))
            next_c = load_states(bc_ptr + (i + 1) * bc_bar + N, n, t + 1, length, not (CHECKED or i == T - 1))
            if SOFTPLUS:
                step = softplus(step, HARDWARE)
            h = exp2(step[None, :] * a2, HARDWARE) * h + (step * x)[None, :] * b[:, None]
            y = tl.sum(h * c[:, None], axis=0) + x * skip
            if HAS_Z:
                y = y * gate * sigmoid(gate, HARDWARE)
            tl.store(y_ptr + i * channels + d, y.to(y_ptr.dtype.element_ty), mask=here)
        if SAVE and chunk < chunks - 1:
            tl.store(
                saved_ptr + n[:, None] * channels + d[None, :] + zero,
                h.to(saved_ptr.dtype.element_ty),
                mask=inside[None, :],
            )
        u_ptr += T * u_bar
        dt_ptr += T * dt_bar
        z_ptr += T * z_bar
        bc_ptr += T * bc_bar
        y_ptr += T * channels
        saved_ptr += N * channels
