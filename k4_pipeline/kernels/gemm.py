"""Matrix products for the CPU kernels: one register tile that serves y = x W', dx = dy W and dW = dy' x.

In each of the three one factor is read along its rows, a lane group at a time, and the other one number at a time, by
two strides; so neither a transpose nor a copy of an activation is ever made, and a product can run inside a kernel on
rows that still lie in the cache. Weights are packed once per call into panels as wide as a tile (`pack`).

The tile keeps `rows x groups` sums in registers: 6 x 64 numbers where a lane group is one register (AVX-512), 6 x 16
elsewhere. The order of every sum is fixed by the shapes alone.

Factors are float32, or both of them pairs of bfloat16 (`kernels.bf16`), neighbours in `depth`, in one uint32 each:
then one instruction adds two products to a float32 sum, `depth` counts pairs, and all else is the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import overload

from k4_pipeline._numba import njit
from k4_pipeline.kernels.bf16 import add_products_of_pairs, pairs_of_bars, pairs_of_columns
from k4_pipeline.simd.simd_f32 import INT_VECTOR, LANES, VECTOR, WIDE, intrinsic

_TOGETHER = 4  # sequences of 50 bars: their operands of one tile's width fit the first-level cache
GROUPS = 4 if WIDE else 1  # lane groups side by side in a tile
_INT = ir.IntType(32)


def _tile(rows: int, groups: int) -> Any:
    """tile(a, a_at, a_row, a_col, b, b_at, b_row, depth, c, c_at, c_row, add).

    c[r, :] (+)= sum_k a[r, k] * b[k, :] for `rows` rows and 16 * `groups` columns; flat arrays with offsets and
    strides, neighbouring columns of b and c side by side; `add` 1 adds to c, 0 replaces it. `depth` may be 0.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def data(i: int) -> Any:
            return context.make_array(signature.args[i])(context, builder, args[i]).data

        a, b, c = data(0), data(4), data(8)
        a_at, a_row, a_col = args[1:4]
        b_at, b_row, depth = args[5:8]
        c_at, c_row, add = args[9:12]
        kind, zero = depth.type, ir.Constant(VECTOR, [0.0] * LANES)
        halves = signature.args[4].dtype == types.uint32
        factors = INT_VECTOR if halves else VECTOR  # of a and b
        cells = [(r, g) for r in range(rows) for g in range(groups)]

        def number(value: int) -> Any:
            return ir.Constant(kind, value)

        def lanes_at(pointer: Any, offset: Any, vector: Any = VECTOR) -> Any:
            return builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())

        def plus_product(total: Any, x: Any, y: Any) -> Any:
            if halves:
                return add_products_of_pairs(builder, total, x, y)
            function = ir.FunctionType(VECTOR, [VECTOR] * 3)
            fma = cgutils.get_or_insert_function(builder.module, function, "llvm.fmuladd.v16f32")
            return builder.call(fma, [x, y, total])

        starts = [builder.gep(a, [builder.add(a_at, builder.mul(a_row, number(r)))]) for r in range(rows)]
        b_start = builder.gep(b, [b_at])
        before, loop, after = builder.block, builder.append_basic_block("k"), builder.append_basic_block("summed")
        builder.cbranch(builder.icmp_signed(">", depth, number(0)), loop, after)

        builder.position_at_end(loop)
        k = builder.phi(kind)
        sums = {cell: builder.phi(VECTOR) for cell in cells}
        b_line = builder.gep(b_start, [builder.mul(k, b_row)])
        columns = [builder.load(lanes_at(b_line, number(LANES * g), factors), align=4) for g in range(groups)]
        a_offset = builder.mul(k, a_col)
        added = {}
        for r in range(rows):
            undefined = ir.Constant(factors, ir.Undefined)
            value = builder.load(builder.gep(starts[r], [a_offset]), align=4)
            first = builder.insert_element(undefined, value, ir.Constant(_INT, 0))
            factor = builder.shuffle_vector(first, undefined, ir.Constant(INT_VECTOR, [0] * LANES))
            for g in range(groups):
                added[r, g] = plus_product(sums[r, g], factor, columns[g])
        following = builder.add(k, number(1))
        k.add_incoming(number(0), before)
        k.add_incoming(following, loop)
        for cell in cells:
            sums[cell].add_incoming(zero, before)
            sums[cell].add_incoming(added[cell], loop)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)

        builder.position_at_end(after)
        results = {}
        for cell in cells:
            results[cell] = builder.phi(VECTOR)
            results[cell].add_incoming(zero, before)
            results[cell].add_incoming(added[cell], loop)
        targets = {
            (r, g): lanes_at(c, builder.add(builder.add(c_at, builder.mul(c_row, number(r))), number(LANES * g)))
            for r, g in cells
        }
        with builder.if_else(builder.icmp_signed("!=", add, number(0))) as (adding, replacing):
            with adding:
                for cell in cells:
                    old = builder.load(targets[cell], align=4)
                    builder.store(builder.fadd(old, results[cell]), targets[cell], align=4)
            with replacing:
                for cell in cells:
                    builder.store(results[cell], targets[cell], align=4)
        return context.get_dummy_value()

    @intrinsic
    def tile(  # type: ignore[no-untyped-def]
        typingctx: Any, a, a_at, a_row, a_col, b, b_at, b_row, depth, c, c_at, c_row, add
    ) -> Any:
        n = types.intp
        return types.void(a, n, n, n, b, n, n, n, c, n, n, n), codegen

    return tile


