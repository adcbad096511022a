"""Sixteen float32 lanes as one numba value, for the CPU kernels.

numba cannot promise LLVM that two arrays do not overlap, so its vectoriser guards every short loop with overlap checks
or gives up. Here a lane group is a value of its own (`<16 x float>` in LLVM): one AVX-512 register, two AVX2 or four
SSE registers, chosen by LLVM for the processor at hand. No fast-math flag is set anywhere: NaN and inf travel as IEEE
says, sums keep the order they are written in, and only `fma` fuses where the hardware can.

Compiled through `k4_pipeline._numba`, so a change here also changes the name of the cache folder.
"""

from __future__ import annotations

import operator
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic as numba_intrinsic, models, overload, register_model

from k4_pipeline._numba import njit

intrinsic: Any = numba_intrinsic  # called without the typing context that its own signature names

LANES = 16
# Whether a lane group is one register here: AVX-512, and numba not told to compile for another processor.
WIDE = (
    numba.config.CPU_NAME is None  # type: ignore[attr-defined]
    and numba.config.CPU_FEATURES is None  # type: ignore[attr-defined]
    and all(binding.get_host_cpu_features().get(name, False) for name in ("avx512f", "avx512dq"))
)
_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
VECTOR = ir.VectorType(_FLOAT, LANES)
INT_VECTOR = ir.VectorType(_INT, LANES)
_MASK_VECTOR = ir.VectorType(ir.IntType(1), LANES)


class Lanes(types.Type):
    """numba type of sixteen float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


lanes_type = Lanes()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, VECTOR)


def constant(value: float) -> ir.Constant:
    """LLVM constant of sixteen float32."""
    return ir.Constant(VECTOR, [float(np.float32(value))] * LANES)


def int_constant(value: int) -> ir.Constant:
    """LLVM constant of sixteen 32-bit integers."""
    return ir.Constant(INT_VECTOR, [value] * LANES)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), VECTOR.as_pointer())


def _lane_mask(builder: Any, count: Any) -> Any:
    count32 = builder.trunc(count, _INT)
    spread = builder.insert_element(ir.Constant(INT_VECTOR, ir.Undefined), count32, ir.Constant(_INT, 0))
    spread = builder.shuffle_vector(spread, ir.Constant(INT_VECTOR, ir.Undefined), int_constant(0))
    return builder.icmp_signed("<", ir.Constant(INT_VECTOR, list(range(LANES))), spread)


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
        kind = ir.FunctionType(VECTOR, [pointer.type, _INT, _MASK_VECTOR, VECTOR])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.load.v16f32.p0")
        return builder.call(function, [pointer, ir.Constant(_INT, 4), _lane_mask(builder, args[2]), constant(0.0)])

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
        kind = ir.FunctionType(ir.VoidType(), [VECTOR, pointer.type, _INT, _MASK_VECTOR])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.store.v16f32.p0")
        builder.call(function, [args[2], pointer, ir.Constant(_INT, 4), _lane_mask(builder, args[3])])
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes_type, types.intp), codegen


@intrinsic
def splat(typingctx: Any, value: Any) -> Any:
    """One float32 in all lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        undefined = ir.Constant(VECTOR, ir.Undefined)
        first = builder.insert_element(undefined, args[0], ir.Constant(_INT, 0))
        return builder.shuffle_vector(first, undefined, int_constant(0))

    return lanes_type(types.float32), codegen


