"""bfloat16 operands of the CPU products: two of them in one uint32, the earlier in the lower half, rounded to nearest.

A product sums over pairs, so its factors lie as pairs of neighbours along the sum: of columns for y = x W' and
dx = dy W (`pairs_of_columns`), of bars for dW = dy' x (`pairs_of_bars`). Only the factors are rounded; sums are
float32. Needs a processor with AVX-512 BF16 (`AVAILABLE`); elsewhere products are float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, types

from k4_pipeline._numba import njit
from k4_pipeline.simd.simd_f32 import (
    INT_VECTOR,
    LANES,
    VECTOR,
    WIDE,
    intrinsic,
    lanes_type,
    load,
    load_channels,
    splat,
    store,
)

AVAILABLE = WIDE and bool(binding.get_host_cpu_features().get("avx512bf16", False))
_ZERO = np.float32(0.0)


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_HALVES = ir.VectorType(_BFloat(), 2 * LANES)
_SHORTS = ir.VectorType(ir.IntType(16), 2 * LANES)


def _call(builder: Any, name: str, result: Any, operands: list[Any]) -> Any:
    kind = ir.FunctionType(result, [operand.type for operand in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), operands)


def add_products_of_pairs(builder: Any, total: Any, x: Any, y: Any) -> Any:
    """LLVM value of total + x_low y_low + x_high y_high in each of sixteen lanes; x and y are sixteen pairs."""
    factors = [builder.bitcast(value, _HALVES) for value in (x, y)]
    return _call(builder, "llvm.x86.avx512bf16.dpbf16ps.512", VECTOR, [total, *factors])


def _store(context: Any, builder: Any, signature: Any, args: Any, value: Any, kind: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    value = builder.bitcast(value, kind)
    builder.store(value, builder.bitcast(builder.gep(data, [args[1]]), kind.as_pointer()), align=4)
    return context.get_dummy_value()


@intrinsic
def store_pairs(typingctx: Any, pairs: Any, offset: Any, low: Any, high: Any) -> Any:
    """Sixteen pairs (low[i], high[i]) into a contiguous uint32 array from `offset` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rounded = _call(builder, "llvm.x86.avx512bf16.cvtne2ps2bf16.512", _HALVES, [args[3], args[2]])
        shorts = builder.bitcast(rounded, _SHORTS)
        order = ir.Constant(ir.VectorType(ir.IntType(32), 2 * LANES), [i // 2 + i % 2 * LANES for i in range(32)])
        return _store(context, builder, signature, args, builder.shuffle_vector(shorts, shorts, order), INT_VECTOR)

    return types.void(pairs, types.intp, lanes_type, lanes_type), codegen


@intrinsic
def store_in_order(typingctx: Any, pairs: Any, offset: Any, first: Any, second: Any) -> Any:
    """Sixteen pairs of the 32 numbers `first`, `second` into a contiguous uint32 array from `offset` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rounded = _call(builder, "llvm.x86.avx512bf16.cvtne2ps2bf16.512", _HALVES, [args[3], args[2]])
        return _store(context, builder, signature, args, rounded, INT_VECTOR)

    return types.void(pairs, types.intp, lanes_type, lanes_type), codegen


@intrinsic
def store_eight(typingctx: Any, pairs: Any, offset: Any, numbers: Any) -> Any:
    """Eight pairs of the sixteen numbers into a contiguous uint32 array from `offset` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        half = ir.VectorType(_BFloat(), LANES)
        rounded = _call(builder, "llvm.x86.avx512bf16.cvtneps2bf16.512", half, [args[2]])
        return _store(context, builder, signature, args, rounded, ir.VectorType(ir.IntType(32), LANES // 2))

    return types.void(pairs, types.intp, lanes_type), codegen


@intrinsic
def load_eight(typingctx: Any, pairs: Any, offset: Any) -> Any:
    """The sixteen numbers of eight pairs of a contiguous uint32 array from `offset` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        shorts = ir.VectorType(ir.IntType(16), LANES)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        value = builder.load(builder.bitcast(builder.gep(data, [args[1]]), shorts.as_pointer()), align=4)
        bits = builder.shl(builder.zext(value, INT_VECTOR), ir.Constant(INT_VECTOR, [16] * LANES))
        return builder.bitcast(bits, VECTOR)

    return lanes_type(pairs, types.intp), codegen


@njit
def pairs_of_columns(bars, width, x, at, pairs, to):  # type: ignore[no-untyped-def]
    """Bars of x from `at` on, `width` numbers each, as pairs of neighbouring columns, from `to` on.

    They are (bars, ceil(width / 2)); an odd column is paired with zero. Where `width` is no multiple of sixteen, up to
    LANES - 1 pairs behind are written too.
    """
    for _i in range(bars):
        for j in range(0, width - LANES, 2 * LANES):
            left = width - j - LANES
            store_in_order(
                pairs, to + j // 2, load(x, at + j), load_channels(x, at + j + LANES, min(left, LANES), True)
            )
        left = width % (2 * LANES)
        if 0 < left <= LANES:
            store_eight(pairs, to + (width - left) // 2, load_channels(x, at + width - left, left, True))
        at += width
        to += (width + 1) // 2


@njit
def numbers_of_columns(bars, width, pairs, at, x):  # type: ignore[no-untyped-def]
    """The inverse of `pairs_of_columns` from `at` on, into x from 0 on; `width` is a multiple of sixteen."""
    for i in range(0, bars * width, LANES):
        store(x, i, load_eight(pairs, at + i // 2))


@njit
def pairs_of_bars(bars, width, x, at, pairs, to):  # type: ignore[no-untyped-def]
    """Bars of x from `at` on as pairs of neighbouring bars: (ceil(bars / 2), width) from `to`; an odd bar with zeros.

    Where `width` is no multiple of sixteen, up to LANES - 1 pairs behind are written too.
    """
    for i in range(0, bars, 2):
        paired = i + 1 < bars
        for j in range(0, width, LANES):
            left = min(LANES, width - j)
            first = load_channels(x, at + j, left, True)
            second = load_channels(x, at + width + j, left, True) if paired else splat(_ZERO)
            store_pairs(pairs, to + j, first, second)
        at += 2 * width
        to += width
