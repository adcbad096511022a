"""Random numbers for dropout inside the CPU kernels: a pure function of a key and the place of an element.

Nothing is stored between the passes and nothing depends on threads or on where a row lies in a chunk.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from k4_pipeline.simd.simd_f32 import INT_VECTOR, LANES, VECTOR, int_constant, intrinsic, lanes_type

_INT = ir.IntType(32)


def _mixed(builder: Any, h: Any) -> Any:
    """A bijection of 32-bit lanes with little bias (the constants of C. Wellons' search, "lowbias32")."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        h = builder.mul(builder.xor(h, builder.lshr(h, int_constant(shift))), int_constant(factor))
    return builder.xor(h, builder.lshr(h, int_constant(16)))


@intrinsic
def keep_factor(typingctx: Any, key: Any, index: Any, dropped: Any, factor: Any) -> Any:
    """`factor` in the lanes that dropout keeps, 0 in those it drops, which are `dropped` of 2**32.

    A pure function of the 64-bit `key` of the draw and the `index` of the first lane's element, so that a backward
    pass draws the same again.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def spread_int(value: Any) -> Any:
            undefined = ir.Constant(INT_VECTOR, ir.Undefined)
            first = builder.insert_element(undefined, builder.trunc(value, _INT), ir.Constant(_INT, 0))
            return builder.shuffle_vector(first, undefined, int_constant(0))

        key, index, dropped = args[:3]
        half = ir.Constant(key.type, 32)
        low, high = spread_int(key), spread_int(builder.lshr(key, half))
        element = builder.add(spread_int(index), ir.Constant(INT_VECTOR, list(range(LANES))))
        far = builder.xor(high, spread_int(builder.lshr(index, half)))  # beyond 2**32 elements
        h = _mixed(builder, builder.add(_mixed(builder, builder.xor(element, low)), far))
        kept = builder.icmp_unsigned(">=", h, spread_int(dropped))
        undefined = ir.Constant(VECTOR, ir.Undefined)
        first = builder.insert_element(undefined, args[3], ir.Constant(_INT, 0))
        return builder.select(
            kept, builder.shuffle_vector(first, undefined, int_constant(0)), ir.Constant(VECTOR, [0.0] * LANES)
        )

    return lanes_type(types.int64, types.intp, types.int64, types.float32), codegen
