"""Sixteen float32 lanes as one numba value, for the CPU kernels.

numba cannot promise LLVM that two arrays do not overlap, so its vectoriser guards every short loop with overlap checks
or gives up. Here a lane group is a value of its own (`<16 x float>` in LLVM): one AVX-512 register, two AVX2 or four
SSE registers, chosen by LLVM for the processor at hand. No fast-math flag is set anywhere: NaN and inf travel as IEEE
says, sums keep the order they are written in, and only `fma` fuses where the hardware can.

Compiled through `k4_pipeline._numba`, so a change here also changes the name of the cache folder.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic as numba_intrinsic
from numba.extending import models, overload, register_model

from k4_pipeline._numba import njit

intrinsic: Any = numba_intrinsic  # called without the typing context that its own signature names

LANES = 16
_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_INT_VECTOR = ir.VectorType(_INT, LANES)
_MASK_VECTOR = ir.VectorType(ir.IntType(1), LANES)

LOG2_E = np.float32(math.log2(math.e))


class Lanes(types.Type):
    """numba type of sixteen float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


lanes_type = Lanes()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VECTOR)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_VECTOR, [float(np.float32(value))] * LANES)


def _int_constant(value: int) -> ir.Constant:
    return ir.Constant(_INT_VECTOR, [value] * LANES)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), _VECTOR.as_pointer())


def _lane_mask(builder: Any, count: Any) -> Any:
    count32 = builder.trunc(count, _INT)
    spread = builder.insert_element(ir.Constant(_INT_VECTOR, ir.Undefined), count32, ir.Constant(_INT, 0))
    spread = builder.shuffle_vector(spread, ir.Constant(_INT_VECTOR, ir.Undefined), _int_constant(0))
    return builder.icmp_signed("<", ir.Constant(_INT_VECTOR, list(range(LANES))), spread)


@intrinsic
def load(typingctx: Any, array: Any, offset: Any) -> Any:
    """Sixteen floats of a contiguous 1-d float32 array from `offset` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], args[0], args[1]), align=4)

    return lanes_type(array, types.intp), codegen


@intrinsic
def load_first(typingctx: Any, array: Any, offset: Any, count: Any) -> Any:
    """Like `load` for the first `count` lanes; the others are 0 and their memory is not touched."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        kind = ir.FunctionType(_VECTOR, [pointer.type, _INT, _MASK_VECTOR, _VECTOR])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.load.v16f32.p0")
        return builder.call(function, [pointer, ir.Constant(_INT, 4), _lane_mask(builder, args[2]), _constant(0.0)])

    return lanes_type(array, types.intp, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write sixteen floats into a contiguous 1-d float32 array from `offset` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, signature.args[0], args[0], args[1]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes_type), codegen


@intrinsic
def store_first(typingctx: Any, array: Any, offset: Any, value: Any, count: Any) -> Any:
    """Like `store` for the first `count` lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        kind = ir.FunctionType(ir.VoidType(), [_VECTOR, pointer.type, _INT, _MASK_VECTOR])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.store.v16f32.p0")
        builder.call(function, [args[2], pointer, ir.Constant(_INT, 4), _lane_mask(builder, args[3])])
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes_type, types.intp), codegen


@intrinsic
def splat(typingctx: Any, value: Any) -> Any:
    """One float32 in all lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        first = builder.insert_element(undefined, args[0], ir.Constant(_INT, 0))
        return builder.shuffle_vector(first, undefined, _int_constant(0))

    return lanes_type(types.float32), codegen


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, fused where the processor can."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.fmuladd.v16f32")
        return builder.call(function, args)

    return lanes_type(lanes_type, lanes_type, lanes_type), codegen