def _panel(groups: int) -> Any:
    """All rows of a panel `groups` wide, by the tallest tiles that fit."""
    tall, low, single = _tile(6, groups), _tile(2, groups), _tile(1, groups)

    def panel(rows, depth, a, a_at, a_row, a_col, b, b_at, b_row, c, c_at, c_row, add):  # type: ignore[no-untyped-def]
        r = 0
        while r + 6 <= rows:
            tall(a, a_at + r * a_row, a_row, a_col, b, b_at, b_row, depth, c, c_at + r * c_row, c_row, add)
            r += 6
        while r + 2 <= rows:
            low(a, a_at + r * a_row, a_row, a_col, b, b_at, b_row, depth, c, c_at + r * c_row, c_row, add)
            r += 2
        if r < rows:
            single(a, a_at + r * a_row, a_row, a_col, b, b_at, b_row, depth, c, c_at + r * c_row, c_row, add)

    panel.__qualname__ = f"panel_{groups}"
    return njit(panel)


_panel_1 = _panel(1)
_panel_2, _panel_3, _panel_4 = (_panel(groups) if WIDE else _panel_1 for groups in (2, 3, 4))


@njit
def multiply(  # type: ignore[no-untyped-def]
    rows, groups, depth, a, a_at, a_row, a_col, b, b_at, b_row, c, c_at, c_row, add
):
    """c (+)= a b: a (rows, depth) by two strides, b (depth, 16 * groups), c with rows `c_row` apart.

    b_row is the distance of b's rows; 0 means that b is packed.
    """
    for group in range(0, groups, GROUPS):
        width = min(GROUPS, groups - group)
        start, line = (b_at + group * LANES * depth, width * LANES) if b_row == 0 else (b_at + group * LANES, b_row)
        to = c_at + group * LANES
        if width == 4:
            _panel_4(rows, depth, a, a_at, a_row, a_col, b, start, line, c, to, c_row, add)
        elif width == 3:
            _panel_3(rows, depth, a, a_at, a_row, a_col, b, start, line, c, to, c_row, add)
        elif width == 2:
            _panel_2(rows, depth, a, a_at, a_row, a_col, b, start, line, c, to, c_row, add)
        else:
            _panel_1(rows, depth, a, a_at, a_row, a_col, b, start, line, c, to, c_row, add)


def compiled_only(*arguments: Any) -> Any:
    """The body of a function whose overloads alone are meant to run."""
    raise NotImplementedError("to be called from compiled code")


def scratch_for(size: Any, half: Any) -> Any:
    """In kernels: space for `size` numbers as pairs; None where `half` is None (float32 products)."""
    return compiled_only(size, half)


def rows_of(bars: Any, width: Any, x: Any, at: Any, scratch: Any) -> Any:
    """In kernels: bars of x from `at` on, `width` numbers each, as the first factor of `dense`.

    x itself where `scratch` is None, else rounded into it.
    """
    return compiled_only(bars, width, x, at, scratch)


