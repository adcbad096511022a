"""The four values the consolidation pattern is built on, in float64, from the same kernels as the channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from k4_pipeline._numba import n_threads, run_chunks
from k4_pipeline.features.compute import CRITERIA_KERNELS, ticker_ranges
from k4_pipeline.features.kernels.price_kernels import input_rows
from k4_pipeline.features.layout import row, scratch, scratch_stride
from k4_pipeline.features.spec import FEATURES, MARKET_COLUMN
from k4_pipeline.market.bars import Bars

_CHUNK_BARS = 100_000
_NAMES = ("current_bbw_percentile", "current_adx", "current_volume_ratio_20", "current_range_ratio")
_ROWS = tuple(MARKET_COLUMN[name] for name in _NAMES)
_LOOKBACKS = tuple(f.lookback_bars for name in _NAMES for f in FEATURES if f.name == name)


@dataclass(frozen=True, eq=False)
class PatternCriteria:
    """Features 10-13 of every bar, (n_bars,) float64 each; NaN where not available.

    bbw_percentile: share 0..1 of the last 100 bbw_20 strictly below the one at t; adx: 0..100; the two ratios:
    against their mean over 20 bars.
    """

    bbw_percentile: np.ndarray
    adx: np.ndarray
    volume_ratio: np.ndarray
    range_ratio: np.ndarray


def pattern_criteria(bars: Bars, *, threads: int | None = None) -> PatternCriteria:
    """The criteria of every bar; equal, before the cast, to channels 10-13 of `compute_market_features`."""
    out = np.empty((len(_NAMES), len(bars)))  # (4, n_bars)
    ranges = ticker_ranges(bars.offsets, _CHUNK_BARS)
    lengths = np.diff(bars.offsets)

    def compute(start: int, stop: int) -> None:
        for first, last in ranges[start:stop]:
            stride = scratch_stride(int(lengths[first:last].max()))
            buffer = scratch(stride)
            for ticker in range(first, last):
                rows = slice(int(bars.offsets[ticker]), int(bars.offsets[ticker + 1]))
                n = rows.stop - rows.start
                input_rows(bars.high, bars.low, bars.close, bars.volume, rows.start, n, buffer, stride)
                for kernel in CRITERIA_KERNELS:
                    kernel(buffer, stride, n)
                for target, channel, lookback in zip(out, _ROWS, _LOOKBACKS, strict=True):
                    values = row.py_func(buffer, channel, stride, n)
                    target[rows] = np.where(np.isfinite(values), values, np.nan)
                    target[rows][: lookback - 1] = np.nan

    run_chunks(compute, len(ranges), 1, threads or n_threads())
    return PatternCriteria(*out)
