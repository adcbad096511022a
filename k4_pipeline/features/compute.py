"""The 55 market channels of every bar: per ticker, in parallel over ranges of tickers, from the family kernels.

A value at bar t reads bars of its own ticker up to t, and nothing else. What is not available is NaN: fewer bars than
the declared look-back, a division by zero, a missing value inside a window; nothing is filled, and no infinity leaves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from k4_pipeline._numba import n_threads, njit, run_chunks
from k4_pipeline.config import N_MARKET_FEATURES
from k4_pipeline.errors import BadInputError
from k4_pipeline.features.core import core_rows
from k4_pipeline.features.derived import derived_rows
from k4_pipeline.features.ebp import ebp_rows
from k4_pipeline.features.layout import N_ROWS, row, scratch_stride
from k4_pipeline.features.run_lengths import run_length_rows
from k4_pipeline.features.spec import MARKET_FEATURES
from k4_pipeline.market.bars import Bars

# Bars that one thread computes between two looks at the queue; large enough to amortise the scratch buffer.
_CHUNK_BARS = 100_000
_LOOKBACKS = np.array([f.lookback_bars for f in MARKET_FEATURES], dtype=np.int64)  # (55,)


@njit
def _write_rows(buffer: np.ndarray, stride: int, n: int, lookbacks: np.ndarray, out: np.ndarray) -> None:
    """Channel rows (55, n) to bars (n, 55), typed as `out`; NaN before the look-back and where not finite."""
    for channel in range(N_MARKET_FEATURES):
        row(buffer, channel, stride, n)[: min(lookbacks[channel] - 1, n)] = np.nan
    block = 16
    for start in range(0, n, block):
        stop = min(start + block, n)
        for channel in range(N_MARKET_FEATURES):
            values = row(buffer, channel, stride, n)
            for i in range(start, stop):
                out[i, channel] = values[i]
        for i in range(start, stop):
            for channel in range(N_MARKET_FEATURES):
                value = out[i, channel]
                # Also catches what overflows only in float32.
                out[i, channel] = value if value - value == 0.0 else np.nan


@njit
def _compute_tickers(
    first: int,
    last: int,
    offsets: np.ndarray,
    high: np.ndarray,
    low: np.ndarray,
    close: np.ndarray,
    volume: np.ndarray,
    lookbacks: np.ndarray,
    buffer: np.ndarray,
    stride: int,
    out: np.ndarray,
) -> None:
    base = offsets[first]
    for ticker in range(first, last):
        a, b = offsets[ticker], offsets[ticker + 1]
        n = b - a
        h, lo, c, v = high[a:b], low[a:b], close[a:b], volume[a:b]
        core_rows(h, lo, c, v, buffer, stride)
        derived_rows(h, lo, c, v, buffer, stride)
        run_length_rows(buffer, stride, n)
        ebp_rows(lo, c, v, buffer, stride)
        _write_rows(buffer, stride, n, lookbacks, out[a - base : b - base])


def ticker_ranges(offsets: np.ndarray, chunk_bars: int) -> list[tuple[int, int]]:
    """Consecutive ticker ranges (first, last) of about `chunk_bars` bars each, whole tickers only."""
    ranges: list[tuple[int, int]] = []
    first = 0
    n_tickers = len(offsets) - 1
    while first < n_tickers:
        last = int(np.searchsorted(offsets, offsets[first] + chunk_bars, side="right")) - 1
        last = min(max(last, first + 1), n_tickers)
        ranges.append((first, last))
        first = last
    return ranges


def compute_market_features(
    bars: Bars,
    *,
    dtype: type[np.floating] = np.float32,
    out: np.ndarray | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """The market channels of every bar, (n_bars, 55), row i = row i of `bars`, channels in `MARKET_CHANNELS` order.

    All arithmetic is float64; `dtype` (float32 or float64) is that of the result, cast last. `out`, when given, is
    filled and returned; it must be C-contiguous (n_bars, 55). `progress(done_bars, n_bars)` is called from the worker
    threads, one call at a time. Raises `BadInputError` for an `out` of another shape or layout.
    """
    n_bars = len(bars)
    if out is None:
        out = np.empty((n_bars, N_MARKET_FEATURES), dtype=dtype)
    elif out.shape != (n_bars, N_MARKET_FEATURES) or not out.flags.c_contiguous or out.dtype.kind != "f":
        raise BadInputError(
            f"out is {out.dtype} {out.shape}; expected a C-contiguous float array ({n_bars}, {N_MARKET_FEATURES})"
        )
    wanted = threads or n_threads()
    chunk_bars = max(1, min(_CHUNK_BARS, n_bars // (4 * wanted) + 1))
    ranges = ticker_ranges(bars.offsets, chunk_bars)
    lengths = np.diff(bars.offsets)
    lock = threading.Lock()
    done = 0
    target = out

    def compute(start: int, stop: int) -> None:
        nonlocal done
        for first, last in ranges[start:stop]:
            stride = scratch_stride(int(lengths[first:last].max()))
            a, b = int(bars.offsets[first]), int(bars.offsets[last])
            _compute_tickers(
                first,
                last,
                bars.offsets,
                bars.high,
                bars.low,
                bars.close,
                bars.volume,
                _LOOKBACKS,
                np.empty(N_ROWS * stride),
                stride,
                target[a:b],
            )
            if progress is not None:
                with lock:
                    done += b - a
                    progress(done, n_bars)

    run_chunks(compute, len(ranges), 1, wanted)
    return target
