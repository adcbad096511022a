"""Two memory instructions numba has no name for: prefetch, and stores that bypass the cache.

Sequences of a shuffled batch lie anywhere in a panel of hundreds of megabytes, so their lines are asked for one
sequence ahead; a batch larger than the cache is written without first reading the lines it overwrites, as memcpy does.
Both are hints that LLVM drops on machines without them: results never depend on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from k4_pipeline._numba import njit

_intrinsic: Any = intrinsic  # its calls are typed by numba, not by a type checker
STREAM_BYTES = 32  # one streaming store; its address is a multiple of this
CACHE_LINE_BYTES = 64


@_intrinsic
def _prefetch_at(typing_context: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of `array[index]`; an index outside the array is harmless."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        i32, byte_pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        address = builder.bitcast(builder.gep(data, [args[1]]), byte_pointer)
        kind = ir.FunctionType(ir.VoidType(), [byte_pointer, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, ir.Constant(i32, 0), ir.Constant(i32, 3), ir.Constant(i32, 1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@_intrinsic
def _stream_32_bytes(typing_context: Any, target: Any, at: Any, source: Any, start: Any) -> Any:
    """target[at : at + w] = source[start : start + w], w items of 32 bytes; &target[at] must be 32-byte aligned."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to = context.make_array(signature.args[0])(context, builder, args[0]).data
        of = context.make_array(signature.args[2])(context, builder, args[2]).data
        item = signature.args[0].dtype
        vector = ir.VectorType(context.get_value_type(item), STREAM_BYTES * 8 // item.bitwidth).as_pointer()
        value = builder.load(builder.bitcast(builder.gep(of, [args[3]]), vector), align=item.bitwidth // 8)
        store = builder.store(value, builder.bitcast(builder.gep(to, [args[1]]), vector), align=STREAM_BYTES)
        hint = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        store.set_metadata("nontemporal", hint)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp), codegen


@_intrinsic
def fence(typing_context: Any) -> Any:
    """Make streamed stores visible to other threads before what follows."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@njit
def prefetch(flat: np.ndarray, start: int, stop: int) -> None:
    """Ask for `flat[start:stop]`, one request per cache line."""
    step = CACHE_LINE_BYTES // flat.itemsize
    for i in range(start, stop + step - 1, step):
        _prefetch_at(flat, min(i, stop - 1))


@njit
def stream_copy(target: np.ndarray, at: int, shift: int, source: np.ndarray, n: int) -> None:
    """target[at : at + n] = source[:n] past the cache; `shift` is the address of target[0] in items."""
    width = STREAM_BYTES // target.itemsize
    head = min(n, (width - (at + shift) % width) % width)
    for i in range(head):
        target[at + i] = source[i]
    i = head
    while i + width <= n:
        _stream_32_bytes(target, at + i, source, i)
        i += width
    while i < n:
        target[at + i] = source[i]
        i += 1


def alignment_shift(flat: np.ndarray) -> int:
    """The `shift` of `stream_copy` for a contiguous array."""
    return (flat.ctypes.data // flat.itemsize) % (STREAM_BYTES // flat.itemsize)
