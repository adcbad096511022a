"""Exponential, sigmoid and softplus of sixteen float32 lanes, for the CPU kernels.

IEEE special values as far as the docstrings say; no tables in memory, no calls into a library of vector functions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from k4_pipeline._numba import njit
from k4_pipeline.simd.simd_f32 import (
    INT_VECTOR,
    VECTOR,
    WIDE,
    constant,
    fma,
    int_constant,
    intrinsic,
    lanes_type,
    select_negative,
    splat,
)

_INT = ir.IntType(32)
_SHORT = ir.IntType(16)

LOG2_E = np.float32(math.log2(math.e))


@intrinsic
def _clamp_exponent(typingctx: Any, x: Any) -> Any:
    """x limited to [-126, 128]; NaN stays NaN."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        low, high = constant(-126.0), constant(128.0)
        x = builder.select(builder.fcmp_ordered("<", args[0], low), low, args[0])
        return builder.select(builder.fcmp_ordered(">", x, high), high, x)

    return lanes_type(lanes_type), codegen


@intrinsic
def _power_of_two(typingctx: Any, magic: Any) -> Any:
    """2**k for magic = k + 1.5 * 2**23: the low bits of such a float are the integer k."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        shifted = builder.shl(builder.bitcast(args[0], INT_VECTOR), int_constant(23))
        return builder.bitcast(builder.add(shifted, int_constant(127 << 23)), VECTOR)

    return lanes_type(lanes_type), codegen


def _masked_call(name: str, builder: Any, operands: list[Any], last: list[Any]) -> Any:
    """An AVX-512 intrinsic with all lanes on."""
    rest = [ir.Constant(VECTOR, ir.Undefined), ir.Constant(_SHORT, -1), *last]
    arguments = [*operands, *rest]
    kind = ir.FunctionType(VECTOR, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


@intrinsic
def _above_floor(typingctx: Any, x: Any) -> Any:
    """x - floor(x), in [0, 1]; 0 for infinities. AVX-512 only."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rounding, current = ir.Constant(_INT, 9), ir.Constant(_INT, 4)  # downwards, without exception flags
        name = "llvm.x86.avx512.mask.reduce.ps.512"
        return _masked_call(name, builder, [args[0], rounding], [current])

    return lanes_type(lanes_type), codegen


@intrinsic
def _times_two_to_floor(typingctx: Any, p: Any, x: Any) -> Any:
    """p * 2**floor(x), with overflow to infinity and underflow to zero. AVX-512 only."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        name = "llvm.x86.avx512.mask.scalef.ps.512"
        return _masked_call(name, builder, list(args), [ir.Constant(_INT, 4)])

    return lanes_type(lanes_type, lanes_type), codegen


@intrinsic
def _at_least_lowest(typingctx: Any, x: Any) -> Any:
    """max(x, -126); NaN stays NaN. AVX-512 only."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        operands = [constant(-126.0), args[0], ir.Constant(_INT, 4)]  # of two, NaN or not, the second is the result
        kind = ir.FunctionType(VECTOR, [operand.type for operand in operands])
        return builder.call(
            cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.max.ps.512"), operands
        )

    return lanes_type(lanes_type), codegen


@intrinsic
def _power_of_32nds(typingctx: Any, magic: Any) -> Any:
    """2**(k/32) for magic = k/32 + 1.5 * 2**18: the low bits of such a float are the integer k. AVX-512 only."""
    # Entry j is 2**(j/32) less what the bits of j add to the exponent when k is shifted there.
    bits = [int(np.float32(2.0 ** (j / 32)).view(np.int32)) - (j << 18) for j in range(32)]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        k = builder.bitcast(args[0], INT_VECTOR)
        low, high = (builder.bitcast(ir.Constant(INT_VECTOR, half), VECTOR) for half in (bits[:16], bits[16:]))
        kind = ir.FunctionType(VECTOR, [VECTOR, INT_VECTOR, VECTOR])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpermi2var.ps.512")
        entry = builder.bitcast(builder.call(function, [low, k, high]), INT_VECTOR)
        return builder.bitcast(builder.add(entry, builder.shl(k, int_constant(18))), VECTOR)

    return lanes_type(lanes_type), codegen


_MAGIC = np.float32(1.5 * 2**23)
_MAGIC_32 = np.float32(1.5 * 2**18)
# 2**f on [-1/2, 1/2], on [0, 1] and on [-1/64, 1/64], and atanh(s)/s on [0, 1/3], as polynomials in f and s*s, fitted
# for least relative error.
# The tests measure the error of the finished functions against float64.
_E1, _E2, _E3 = np.float32(6.93147203e-01), np.float32(2.40226479e-01), np.float32(5.55033247e-02)
_E4, _E5, _E6 = np.float32(9.61843736e-03), np.float32(1.33988747e-03), np.float32(1.53533620e-04)
_F1, _F2, _F3 = np.float32(6.931470633e-01), np.float32(2.402293086e-01), np.float32(5.548528209e-02)
_F4, _F5, _F6 = np.float32(9.675451554e-03), np.float32(1.246784464e-03), np.float32(2.161291923e-04)
_G1, _G2 = np.float32(6.931573298e-01), np.float32(2.402264974e-01)
_L1, _L2, _L3, _L4 = (np.float32(c) for c in (0.33333208, 0.20010764, 0.14000902, 0.14005997))
_ONE, _TWO, _ZERO = np.float32(1.0), np.float32(2.0), np.float32(0.0)


if WIDE:

    @njit
    def exp2(x: Any) -> Any:
        """2**x, relative error about 1e-7; inf, 0 and NaN where IEEE arithmetic has them."""
        f = _above_floor(x)
        p = fma(splat(_F6), f, splat(_F5))
        p = fma(p, f, splat(_F4))
        p = fma(p, f, splat(_F3))
        p = fma(p, f, splat(_F2))
        p = fma(p, f, splat(_F1))
        return _times_two_to_floor(fma(p, f, splat(_ONE)), x)

else:

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


if WIDE:

    @njit
    def exp2_falling(x: Any) -> Any:
        """2**x for x <= 0, relative error about 1e-7; below -126 about 2**-126, NaN for NaN.

        Cheaper than `exp2`: x is rounded to a 32nd, whose power of two is looked up, and two terms do for the rest.
        """
        x = _at_least_lowest(x)
        rounded = x + splat(_MAGIC_32)
        f = x - (rounded - splat(_MAGIC_32))
        power = _power_of_32nds(rounded)
        return fma(fma(splat(_G2), f, splat(_G1)) * f, power, power)

else:
    exp2_falling = exp2


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
    return exp2_falling(select_negative(x, x, splat(_ZERO) - x) * splat(LOG2_E))


@njit
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)); the exponential may overflow to infinity, whose inverse is zero."""
    return splat(_ONE) / (exp2(x * splat(-LOG2_E)) + splat(_ONE))


@njit
def softplus(x: Any) -> Any:
    """log(1 + exp(x)) without overflow, accurate for large negative x."""
    return select_negative(x, splat(_ZERO), x) + log1p_unit(_decay_of_magnitude(x))


@njit
def softplus_and_slope(x: Any) -> Any:
    """softplus(x) and its derivative sigmoid(x)."""
    w = _decay_of_magnitude(x)
    slope = select_negative(x, w, splat(_ONE)) / (w + splat(_ONE))
    return select_negative(x, splat(_ZERO), x) + log1p_unit(w), slope
