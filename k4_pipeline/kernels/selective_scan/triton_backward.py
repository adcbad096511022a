"""Backward kernel of the Triton scan for short sequences.

One program: a few rows of the batch, all channels of each, BD neighbouring ones at a time. Chunks of T bars are taken
from the last to the first: the states of a chunk are recomputed from the state the forward pass saved in front of it
and kept in registers, then the chunk is walked backwards. Sums over states stay inside a thread. Sums over channels, dB
and dC, come from the tensor cores (`SUMS`) or are plain reductions; what the channels before have left is read back
from a buffer that stays in the cache, and the last block of channels writes the result: no atomics, results repeat
bit by bit. dA, dD and the gradient of the bias are summed over the rows of a program and written once.
"""

# ruff: noqa: RUF005  # Triton builds tuples by addition and knows no unpacking
# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

from k4_pipeline.kernels.selective_scan.triton_math import (
    add_warp_sums,
    exp2,
    fold_warps,
    load_channels,
    load_states,
    sigmoid,
    softplus,
    sum_channels,
    warp_selectors,
    widen,
)

_LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _load_chunk(pointer, bar: tl.constexpr, first, d, inside, length, T: tl.constexpr, CHECKED: tl.constexpr):
    """The channels of bars first .. first + T - 1, pointer at the first, in the dtype they are stored in."""
    values = ()
    for i in tl.static_range(T):
        here = inside & (first + i + d * 0 < length)
        values = values + (load_channels(pointer + i * bar, d, here, CHECKED),)
    return values


@triton.jit
def _load_saved(pointer, n, d, channels: tl.constexpr, zero, there):
    at = pointer + n[:, None] * channels + d[None, :] + zero
    return tl.load(at, mask=there[None, :], other=0.0).to(tl.float32)


@triton.jit
def _store_sums(so_far, result, sums, keep, more):
    """To the buffer while there are `more` blocks of channels to come, else to the result."""
    if more:
        tl.store(so_far, sums, mask=keep)
    else:
        tl.store(result, sums.to(result.dtype.element_ty), mask=keep)