def _binary(operation: Any, name: str) -> None:
    @intrinsic
    def apply(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return lanes_type(lanes_type, lanes_type), codegen

    @overload(operation, inline="always")
    def implementation(a, b):  # type: ignore[no-untyped-def]  # numba compares the argument names and annotations
        if isinstance(a, Lanes) and isinstance(b, Lanes):
            return lambda a, b: apply(a, b)
        return None


_binary(operator.add, "fadd")
_binary(operator.sub, "fsub")
_binary(operator.mul, "fmul")
_binary(operator.truediv, "fdiv")


@intrinsic
def select_negative(typingctx: Any, x: Any, if_negative: Any, otherwise: Any) -> Any:
    """`if_negative` in the lanes where x < 0, else `otherwise` (also where x is NaN)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", args[0], _constant(0.0)), args[1], args[2])

    return lanes_type(lanes_type, lanes_type, lanes_type), codegen


@intrinsic
def _clamp_exponent(typingctx: Any, x: Any) -> Any:
    """x limited to [-126, 128]; NaN stays NaN."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        low, high = _constant(-126.0), _constant(128.0)
        x = builder.select(builder.fcmp_ordered("<", args[0], low), low, args[0])
        return builder.select(builder.fcmp_ordered(">", x, high), high, x)

    return lanes_type(lanes_type), codegen


@intrinsic
def _power_of_two(typingctx: Any, magic: Any) -> Any:
    """2**k for magic = k + 1.5 * 2**23: the low bits of such a float are the integer k."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        shifted = builder.shl(builder.bitcast(args[0], _INT_VECTOR), _int_constant(23))
        return builder.bitcast(builder.add(shifted, _int_constant(127 << 23)), _VECTOR)

    return lanes_type(lanes_type), codegen


@intrinsic
def sum_of_four(typingctx: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Partial sums of four lane groups in one: lanes 0-3 add up to sum(a), 4-7 to sum(b), 8-11 to sum(c), 12-15 to
    sum(d)."""

    def shuffle(builder: Any, x: Any, y: Any, lanes: list[int]) -> Any:
        return builder.shuffle_vector(x, y, ir.Constant(_INT_VECTOR, lanes))

    def halves(builder: Any, x: Any, y: Any) -> Any:
        low, high = [*range(8), *range(16, 24)], [*range(8, 16), *range(24, 32)]
        return builder.fadd(shuffle(builder, x, y, low), shuffle(builder, x, y, high))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        ab, cd = halves(builder, args[0], args[1]), halves(builder, args[2], args[3])
        even = [lane for start in (0, 8, 16, 24) for lane in range(start, start + 4)]
        odd = [lane + 4 for lane in even]
        return builder.fadd(shuffle(builder, ab, cd, even), shuffle(builder, ab, cd, odd))

    return lanes_type(lanes_type, lanes_type, lanes_type, lanes_type), codegen


_MAGIC = np.float32(1.5 * 2**23)
# 2**f on [-1/2, 1/2] and atanh(s)/s on [0, 1/3] as polynomials in f and s*s, fitted for least relative error.
# The tests measure the error of the finished functions against float64.
_E1, _E2, _E3 = np.float32(6.93147203e-01), np.float32(2.40226479e-01), np.float32(5.55033247e-02)
_E4, _E5, _E6 = np.float32(9.61843736e-03), np.float32(1.33988747e-03), np.float32(1.53533620e-04)
_L1, _L2, _L3, _L4 = (np.float32(c) for c in (0.33333208, 0.20010764, 0.14000902, 0.14005997))
_ONE, _TWO, _ZERO = np.float32(1.0), np.float32(2.0), np.float32(0.0)


@njit
def exp2(x: Any) -> Any:
    """2**x, relative error about 1e-7; below -126 it gives about 2**-126, above 128 inf, NaN for NaN."""
    x = _clamp_exponent(x)
    magic = x + splat(_MAGIC)
    f = x - (magic - splat(_MAGIC))
    p = fma(splat(_E6), f, splat(_E5))
    p = fma(p, f, splat(_E4))
    p = fma(p, f, splat(_E3))
    p = fma(p, f, splat(_E2))
    p = fma(p, f, splat(_E1))
    return fma(p, f, splat(_ONE)) * _power_of_two(magic)


@njit
def log1p_unit(w: Any) -> Any:
    """log(1 + w) for 0 <= w <= 1 as 2 atanh(w / (2 + w)); relative error about 1e-7 down to w = 0."""
    s = w / (w + splat(_TWO))
    q = s * s
    p = fma(splat(_L4), q, splat(_L3))
    p = fma(p, q, splat(_L2))
    p = fma(p, q, splat(_L1))
    return (s + s) * fma(p, q, splat(_ONE))


@njit
def _decay_of_magnitude(x: Any) -> Any:
    return exp2(select_negative(x, x, splat(_ZERO) - x) * splat(LOG2_E))


@njit
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) without overflow."""
    w = _decay_of_magnitude(x)
    return select_negative(x, w, splat(_ONE)) / (w + splat(_ONE))


@njit
def softplus(x: Any) -> Any:
    """log(1 + exp(x)) without overflow, accurate for large negative x."""
    return select_negative(x, splat(_ZERO), x) + log1p_unit(_decay_of_magnitude(x))


@njit
def load_channels(array: Any, offset: int, lanes: int) -> Any:
    """`load` of a whole lane group, `load_first` of the last, narrower one."""
    if lanes == LANES:
        return load(array, offset)
    return load_first(array, offset, lanes)


@njit
def store_channels(array: Any, offset: int, value: Any, lanes: int) -> None:
    """`store` of a whole lane group, `store_first` of the last, narrower one."""
    if lanes == LANES:
        store(array, offset, value)
    else:
        store_first(array, offset, value, lanes)
