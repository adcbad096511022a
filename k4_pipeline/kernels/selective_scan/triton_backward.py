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

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

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


class Operands(NamedTuple):
    """What the backward pass reads. bc: B and C side by side; a2: A * log2(e), (d_state, channels)."""

    u: Tensor
    dt: Tensor
    z: Tensor
    bc: Tensor
    a2: Tensor
    d: Tensor
    bias: Tensor
    saved: Tensor
    dy: Tensor


class Results(NamedTuple):
    """What it writes.

    du, ddt, dz: (batch, length, channels); dbc: (splits, batch, length, 2 d_state); so_far: float32 (splits, batch,
    chunks, 2, tile), what a program's blocks have added so far; parameters: float32 (parts, d_state + 2, channels), the
    sums over the rows of a program for A, D and the bias.
    """

    du: Tensor
    ddt: Tensor
    dz: Tensor
    dbc: Tensor
    so_far: Tensor
    parameters: Tensor


class BarStrides(NamedTuple):
    """Distance of two bars in elements, by operand and result."""

    u: int
    dt: int
    z: int
    bc: int
    dy: int
    du: int
    ddt: int
    dz: int
    dbc: int


class Sizes(NamedTuple):
    """A split is `blocks` blocks of `channels_at_once`, a chunk `bars` bars; `full`: chunks divide the length."""

    channels: int
    states: int
    channels_at_once: int
    blocks: int
    bars: int
    tile: int
    full: bool


class How(NamedTuple):
    """Which operands there are, and how sums and exponentials are computed.

    sums over channels: "warp" (`add_warp_sums`, 16 states, 32 channels per warp), "bf16" (`sum_channels`) or "" (plain
    reductions). keep_decays: in registers, instead of computing them again.
    """

    has_d: bool
    has_z: bool
    has_bias: bool
    softplus: bool
    sums: str
    keep_decays: bool
    hardware: bool


