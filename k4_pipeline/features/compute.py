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
from k4_pipeline.features.core import core_rows, criteria_rows
from k4_pipeline.features.derived import derived_rows
from k4_pipeline.features.ebp import asymmetry_rows, composite_rows, compression_rows, energy_rows, pressure_rows
from k4_pipeline.features.layout import N_ROWS, row, scratch_stride
from k4_pipeline.features.run_lengths import run_length_rows
from k4_pipeline.features.spec import MARKET_FEATURES
from k4_pipeline.market.bars import Bars

# Bars that one thread computes between two looks at the queue; large enough to amortise the scratch buffer.
_CHUNK_BARS = 100_000
_TILE = 64  # bars converted at a time: 55 x 64 values fit the first-level cache
_LOOKBACKS = np.array([f.lookback_bars for f in MARKET_FEATURES], dtype=np.int64)  # (55,)


@njit
def _write_rows(buffer: np.ndarray, stride: int, n: int, lookbacks: np.ndarray, limit: float, out: np.ndarray) -> None:
    """Channel rows (55, n) to bars (n, 55) of the type of `out`; NaN before the look-back and beyond +-`limit`.

    Converted line by line into a tile, then turned: both steps stay in the cache.
    """
    for channel in range(N_MARKET_FEATURES):
        values = row(buffer, channel, stride, n)
        for i in range(min(lookbacks[channel] - 1, n)):
            values[i] = np.nan
    tile = np.empty(N_MARKET_FEATURES * _TILE, dtype=out.dtype)
    flat = out.reshape(-1)
    for start in range(0, n, _TILE):
        bars = min(_TILE, n - start)
        for channel in range(N_MARKET_FEATURES):
            values = row(buffer, channel, stride, n)[start : start + bars]
            line = tile[channel * _TILE : channel * _TILE + bars]
            for i in range(bars):
                value = values[i]
                line[i] = value if abs(value) <= limit else np.nan
        for i in range(bars):
            target = flat[(start + i) * N_MARKET_FEATURES : (start + i + 1) * N_MARKET_FEATURES]
            column = tile[i:]
            for channel in range(N_MARKET_FEATURES):
                target[channel] = column[channel * _TILE]


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

    # Beyond the largest number of the result's type there is nothing but infinity, which never leaves here.
    limit = float(np.finfo(target.dtype).max)

    def compute(start: int, stop: int) -> None:
        nonlocal done
        for first, last in ranges[start:stop]:
            stride = scratch_stride(int(lengths[first:last].max()))
            buffer = np.empty(N_ROWS * stride)
            for ticker in range(first, last):
                rows = slice(int(bars.offsets[ticker]), int(bars.offsets[ticker + 1]))
                high, low, close, volume = bars.high[rows], bars.low[rows], bars.close[rows], bars.volume[rows]
                n = len(close)
                # In this order: each reads rows of those before it. Not one kernel, which would compile twice as long.
                criteria_rows(high, low, close, volume, buffer, stride)
                core_rows(high, low, close, volume, buffer, stride)
                derived_rows(high, low, close, volume, buffer, stride)
                run_length_rows(buffer, stride, n)
                compression_rows(buffer, stride, n)
                asymmetry_rows(close, volume, buffer, stride)
                energy_rows(close, volume, buffer, stride)
                pressure_rows(low, close, volume, buffer, stride)
                composite_rows(buffer, stride, n)
                _write_rows(buffer, stride, n, _LOOKBACKS, limit, target[rows])
            if progress is not None:
                with lock:
                    done += int(bars.offsets[last] - bars.offsets[first])
                    progress(done, n_bars)

    run_chunks(compute, len(ranges), 1, wanted)
    return target
