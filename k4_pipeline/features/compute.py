"""The 55 market channels of every bar: per ticker, in parallel over ranges of tickers, from the family kernels.

A value at bar t reads bars of its own ticker up to t, and nothing else. What is not available is NaN: fewer bars than
the declared look-back, a division by zero, a missing value inside a window; nothing is filled, and no infinity leaves.
"""

from __future__ import annotations

import threading

import numpy as np

from k4_pipeline._numba import n_threads, run_chunks
from k4_pipeline.config import N_MARKET_FEATURES
from k4_pipeline.errors import BadInputError
from k4_pipeline.features.kernels.adx import adx_rows, adx_slope_rows
from k4_pipeline.features.kernels.band_kernels import band_rows, baseline_rows, median_run_rows, percentile_rows
from k4_pipeline.features.kernels.energy_kernels import energy_rows, energy_score_rows, mass_rows, rarity_rows
from k4_pipeline.features.kernels.price_kernels import asymmetry_rows, bar_rows, close_rows, input_rows, range_rows
from k4_pipeline.features.kernels.score_kernels import composite_rows, score_rows, spike_age_rows
from k4_pipeline.features.kernels.volume_kernels import volume_rows
from k4_pipeline.features.kernels.write_kernels import blank_rows, write_float32, write_float64
from k4_pipeline.features.layout import scratch, scratch_stride
from k4_pipeline.features.spec import MARKET_FEATURES
from k4_pipeline.market.bars import Bars
from k4_pipeline.progress import Progress
from k4_pipeline.simd.memory import alignment_shift

# Bars that one thread computes between two looks at the queue.
_CHUNK_BARS = 100_000
_LOOKBACKS = np.array([f.lookback_bars for f in MARKET_FEATURES], dtype=np.int64)  # (55,)

# In this order: each reads rows of those before it. Not one kernel, which would compile twice as long.
CRITERIA_KERNELS = (bar_rows, close_rows, range_rows, volume_rows, percentile_rows, adx_rows)
OTHER_KERNELS = (
    asymmetry_rows,
    adx_slope_rows,
    band_rows,
    baseline_rows,
    median_run_rows,
    mass_rows,
    energy_rows,
    rarity_rows,
    energy_score_rows,
    score_rows,
    composite_rows,
    spike_age_rows,
)


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
    progress: Progress | None = None,
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

    kernels = (*CRITERIA_KERNELS, *OTHER_KERNELS)
    single = target.dtype == np.float32
    shift = alignment_shift(target)
    flat = target.reshape(-1)
    stride = scratch_stride(int(lengths.max(initial=1)))
    own = threading.local()  # a scratch buffer for each thread

    def compute(start: int, stop: int) -> None:
        nonlocal done
        for first, last in ranges[start:stop]:
            if not hasattr(own, "buffer"):
                own.buffer = scratch(stride)
            buffer = own.buffer
            for ticker in range(first, last):
                row = int(bars.offsets[ticker])
                n = int(lengths[ticker])
                input_rows(bars.high, bars.low, bars.close, bars.volume, row, n, buffer, stride)
                for kernel in kernels:
                    kernel(buffer, stride, n)
                blank_rows(buffer, stride, n, _LOOKBACKS)
                if single:
                    write_float32(buffer, stride, n, flat, row, shift)
                else:
                    write_float64(buffer, stride, n, target, row)
            if progress is not None:
                with lock:
                    done += int(bars.offsets[last] - bars.offsets[first])
                    progress(done, n_bars)

    run_chunks(compute, len(ranges), 1, wanted)
    return target
