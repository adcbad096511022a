"""Memory instructions numba has no name for: prefetch, stores that bypass the cache, and a bare copy.

Sequences of a shuffled batch lie anywhere in a panel of hundreds of megabytes, so their lines are asked for two
sequences ahead; a panel, or a batch larger than the cache, is written without first reading the lines it overwrites,
as memcpy does. Both are hints that LLVM drops on machines without them: results never depend on them. The bare copy
spares the inner loops the array views of numpy slicing, each of which costs an atomic reference count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from k4_pipeline._numba import njit

_intrinsic: Any = intrinsic  # its calls are typed by numba, not by a type checker
STREAM_BYTES = 64  # one streaming store, a cache line; its address is a multiple of this
_READ_ONCE = (0, 0, 1)  # for reading, no later use, data


@_intrinsic
def _prefetch_at(typing_context: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of `array[index]`; an index outside the array is harmless."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        i32, byte_pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        address = builder.bitcast(builder.gep(data, [args[1]]), byte_pointer)
        kind = ir.FunctionType(ir.VoidType(), [byte_pointer, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, *(ir.Constant(i32, value) for value in _READ_ONCE)])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@_intrinsic
def _stream_line(typing_context: Any, target: Any, at: Any, source: Any, start: Any) -> Any:
    """One cache line, target[at : at + w] = source[start : start + w]; &target[at] must be a multiple of its size."""

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
def copy_items(typing_context: Any, target: Any, at: Any, source: Any, start: Any, n: Any) -> Any:
    """target[at : at + n] = source[start : start + n] for arrays of one dtype, unchecked."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to = context.make_array(signature.args[0])(context, builder, args[0]).data
        of = context.make_array(signature.args[2])(context, builder, args[2]).data
        item_bytes = signature.args[0].dtype.bitwidth // 8
        target_at, source_at = builder.gep(to, [args[1]]), builder.gep(of, [args[3]])
        cgutils.raw_memcpy(builder, target_at, source_at, args[4], item_bytes)
        return context.get_dummy_value()

    if target.dtype != source.dtype:
        return None
    return types.void(target, types.intp, source, types.intp, types.intp), codegen


def copier_of_runs(runs: Sequence[tuple[int, int, int]]) -> Any:
    """A compiled `copy(target, at, source, start)` for arrays of one dtype, unchecked: for each (to, first, length) of
    `runs`, target[at + to : at + to + length] = source[start + first : start + first + length].

    Lengths are known to the compiler, which makes a few vector moves of each run.
    """

    @_intrinsic
    def copy(typing_context: Any, target: Any, at: Any, source: Any, start: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            to_data = context.make_array(signature.args[0])(context, builder, args[0]).data
            of_data = context.make_array(signature.args[2])(context, builder, args[2]).data
            i64, item_bytes = ir.IntType(64), signature.args[0].dtype.bitwidth // 8
            for to, first, length in runs:
                target_at = builder.gep(to_data, [builder.add(args[1], ir.Constant(i64, to))])
                source_at = builder.gep(of_data, [builder.add(args[3], ir.Constant(i64, first))])
                cgutils.raw_memcpy(builder, target_at, source_at, ir.Constant(i64, length), item_bytes)
            return context.get_dummy_value()

        if target.dtype != source.dtype:
            return None
        return types.void(target, types.intp, source, types.intp), codegen

    return copy


@_intrinsic
def fence(typing_context: Any) -> Any:
    """Make streamed stores visible to other threads before what follows."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@njit
def prefetch(flat: np.ndarray, start: int, n: int) -> None:
    """Ask for `flat[start : start + n]`, one request per 16 items: a cache line of float32. Any start is harmless."""
    for i in range(0, n, 16):
        _prefetch_at(flat, start + i)


@njit
def stream_copy(target: np.ndarray, at: int, shift: int, source: np.ndarray, n: int) -> None:
    """target[at : at + n] = source[:n] past the cache; `shift` is the address of target[0] in items."""
    width = STREAM_BYTES // target.itemsize
    head = min(n, (width - (at + shift) % width) % width)
    for i in range(head):
        target[at + i] = source[i]
    i = head
    while i + width <= n:
        _stream_line(target, at + i, source, i)
        i += width
    while i < n:
        target[at + i] = source[i]
        i += 1


def alignment_shift(flat: np.ndarray) -> int:
    """The `shift` of `stream_copy` for a contiguous array."""
    return (flat.ctypes.data // flat.itemsize) % (STREAM_BYTES // flat.itemsize)