def bars_of(bars: Any, width: Any, x: Any, at: Any, scratch: Any, before: Any) -> Any:
    """In kernels: the same as a factor of `add_outer`, behind the `before` terms that lie in `scratch` already."""
    return compiled_only(bars, width, x, at, scratch, before)


def terms(count: Any, scratch: Any) -> Any:
    """In kernels: what `count` numbers along a sum are as operands: as many numbers, or half as many pairs."""
    return compiled_only(count, scratch)


def sequences_together(half: Any) -> Any:
    """In kernels: of how many sequences `add_outer` gets the operands at once, so that totals are touched less often.

    One in float32, where operands are not copied.
    """
    return compiled_only(half)


# Chosen by type: to numba, one function that returns either kind would return the type "either".
@overload(scratch_for)
def _scratch_for(size, half):  # type: ignore[no-untyped-def]
    if half is types.none:
        return lambda size, half: None
    return lambda size, half: np.empty(size // 2 + size % 2 + LANES, np.uint32)


@overload(rows_of)
def _rows_of(bars, width, x, at, scratch):  # type: ignore[no-untyped-def]
    def given(bars, width, x, at, scratch):  # type: ignore[no-untyped-def]
        return x[at : at + bars * width]

    def rounded(bars, width, x, at, scratch):  # type: ignore[no-untyped-def]
        pairs_of_columns(bars, width, x, at, scratch, 0)
        return scratch

    return given if scratch is types.none else rounded


@overload(bars_of)
def _bars_of(bars, width, x, at, scratch, before):  # type: ignore[no-untyped-def]
    def given(bars, width, x, at, scratch, before):  # type: ignore[no-untyped-def]
        return x[at : at + bars * width]

    def rounded(bars, width, x, at, scratch, before):  # type: ignore[no-untyped-def]
        pairs_of_bars(bars, width, x, at, scratch, before * width)
        return scratch

    return given if scratch is types.none else rounded


@overload(terms)
def _terms(count, scratch):  # type: ignore[no-untyped-def]
    return (lambda count, scratch: count) if scratch is types.none else (lambda count, scratch: (count + 1) // 2)


@overload(sequences_together)
def _sequences_together(half):  # type: ignore[no-untyped-def]
    return (lambda half: 1) if half is types.none else (lambda half: _TOGETHER)


@njit
def dense(bars, groups, depth, rows, width, weight, y, y_at, y_row, add, scratch):  # type: ignore[no-untyped-def]
    """y (+)= rows[:, :depth] times the packed weight (depth, 16 * groups); rows (bars, width) from `rows_of`.

    `scratch` says by being None or not which kind of operands these are.
    """
    row = terms(width, scratch)
    multiply(bars, groups, terms(depth, scratch), rows, 0, row, 1, weight, 0, 0, y, y_at, y_row, add)


@njit
def add_outer(rows, groups, count, a, width_a, b, total):  # type: ignore[no-untyped-def]
    """total (rows, 16 * groups) += a' b over `count` terms; a (., width_a) and b (., 16 * groups) from `bars_of`."""
    width = groups * LANES
    multiply(rows, groups, count, a, 0, 1, width_a, b, 0, width, total, 0, width, 1)


def pack(matrix: np.ndarray, half: bool | None = None) -> np.ndarray:
    """b (depth, columns) as a product reads it: panel by panel, flat, columns padded to whole lane groups.

    float32, or with `half` pairs of bfloat16 along the depth, which is padded to a whole pair.
    """
    depth, columns = matrix.shape
    padded = np.zeros((depth, -(-columns // LANES) * LANES), np.float32)
    padded[:, :columns] = matrix
    if half:
        pairs = np.empty((-(-depth // 2), padded.shape[1]), np.uint32)
        pairs_of_bars(depth, padded.shape[1], padded.ravel(), 0, pairs.ravel(), 0)
        padded = pairs
    width = GROUPS * LANES
    return np.concatenate([padded[:, i : i + width].ravel() for i in range(0, padded.shape[1], width)])
