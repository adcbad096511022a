"""Eight float64 bars as one numba value, for kernels that walk through a series eight bars at a time.

A lane group is a value of its own (`<8 x double>` in LLVM): one AVX-512 register, two AVX2 or four SSE or NEON ones,
chosen by LLVM for the processor at hand. Every lane is computed by the same instruction, at the end of a series as in
its middle, so that a value cannot depend on how many bars follow. No fast-math flag is set: NaN travels as IEEE says,
sums keep the order they are written in, nothing is fused.

`a < b`, `==`, `!=`, `>=` and so on give a mask, `&` joins masks, `select` uses them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic as numba_intrinsic, models, overload, register_model

from k4_pipeline._numba import njit

intrinsic: Any = numba_intrinsic  # called without the typing context that its own signature names

LANES = 8
_I32, _I64, _DOUBLE = ir.IntType(32), ir.IntType(64), ir.DoubleType()
_VECTOR = ir.VectorType(_DOUBLE, LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)


class Lanes(types.Type):
    """numba type of eight float64 lanes."""

    def __init__(self) -> None:
        super().__init__(name="float64x8")


class Mask(types.Type):
    """numba type of eight truth values."""

    def __init__(self) -> None:
        super().__init__(name="mask8")


lanes_type, mask_type = Lanes(), Mask()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VECTOR)


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _MASK)


def shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    """LLVM: the given lanes of a (0-7) and b (8-15)."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))


def spread(builder: Any, scalar: Any) -> Any:
    """LLVM: one double in all lanes."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    return shuffle(builder, builder.insert_element(undefined, scalar, ir.Constant(_I32, 0)), undefined, [0] * LANES)


def pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    """LLVM: address of eight doubles of a 1-d array from `offset` on."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), _VECTOR.as_pointer())


@intrinsic
def load(typingctx: Any, array: Any, offset: Any) -> Any:
    """Eight values of a contiguous 1-d float64 array from `offset` on; unchecked."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(pointer(context, builder, signature.args[0], args[0], args[1]), align=8)

    return lanes_type(array, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write eight values into a contiguous 1-d float64 array from `offset` on; unchecked."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], pointer(context, builder, signature.args[0], args[0], args[1]), align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes_type), codegen


@intrinsic
def splat(typingctx: Any, value: Any) -> Any:
    """One float64 in all lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return spread(builder, args[0])

    return lanes_type(types.float64), codegen


