"""The four values the consolidation pattern is built on, in float64, from the same kernels as the channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from k4_pipeline._numba import n_threads, njit, run_chunks
from k4_pipeline.features.compute import ticker_ranges
from k4_pipeline.features.core import criteria_rows
from k4_pipeline.features.layout import N_ROWS, row, scratch_stride
from k4_pipeline.features.spec import FEATURES, MARKET_COLUMN
from k4_pipeline.market.bars import Bars

_CHUNK_BARS = 100_000
_NAMES = ("current_bbw_percentile", "current_adx", "current_volume_ratio_20", "current_range_ratio")
_ROWS = np.array([MARKET_COLUMN[name] for name in _NAMES], dtype=np.int64)
_LOOKBACKS = np.array([f.lookback_bars for name in _NAMES for f in FEATURES if f.name == name], dtype=np.int64)


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


@njit
def _criteria_tickers(
    first: int,
    last: int,
    offsets: np.ndarray,
    high: np.ndarray,
    low: np.ndarray,
    close: np.ndarray,
    volume: np.ndarray,
    rows: np.ndarray,
    lookbacks: np.ndarray,
    buffer: np.ndarray,
    stride: int,
    out: np.ndarray,
) -> None:
    for ticker in range(first, last):
        a, b = offsets[ticker], offsets[ticker + 1]
        n = b - a
        criteria_rows(high[a:b], low[a:b], close[a:b], volume[a:b], buffer, stride)
        for k in range(len(rows)):
            values = row(buffer, rows[k], stride, n)
            values[: min(lookbacks[k] - 1, n)] = np.nan
            for i in range(n):
                out[k, a + i] = values[i] if values[i] - values[i] == 0.0 else np.nan


def pattern_criteria(bars: Bars, *, threads: int | None = None) -> PatternCriteria:
    """The criteria of every bar; equal, before the cast, to channels 10-13 of `compute_market_features`."""
    out = np.empty((len(_NAMES), len(bars)))  # (4, n_bars)
    ranges = ticker_ranges(bars.offsets, _CHUNK_BARS)
    lengths = np.diff(bars.offsets)

    def compute(start: int, stop: int) -> None:
        for first, last in ranges[start:stop]:
            stride = scratch_stride(int(lengths[first:last].max()))
            _criteria_tickers(
                first,
                last,
                bars.offsets,
                bars.high,
                bars.low,
                bars.close,
                bars.volume,
                _ROWS,
                _LOOKBACKS,
                np.empty(N_ROWS * stride),
                stride,
                out,
            )

    run_chunks(compute, len(ranges), 1, threads or n_threads())
    return PatternCriteria(*out)
