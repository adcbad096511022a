"""From channel rows in the scratch buffer to bars in the result: NaN where nothing may be, cast, turned.

float32 results, the panel's, are cast and turned sixteen channels by sixteen bars at a time in registers and written
past the cache, which spares reading the memory they replace.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from k4_pipeline._numba import njit
from k4_pipeline.config import N_MARKET_FEATURES
from k4_pipeline.features.layout import row, start
from k4_pipeline.simd.memory import fence, stream_copy
from k4_pipeline.simd.simd_f64 import LANES, intrinsic, pointer, shuffle

_BLOCK = 16
_TILE = 64  # bars turned at a time: 55 x 64 values fit the first-level cache
_FLOATS = ir.VectorType(ir.FloatType(), _BLOCK)
_I64 = ir.IntType(64)


@intrinsic
def turn_block(typingctx: Any, buffer: Any, source: Any, stride: Any, tile: Any, target: Any) -> Any:
    """tile[target + 55 * bar + channel] = buffer[source + stride * channel + bar] as float32, 16 bars of 16 channels.

    NaN for what float32 would make infinite.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        buffer, source, stride, tile, target = args
        largest = ir.Constant(_FLOATS, [float(np.finfo(np.float32).max)] * _BLOCK)
        missing = ir.Constant(_FLOATS, [float("nan")] * _BLOCK)
        halves = ir.VectorType(ir.FloatType(), LANES)
        kind = ir.FunctionType(_FLOATS, [_FLOATS])
        absolute = cgutils.get_or_insert_function(builder.module, kind, "llvm.fabs.v16f32")

        def half(offset: Any) -> Any:
            value = builder.load(pointer(context, builder, signature.args[0], buffer, offset), align=8)
            return builder.fptrunc(value, halves)

        lines = []
        for channel in range(_BLOCK):
            at = builder.add(source, builder.mul(stride, ir.Constant(_I64, channel)))
            low, high = half(at), half(builder.add(at, ir.Constant(_I64, LANES)))
            line = shuffle(builder, low, high, list(range(_BLOCK)))
            finite = builder.fcmp_ordered("<=", builder.call(absolute, [line]), largest)
            lines.append(builder.select(finite, line, missing))
        # Four times exchange the halves, quarters, ... of line pairs: line i, lane j becomes line j, lane i.
        for step in (8, 4, 2, 1):
            for i in range(_BLOCK):
                if i & step:
                    continue
                a, b = lines[i], lines[i + step]
                first = [lane if not lane & step else _BLOCK + lane - step for lane in range(_BLOCK)]
                second = [lane + step if not lane & step else _BLOCK + lane for lane in range(_BLOCK)]
                lines[i], lines[i + step] = shuffle(builder, a, b, first), shuffle(builder, a, b, second)
        data = context.make_array(signature.args[3])(context, builder, tile).data
        for bar, line in enumerate(lines):
            at = builder.add(target, ir.Constant(_I64, N_MARKET_FEATURES * bar))
            builder.store(line, builder.bitcast(builder.gep(data, [at]), _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(buffer, types.intp, types.intp, tile, types.intp), codegen


@njit
def blank_rows(buffer: np.ndarray, stride: int, n: int, lookbacks: np.ndarray) -> None:
    """NaN in every channel before its look-back."""
    for channel in range(N_MARKET_FEATURES):
        row(buffer, channel, stride, n)[: lookbacks[channel] - 1] = np.nan


@njit
def write_float32(buffer: np.ndarray, stride: int, n: int, flat: np.ndarray, bar_0: int, shift: int) -> None:
    """Channel rows to bars bar_0 .. bar_0 + n of `flat` (n_bars * 55,) float32; `shift`: see `memory.stream_copy`."""
    tile = np.empty(N_MARKET_FEATURES * _TILE, dtype=np.float32)
    first = start(0, stride)
    for begin in range(0, n, _TILE):
        bars = min(_TILE, n - begin)
        for channel in range(0, N_MARKET_FEATURES, _BLOCK):
            # The last block overlaps the one before it.
            k = min(channel, N_MARKET_FEATURES - _BLOCK)
            for bar in range(0, bars, _BLOCK):
                source = first + k * stride + begin + bar
                turn_block(buffer, source, stride, tile, bar * N_MARKET_FEATURES + k)
        stream_copy(flat, (bar_0 + begin) * N_MARKET_FEATURES, shift, tile, bars * N_MARKET_FEATURES)
    fence()


@njit
def write_float64(buffer: np.ndarray, stride: int, n: int, out: np.ndarray, bar_0: int) -> None:
    """Channel rows to bars bar_0 .. bar_0 + n of `out` (n_bars, 55) float64; NaN instead of infinity."""
    for channel in range(N_MARKET_FEATURES):
        values = row(buffer, channel, stride, n)
        for i in range(n):
            out[bar_0 + i, channel] = values[i] if abs(values[i]) < np.inf else np.nan