def _earlier(bars: int) -> Any:
    @intrinsic
    def earlier(typingctx: Any, before: Any, now: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return shuffle(builder, args[0], args[1], [LANES - bars + i for i in range(LANES)])

        return lanes_type(lanes_type, lanes_type), codegen

    return earlier


# The series of `now`, so many bars earlier; `before` holds the eight bars before `now`.
earlier_1, earlier_2, earlier_4 = _earlier(1), _earlier(2), _earlier(4)


@intrinsic
def positions(typingctx: Any, at: Any) -> Any:
    """at, at + 1, ... at + 7 as float64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        steps = ir.Constant(_VECTOR, [float(i) for i in range(LANES)])
        return builder.fadd(spread(builder, builder.sitofp(args[0], _DOUBLE)), steps)

    return lanes_type(types.intp), codegen


@intrinsic
def last_lane(typingctx: Any, x: Any) -> Any:
    """The value of the latest of the eight bars in all lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return shuffle(builder, args[0], args[0], [LANES - 1] * LANES)

    return lanes_type(lanes_type), codegen


@intrinsic
def select(typingctx: Any, mask: Any, a: Any, b: Any) -> Any:
    """`a` where the mask is true, else `b`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(*args)

    return lanes_type(mask_type, lanes_type, lanes_type), codegen


def _unary(name: str) -> Any:
    @intrinsic
    def apply(typingctx: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = ir.FunctionType(_VECTOR, [_VECTOR])
            function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v8f64")
            return builder.call(function, args)

        return lanes_type(lanes_type), codegen

    return apply


absolute, square_root, nearest_integer = _unary("fabs"), _unary("sqrt"), _unary("rint")


def _binary(operation: Any, result: Any, emit: Callable[[Any, Any, Any], Any]) -> None:
    """Give `operation` a meaning for two lane groups and, where it makes sense, a lane group and a float."""

    @intrinsic
    def apply(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return emit(builder, args[0], args[1])

        return result(a, b), codegen

    @overload(operation, inline="always")
    def implementation(a, b):  # type: ignore[no-untyped-def]  # numba compares the argument names and annotations
        if isinstance(a, Mask) and isinstance(b, Mask) and operation is operator.and_:
            return lambda a, b: apply(a, b)
        if operation is operator.and_:
            return None
        if isinstance(a, Lanes) and isinstance(b, Lanes):
            return lambda a, b: apply(a, b)
        if isinstance(a, Lanes) and isinstance(b, types.Float):
            return lambda a, b: apply(a, splat(b))
        if isinstance(a, types.Float) and isinstance(b, Lanes):
            return lambda a, b: apply(splat(a), b)
        return None


_binary(operator.add, lanes_type, lambda builder, a, b: builder.fadd(a, b))
_binary(operator.sub, lanes_type, lambda builder, a, b: builder.fsub(a, b))
_binary(operator.mul, lanes_type, lambda builder, a, b: builder.fmul(a, b))
_binary(operator.truediv, lanes_type, lambda builder, a, b: builder.fdiv(a, b))
_binary(operator.lt, mask_type, lambda builder, a, b: builder.fcmp_ordered("<", a, b))
_binary(operator.le, mask_type, lambda builder, a, b: builder.fcmp_ordered("<=", a, b))
_binary(operator.gt, mask_type, lambda builder, a, b: builder.fcmp_ordered(">", a, b))
_binary(operator.ge, mask_type, lambda builder, a, b: builder.fcmp_ordered(">=", a, b))
_binary(operator.eq, mask_type, lambda builder, a, b: builder.fcmp_ordered("==", a, b))
_binary(operator.ne, mask_type, lambda builder, a, b: builder.fcmp_unordered("!=", a, b))
_binary(operator.and_, mask_type, lambda builder, a, b: builder.and_(a, b))


def counter(window: int, relation: str) -> Any:
    """Kernel `count(array, at)`: how many of the last `window` values stand in `relation` to that of bar at, .. at+7.

    The eight bars are spread into eight registers, and each group of eight earlier bars is loaded once and compared
    with all of them; at the two ends of the window a constant mask leaves out what lies outside. A NaN never counts.
    Reads array[at - window - 6 : at + 8].
    """
    last = (window + LANES - 2) // LANES
    whole = [back for back in range(1, last + 1) if LANES * back + LANES - 1 < window]

    @intrinsic
    def count(typingctx: Any, array: Any, at: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            one = ir.Constant(_VECTOR, [1.0] * LANES)

            def counted(totals: list[Any], offset: Any, back: int | None) -> list[Any]:
                earlier = builder.load(pointer(context, builder, signature.args[0], args[0], offset), align=8)
                after = []
                for k, (bar, total) in enumerate(zip(bars, totals, strict=True)):
                    mask = builder.fcmp_ordered(relation, earlier, bar)
                    if back is not None:
                        inside = [0 <= k - i + LANES * back < window for i in range(LANES)]
                        mask = builder.and_(mask, ir.Constant(_MASK, inside))
                    # A masked addition; floats, because LLVM would reorder integers and run out of registers.
                    after.append(builder.select(mask, builder.fadd(total, one), total))
                return after

            def repeated(totals: list[Any], first: Any) -> list[Any]:
                """From the group at `first` to the one before `at`."""
                before, loop = builder.block, builder.append_basic_block("group")
                builder.branch(loop)
                builder.position_at_end(loop)
                offset = builder.phi(_I64)
                phis = [builder.phi(_VECTOR) for _ in range(LANES)]
                added = counted(phis, offset, None)
                following = builder.add(offset, ir.Constant(_I64, LANES))
                for phi, begin, end in zip([offset, *phis], [first, *totals], [following, *added], strict=True):
                    phi.add_incoming(begin, before)
                    phi.add_incoming(end, loop)
                after = builder.append_basic_block("counted")
                builder.cbranch(builder.icmp_signed("<", following, args[1]), loop, after)
                builder.position_at_end(after)
                return added

            def group(back: int) -> Any:
                return builder.sub(args[1], ir.Constant(_I64, LANES * back))

            now = builder.load(pointer(context, builder, signature.args[0], args[0], args[1]), align=8)
            bars = [shuffle(builder, now, now, [k] * LANES) for k in range(LANES)]
            totals = [ir.Constant(_VECTOR, [0.0] * LANES)] * LANES
            for back in [0, *range(len(whole) + 1, last + 1)]:
                totals = counted(totals, group(back), back)
            if whole:
                totals = repeated(totals, group(len(whole)))
            while len(totals) > 1:
                step = LANES // len(totals)
                totals = [_pairwise(builder, a, b, step) for a, b in zip(*_halves(totals), strict=True)]
            return totals[0]

        return lanes_type(array, types.intp), codegen

    return count


def _halves(values: list[Any]) -> tuple[list[Any], list[Any]]:
    return values[0::2], values[1::2]


def _pairwise(builder: Any, a: Any, b: Any, step: int) -> Any:
    """Sums of neighbouring groups of `step` lanes, those of a and b by turns; three times give the sum of each of 8."""
    low = [(LANES if (i // step) % 2 else 0) + i // (2 * step) * 2 * step + i % step for i in range(LANES)]
    return builder.fadd(shuffle(builder, a, b, low), shuffle(builder, a, b, [i + step for i in low]))


NAN = np.nan


@njit
def divide(a: Any, b: Any) -> Any:
    """a / b; NaN where b is zero."""
    return select(b != 0.0, a / b, splat(NAN))


@njit
def clip(x: Any, low: float, high: float) -> Any:
    """x limited to [low, high]; NaN stays NaN."""
    return select(x < low, splat(low), select(x > high, splat(high), x))
