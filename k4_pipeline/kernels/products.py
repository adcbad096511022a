"""Matrix products for the CPU kernels, float32: one register tile that serves y = x W', dx = dy W and dW = dy' x.

In each of the three one factor is read along its rows, a lane group at a time, and the other one number at a time, by
two strides; so neither a transpose nor a copy of an activation is ever made, and a product can run inside a kernel on
rows that still lie in the cache. Weights are packed once per call into panels as wide as a tile (`pack`).

The tile keeps `rows x groups` sums in registers: 6 x 64 numbers where a lane group is one register (AVX-512), 6 x 16
elsewhere. The order of every sum is fixed by the shapes alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from k4_pipeline._numba import njit
from k4_pipeline.kernels.simd import LANES, WIDE, intrinsic

GROUPS = 4 if WIDE else 1  # lane groups side by side in a tile
_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, LANES)


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
        kind, zero = depth.type, ir.Constant(_VECTOR, [0.0] * LANES)
        cells = [(r, g) for r in range(rows) for g in range(groups)]

        def number(value: int) -> Any:
            return ir.Constant(kind, value)

        def lanes_at(pointer: Any, offset: Any) -> Any:
            return builder.bitcast(builder.gep(pointer, [offset]), _VECTOR.as_pointer())

        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), "llvm.fmuladd.v16f32"
        )
        starts = [builder.gep(a, [builder.add(a_at, builder.mul(a_row, number(r)))]) for r in range(rows)]
        b_start = builder.gep(b, [b_at])
        before, loop, after = builder.block, builder.append_basic_block("k"), builder.append_basic_block("summed")
        builder.cbranch(builder.icmp_signed(">", depth, number(0)), loop, after)

        builder.position_at_end(loop)
        k = builder.phi(kind)
        sums = {cell: builder.phi(_VECTOR) for cell in cells}
        b_line = builder.gep(b_start, [builder.mul(k, b_row)])
        columns = [builder.load(lanes_at(b_line, number(LANES * g)), align=4) for g in range(groups)]
        a_offset = builder.mul(k, a_col)
        added = {}
        for r in range(rows):
            undefined = ir.Constant(_VECTOR, ir.Undefined)
            value = builder.load(builder.gep(starts[r], [a_offset]), align=4)
            first = builder.insert_element(undefined, value, ir.Constant(_INT, 0))
            factor = builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))
            for g in range(groups):
                added[r, g] = builder.call(fma, [factor, columns[g], sums[r, g]])
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
            results[cell] = builder.phi(_VECTOR)
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

    @njit
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

    return panel


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


def pack(matrix: np.ndarray) -> np.ndarray:
    """b (depth, columns) as a product reads it: panel by panel, flat float32, columns padded to whole lane groups."""
    depth, columns = matrix.shape
    padded = np.zeros((depth, -(-columns // LANES) * LANES), np.float32)
    padded[:, :columns] = matrix
    width = GROUPS * LANES
    return np.concatenate([padded[:, i : i + width].ravel() for i in range(0, padded.shape[1], width)])