@intrinsic
def spread(typingctx: Any, array: Any, offset: Any) -> Any:
    """array[offset] in all lanes; unlike `splat(array[offset])` without numba's handling of negative offsets."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        undefined = ir.Constant(VECTOR, ir.Undefined)
        value = builder.load(builder.gep(data, [args[1]]), align=4)
        first = builder.insert_element(undefined, value, ir.Constant(_INT, 0))
        return builder.shuffle_vector(first, undefined, int_constant(0))

    return lanes_type(array, types.intp), codegen


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, fused where the processor can."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
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
        return builder.select(builder.fcmp_ordered("<", args[0], constant(0.0)), args[1], args[2])

    return lanes_type(lanes_type, lanes_type, lanes_type), codegen


@intrinsic
def transpose_block(typingctx: Any, x: Any, at: Any, row: Any, count: Any, y: Any, to: Any, span: Any) -> Any:
    """y[to + i * span + j] = x[at + j * row + i] for sixteen i and j; rows of x from `count` on repeat the one before.

    Elements of four bytes; `count` is 1 or more.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 4))
        at, row, count = args[1:4]
        to, span = args[5:7]
        last = builder.sub(count, ir.Constant(count.type, 1))
        rows = []
        for j in range(LANES):
            number = ir.Constant(count.type, j)
            inside = builder.select(builder.icmp_signed("<", number, last), number, last)
            line = builder.gep(source, [builder.add(at, builder.mul(inside, row))])
            rows.append(builder.load(builder.bitcast(line, VECTOR.as_pointer()), align=4))
        for distance in (1, 2, 4, 8):  # exchange the off-diagonal blocks of this size
            upper = [lane + LANES - distance if lane & distance else lane for lane in range(LANES)]
            lower = [lane + LANES if lane & distance else lane + distance for lane in range(LANES)]
            for i in (i for i in range(LANES) if not i & distance):
                pair = rows[i], rows[i + distance]
                rows[i] = builder.shuffle_vector(*pair, ir.Constant(INT_VECTOR, upper))
                rows[i + distance] = builder.shuffle_vector(*pair, ir.Constant(INT_VECTOR, lower))
        for i, value in enumerate(rows):
            line = builder.gep(target, [builder.add(to, builder.mul(span, ir.Constant(span.type, i)))])
            builder.store(value, builder.bitcast(line, VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    n = types.intp
    return types.void(x, n, n, n, y, n, n), codegen


@intrinsic
def maximum(typingctx: Any, x: Any, y: Any) -> Any:
    """The greater of x and y in each lane; y where either is NaN."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return lanes_type(lanes_type, lanes_type), codegen


@intrinsic
def sum_of_four(typingctx: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Partial sums of four lane groups in one: lanes 0-3 add up to sum(a), 4-7 to sum(b), 8-11 to sum(c), 12-15 to
    sum(d)."""

    def shuffle(builder: Any, x: Any, y: Any, lanes: list[int]) -> Any:
        return builder.shuffle_vector(x, y, ir.Constant(INT_VECTOR, lanes))

    def halves(builder: Any, x: Any, y: Any) -> Any:
        low, high = [*range(8), *range(16, 24)], [*range(8, 16), *range(24, 32)]
        return builder.fadd(shuffle(builder, x, y, low), shuffle(builder, x, y, high))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        ab, cd = halves(builder, args[0], args[1]), halves(builder, args[2], args[3])
        even = [lane for start in (0, 8, 16, 24) for lane in range(start, start + 4)]
        odd = [lane + 4 for lane in even]
        return builder.fadd(shuffle(builder, ab, cd, even), shuffle(builder, ab, cd, odd))

    return lanes_type(lanes_type, lanes_type, lanes_type, lanes_type), codegen


@intrinsic
def total(typingctx: Any, x: Any) -> Any:
    """The sum of the sixteen lanes, halves onto halves."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x = args[0]
        for distance in (8, 4, 2, 1):
            lanes = [(lane + distance) % LANES for lane in range(LANES)]
            x = builder.fadd(x, builder.shuffle_vector(x, x, ir.Constant(INT_VECTOR, lanes)))
        return builder.extract_element(x, ir.Constant(_INT, 0))

    return types.float32(lanes_type), codegen


def narrow(channels: int) -> bool | None:
    """What `load_channels` is to be told of rows of so many channels."""
    return True if channels % LANES else None


@njit
def load_channels(array: Any, offset: int, lanes: int, narrow: Any) -> Any:
    """`load` of a whole lane group, `load_first` of a narrower one; `narrow` None says that there is none.

    (numba compiles apart what depends on None, so that nothing is asked in a loop.)
    """
    if narrow is None or lanes == LANES:
        return load(array, offset)
    return load_first(array, offset, lanes)


@njit
def store_channels(array: Any, offset: int, value: Any, lanes: int, narrow: Any) -> None:
    """`store` of a whole lane group, `store_first` of a narrower one."""
    if narrow is None or lanes == LANES:
        store(array, offset, value)
    else:
        store_first(array, offset, value, lanes)