@triton.jit(do_not_specialize=["zero", "rows", "batch", "length"])
def scan_backward(
    u_ptr, dt_ptr, z_ptr, bc_ptr, a2_ptr, d_ptr, bias_ptr, saved_ptr, dy_ptr,
    du_ptr, ddt_ptr, dz_ptr, dbc_ptr, so_far_ptr, parameters_ptr,
    batch, rows, length, zero,
    dbc_split,
    u_bar: tl.constexpr, dt_bar: tl.constexpr, z_bar: tl.constexpr, bc_bar: tl.constexpr,
    dy_bar: tl.constexpr, du_bar: tl.constexpr, ddt_bar: tl.constexpr, dz_bar: tl.constexpr,
    dbc_bar: tl.constexpr,
    channels: tl.constexpr, N: tl.constexpr, BD: tl.constexpr, BLOCKS: tl.constexpr, T: tl.constexpr,
    TP: tl.constexpr, TILE: tl.constexpr, FULL: tl.constexpr,
    HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    SUMS: tl.constexpr, KEEP: tl.constexpr, HARDWARE: tl.constexpr,
):  # fmt: skip
    """bc: B and C side by side. du, ddt, dz: (batch, length, channels); dbc: (splits, batch, length, 2 d_state), one
    split for BLOCKS blocks of BD channels; so_far: float32 (splits, batch, chunks, 2, TILE), what a program's blocks
    have added so far; parameters: (parts, d_state + 2, channels)
    float32, the sums over the rows of a program for A, D and the bias.

    SUMS over channels: "warp" (`add_warp_sums`, 16 states, 32 channels per warp), "bf16" (`sum_channels`) or "" (plain
    reductions). KEEP: decays are kept in registers instead of being computed again; adding `zero` hides from the
    compiler that it has them already. FULL and what else `zero` is for: see the forward kernel.
    """
    split = tl.program_id(1)
    n = tl.arange(0, N)
    column = tl.arange(0, TP)
    CHECKED: tl.constexpr = not (FULL and channels % BD == 0)
    LATE: tl.constexpr = T - 2 if T > 1 else 0
    chunks = tl.cdiv(length, T)
    so_far_ptr += split.to(tl.int64) * batch * chunks * 2 * TILE
    dbc_ptr += split * dbc_split

    for unit in range(rows * BLOCKS):
        row, turn = tl.program_id(0).to(tl.int64) * rows + unit // BLOCKS, unit % BLOCKS
        if row < batch:
            d = (split * BLOCKS + turn) * BD + tl.arange(0, BD)
            inside = d < channels
            before, more = turn > 0, turn < BLOCKS - 1
            if SUMS == "warp":  # dC and dB of a chunk as (8, 32): where its elements belong
                selectors = warp_selectors(n, d)
                m, lane = tl.arange(0, 8), tl.arange(0, 32)
                tile_state = (lane // 4)[None, :] + (8 * (m % 4 // 2) + N * (m < 4))[:, None]
                tile_bar = 2 * (lane % 4)[None, :] + (m % 2)[:, None]
                tile_at = m[:, None] * 32 + lane[None, :]
            else:  # one of the two as (d_state, TP)
                tile_state = n[:, None] + 0 * column[None, :]
                tile_bar = column[None, :] + 0 * n[:, None]
                tile_at = n[:, None] * TP + column[None, :]
            tile_keep = tile_bar < T

            a2 = tl.load(a2_ptr + n[:, None] * channels + d[None, :] + zero, mask=inside[None, :], other=0.0)  # (N, BD)
            skip = tl.zeros((BD,), tl.float32)
            if HAS_D:
                skip = tl.load(d_ptr + d, mask=inside, other=0.0).to(tl.float32)
            bias = tl.zeros((BD,), tl.float32)
            if HAS_BIAS:
                bias = tl.load(bias_ptr + d, mask=inside, other=0.0).to(tl.float32)
            # the sums of the rows before; a program has these to itself
            sums_at = parameters_ptr + tl.program_id(0).to(tl.int64) * (N + 2) * channels
            known = inside & (unit + d * 0 >= BLOCKS)
            da_at = sums_at + n[:, None] * channels + d[None, :] + zero
            da = tl.load(da_at, mask=known[None, :], other=0.0)
            dd = tl.load(sums_at + N * channels + d, mask=known, other=0.0)
            dbias = tl.load(sums_at + (N + 1) * channels + d, mask=known, other=0.0)

            g = tl.zeros((N, BD), tl.float32)
            # The operands of a chunk are fetched while the chunk behind it is at work, B and C (small, soon cached)
            # a bar ahead, and always in front of a store: the compiler may not move a load across a store that
            # could overlap it, and would wait for memory.
            last = (chunks - 1) * T
            bar = row * length + last  # of all rows: in every operand a row begins where the one before ends
            ahead_u = _load_chunk(u_ptr + bar * u_bar, u_bar, last, d, inside, length, T, CHECKED)
            ahead_dt = _load_chunk(dt_ptr + bar * dt_bar, dt_bar, last, d, inside, length, T, CHECKED)
            ahead_dy = _load_chunk(dy_ptr + bar * dy_bar, dy_bar, last, d, inside, length, T, CHECKED)
            ahead_z = _load_chunk(z_ptr + bar * z_bar, z_bar, last, d, inside, length, T, CHECKED)
            saved = saved_ptr + (row * (chunks - 1) + chunks - 2) * N * channels
            next_h = _load_saved(saved, n, d, channels, zero, inside & (last + d * 0 > 0))
            next_b = load_states(bc_ptr + bar * bc_bar, n, last, length, FULL)
            next_c = load_states(bc_ptr + bar * bc_bar + N, n, last, length, FULL)
            for back in range(chunks):
                chunk = chunks - 1 - back
                first = chunk * T
                bar = row * length + first
                bc_at, dbc_at = bc_ptr + bar * bc_bar, dbc_ptr + bar * dbc_bar
                du_at, ddt_at, dz_at = du_ptr + bar * du_bar, ddt_ptr + bar * ddt_bar, dz_ptr + bar * dz_bar
                so_far = so_far_ptr + (row * chunks + chunk) * (2 * TILE)
                saved = saved_ptr + (row * (chunks - 1) + chunk - 2) * N * channels
                h = next_h
                inputs, raw_steps, weights, gates = ahead_u, ahead_dt, ahead_dy, ahead_z

                states = ()  # the state in front of each bar of the chunk
                decays = ()
                upstream = ()  # gradients of the ungated output
                steps = ()
                slopes = ()
                keep = tile_keep & (first + tile_bar < length)
                if SUMS == "warp":
                    sums_c = tl.zeros((N, BD), tl.float32)
                    sums_b = tl.zeros((N, BD), tl.float32)
                elif SUMS != "":
                    sums_c = tl.load(so_far + TILE + tile_at, mask=keep & before, other=0.0)
                for i in tl.static_range(T):
                    t = first + i
                    here = inside & (t + d * 0 < length) if CHECKED else (d >= 0)
                    x = inputs[i].to(tl.float32)
                    step = raw_steps[i].to(tl.float32) + bias
                    weight = weights[i].to(tl.float32)
                    b, c = widen(next_b, HARDWARE), widen(next_c, HARDWARE)
                    if i < T - 1:
                        next_b = load_states(bc_at + (i + 1) * bc_bar, n, t + 1, length, FULL)
                        next_c = load_states(bc_at + (i + 1) * bc_bar + N, n, t + 1, length, FULL)
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
                        tl.store(dz_at + i * dz_bar + d, dz.to(dz_ptr.dtype.element_ty), mask=here)
                        weight = weight * gate * s
                    upstream = upstream + (weight,)
                    steps = steps + (step,)
                    to_c = h * weight[None, :]
                    if SUMS == "warp":
                        sums_c = add_warp_sums(sums_c, to_c, selectors, d, i, False)
                    elif SUMS != "":
                        # every column of the product holds the sum; the bar keeps its own
                        sum_c = sum_channels(to_c, TP, SUMS, HARDWARE)
                        sums_c += tl.where(column[None, :] == i, sum_c, 0.0)
                    else:
                        real = t + n * 0 < length
                        sum_c = tl.sum(to_c, axis=1)
                        sum_c += tl.load(so_far + TILE + i * N + n, mask=real & before, other=0.0)
                        _store_sums(so_far + TILE + i * N + n, dbc_at + N + i * dbc_bar + n, sum_c, real, more)

                before_it = tl.maximum(first - T, 0)  # the first chunk fetches itself again, for nobody
                ahead = row * length + before_it
                result_at = dbc_at + tile_bar * dbc_bar + tile_state
                if SUMS == "bf16":
                    sums_b = tl.load(so_far + tile_at, mask=keep & before, other=0.0)
                    _store_sums(so_far + TILE + tile_at, result_at + N, sums_c, keep, more)
                for k in tl.static_range(T):
                    t = first + (T - 1 - k)
                    here = inside & (t + d * 0 < length) if CHECKED else (d >= 0)
                    b, c = widen(next_b, HARDWARE), widen(next_c, HARDWARE)
                    if k < T - 1:
                        next_b = load_states(bc_at + (T - 2 - k) * bc_bar, n, t - 1, length, FULL)
                        next_c = load_states(bc_at + (T - 2 - k) * bc_bar + N, n, t - 1, length, FULL)
                    else:  # the first bar of the next chunk
                        next_b = load_states(bc_ptr + ahead * bc_bar, n, 0, length, True)
                        next_c = load_states(bc_ptr + ahead * bc_bar + N, n, 0, length, True)
                    if k == LATE:  # most of the states are used up: the next chunk's operands find registers
                        ahead_u = _load_chunk(u_ptr + ahead * u_bar, u_bar, before_it, d, inside, length, T, CHECKED)
                        ahead_dt = _load_chunk(
                            dt_ptr + ahead * dt_bar, dt_bar, before_it, d, inside, length, T, CHECKED
                        )
                        ahead_dy = _load_chunk(
                            dy_ptr + ahead * dy_bar, dy_bar, before_it, d, inside, length, T, CHECKED
                        )
                        ahead_z = _load_chunk(z_ptr + ahead * z_bar, z_bar, before_it, d, inside, length, T, CHECKED)
                        next_h = _load_saved(saved, n, d, channels, zero, inside & (first - T + d * 0 > 0))
                        if SUMS == "warp" and BLOCKS > 1:
                            sums_so_far = tl.load(so_far + tile_at, mask=keep & before, other=0.0)
                    x = inputs[T - 1 - k].to(tl.float32)
                    step = steps[T - 1 - k]
                    weight = upstream[T - 1 - k]
                    # past the end of the row nothing flows: weight = 0 there and g is still zero
                    g = g + weight[None, :] * c[:, None]
                    to_b = g * (step * x)[None, :]
                    if SUMS == "warp":
                        sums_b = add_warp_sums(sums_b, to_b, selectors, d, T - 1 - k, True)
                    elif SUMS != "":
                        sum_b = sum_channels(to_b, TP, SUMS, HARDWARE)
                        sums_b += tl.where(column[None, :] == T - 1 - k, sum_b, 0.0)
                    else:
                        real = t + n * 0 < length
                        at = (T - 1 - k) * N + n
                        sum_b = tl.sum(to_b, axis=1)
                        sum_b += tl.load(so_far + at, mask=real & before, other=0.0)
                        _store_sums(so_far + at, dbc_at + (T - 1 - k) * dbc_bar + n, sum_b, real, more)
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
                    tl.store(du_at + (T - 1 - k) * du_bar + d, du.to(du_ptr.dtype.element_ty), mask=here)
                    tl.store(ddt_at + (T - 1 - k) * ddt_bar + d, ddt.to(ddt_ptr.dtype.element_ty), mask=here)
                if SUMS == "warp":
                    sums = fold_warps(sums_c, sums_b, n, BD // 32)
                    if BLOCKS > 1:
                        sums += sums_so_far
                    _store_sums(so_far + tile_at, result_at, sums, keep, more)
                elif SUMS != "":
                    _store_sums(so_far + tile_at, result_at, sums_b, keep, more)

            tl.store(da_at, da, mask=inside[None, :])
            tl.store(sums_at + N * channels + d, dd, mask=inside)
            tl.store(sums_at + (N + 1) * channels + d, dbias, mask=inside)