@triton.jit(do_not_specialize=["zero", "rows", "batch", "length"])
def scan_backward(
    given, out, batch, rows, length, zero, dbc_split, bars: tl.constexpr, sizes: tl.constexpr, how: tl.constexpr
):
    """Gradients of `rows` rows and one split of the channels a program; dbc of a split is `dbc_split` elements.

    Adding `zero` also hides from the compiler that it has the decays already where they are computed again; what else
    `zero` is for: see the forward kernel.
    """
    channels: tl.constexpr = sizes.channels
    N: tl.constexpr = sizes.states
    BD: tl.constexpr = sizes.channels_at_once
    BLOCKS: tl.constexpr = sizes.blocks
    T: tl.constexpr = sizes.bars
    TP: tl.constexpr = 16
    TILE: tl.constexpr = sizes.tile
    FULL: tl.constexpr = sizes.full
    SUMS: tl.constexpr = how.sums
    HARDWARE: tl.constexpr = how.hardware
    split = tl.program_id(1)
    n = tl.arange(0, N)
    column = tl.arange(0, TP)
    CHECKED: tl.constexpr = not (FULL and channels % BD == 0)
    LATE: tl.constexpr = T - 2 if T > 1 else 0
    chunks = tl.cdiv(length, T)
    so_far_ptr = out.so_far + split.to(tl.int64) * batch * chunks * 2 * TILE
    dbc_ptr = out.dbc + split * dbc_split

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

            a2 = tl.load(
                given.a2 + n[:, None] * channels + d[None, :] + zero, mask=inside[None, :], other=0.0
            )  # (N, BD)
            skip = tl.zeros((BD,), tl.float32)
            if how.has_d:
                skip = tl.load(given.d + d, mask=inside, other=0.0).to(tl.float32)
            bias = tl.zeros((BD,), tl.float32)
            if how.has_bias:
                bias = tl.load(given.bias + d, mask=inside, other=0.0).to(tl.float32)
            # the sums of the rows before; a program has these to itself
            sums_at = out.parameters + tl.program_id(0).to(tl.int64) * (N + 2) * channels
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
            ahead_u = _load_chunk(given.u + bar * bars.u, bars.u, last, d, inside, length, T, CHECKED)
            ahead_dt = _load_chunk(given.dt + bar * bars.dt, bars.dt, last, d, inside, length, T, CHECKED)
            ahead_dy = _load_chunk(given.dy + bar * bars.dy, bars.dy, last, d, inside, length, T, CHECKED)
            ahead_z = _load_chunk(given.z + bar * bars.z, bars.z, last, d, inside, length, T, CHECKED)
            saved = given.saved + (row * (chunks - 1) + chunks - 2) * N * channels
            next_h = _load_saved(saved, n, d, channels, zero, inside & (last + d * 0 > 0))
            next_b = load_states(given.bc + bar * bars.bc, n, last, length, FULL)
            next_c = load_states(given.bc + bar * bars.bc + N, n, last, length, FULL)
            for back in range(chunks):
                chunk = chunks - 1 - back
                first = chunk * T
                bar = row * length + first
                bc_at, dbc_at = given.bc + bar * bars.bc, dbc_ptr + bar * bars.dbc
                du_at, ddt_at, dz_at = out.du + bar * bars.du, out.ddt + bar * bars.ddt, out.dz + bar * bars.dz
                so_far = so_far_ptr + (row * chunks + chunk) * (2 * TILE)
                saved = given.saved + (row * (chunks - 1) + chunk - 2) * N * channels
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
                        next_b = load_states(bc_at + (i + 1) * bars.bc, n, t + 1, length, FULL)
                        next_c = load_states(bc_at + (i + 1) * bars.bc + N, n, t + 1, length, FULL)
                    if how.softplus:
                        slopes = slopes + (sigmoid(step, HARDWARE),)
                        step = softplus(step, HARDWARE)
                    e = exp2(step[None, :] * a2, HARDWARE)
                    states = states + (h,)
                    h = e * h + (step * x)[None, :] * b[:, None]
                    if how.keep_decays:
                        decays = decays + (e,)
                    if how.has_z:
                        gate = gates[i].to(tl.float32)
                        s = sigmoid(gate, HARDWARE)
                        y = tl.sum(h * c[:, None], axis=0) + x * skip
                        dz = weight * y * s * (1.0 + gate * (1.0 - s))
                        tl.store(dz_at + i * bars.dz + d, dz.to(out.dz.dtype.element_ty), mask=here)
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
                        _store_sums(so_far + TILE + i * N + n, dbc_at + N + i * bars.dbc + n, sum_c, real, more)

                before_it = tl.maximum(first - T, 0)  # the first chunk fetches itself again, unused
                ahead = row * length + before_it
                result_at = dbc_at + tile_bar * bars.dbc + tile_state
                if SUMS == "bf16":
                    sums_b = tl.load(so_far + tile_at, mask=keep & before, other=0.0)
                    _store_sums(so_far + TILE + tile_at, result_at + N, sums_c, keep, more)
                for k in tl.static_range(T):
                    t = first + (T - 1 - k)
                    here = inside & (t + d * 0 < length) if CHECKED else (d >= 0)
                    b, c = widen(next_b, HARDWARE), widen(next_c, HARDWARE)
                    if k < T - 1:
                        next_b = load_states(bc_at + (T - 2 - k) * bars.bc, n, t - 1, length, FULL)
                        next_c = load_states(bc_at + (T - 2 - k) * bars.bc + N, n, t - 1, length, FULL)
                    else:  # the first bar of the next chunk
                        next_b = load_states(given.bc + ahead * bars.bc, n, 0, length, True)
                        next_c = load_states(given.bc + ahead * bars.bc + N, n, 0, length, True)
                    if k == LATE:  # most of the states are used up: the next chunk's operands find registers
                        ahead_u = _load_chunk(
                            given.u + ahead * bars.u, bars.u, before_it, d, inside, length, T, CHECKED
                        )
                        ahead_dt = _load_chunk(
                            given.dt + ahead * bars.dt, bars.dt, before_it, d, inside, length, T, CHECKED
                        )
                        ahead_dy = _load_chunk(
                            given.dy + ahead * bars.dy, bars.dy, before_it, d, inside, length, T, CHECKED
                        )
                        ahead_z = _load_chunk(
                            given.z + ahead * bars.z, bars.z, before_it, d, inside, length, T, CHECKED
                        )
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
                        _store_sums(so_far + at, dbc_at + (T - 1 - k) * bars.dbc + n, sum_b, real, more)
                    through_b = tl.sum(g * b[:, None], axis=0)
                    if how.keep_decays:
                        g = g * decays[T - 1 - k]
                    else:
                        g = g * exp2((step + zero)[None, :] * a2, HARDWARE)
                    p = g * states[T - 1 - k]
                    da += p * step[None, :]
                    through_a = tl.sum(p * a2, axis=0) * _LN_2
                    du = through_b * step + weight * skip
                    ddt = through_a + through_b * x
                    if how.softplus:
                        ddt = ddt * slopes[T - 1 - k]
                    if CHECKED:
                        ddt = tl.where(here, ddt, 0.0)
                    dd += weight * x
                    dbias += ddt
                    tl.store(du_at + (T - 1 - k) * bars.du + d, du.to(out.du.dtype.element_ty), mask=here)
                    tl.store(ddt_at + (T - 1 - k) * bars.ddt + d, ddt.to(out.ddt.dtype.element_ty), mask=here)
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
