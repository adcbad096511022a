"""Canonical sequences: the 55 market channels of 50 bars from the panel, the 14 pattern channels from the geometry.

The kernel works in float64 and writes the panel's dtype: a float64 panel gives float64 sequences. The result is what
docs/features.md tabulates, NaN included; what the model sees is made by model_inputs.py.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from k4_pipeline._numba import n_threads, njit, run_chunks
from k4_pipeline.config import MIN_VALID_HISTORY_BARS, N_FEATURES, N_MARKET_FEATURES, SEQUENCE_BARS
from k4_pipeline.errors import BadInputError
from k4_pipeline.features.spec import FEATURE_NAMES, FEATURES, MARKET_CHANNELS, MARKET_COLUMN
from k4_pipeline.simd.memory import alignment_shift, copier_of_runs, fence, prefetch, stream_copy

# Columns of `SequenceIndex.rows` and of `SequenceIndex.geometry`.
ROW_COLUMNS = ("end_row", "n_valid", "start_row", "activation_row")
GEOMETRY_COLUMNS = (
    "upper",
    "lower",
    "power",
    "start_price",
    "prior_width",
    "qualifying_bars",
    "close_at_snapshot",
    "mean_volume",
)
END, N_VALID, START, ACTIVATION = range(4)
UPPER, LOWER, POWER, START_PRICE, PRIOR_WIDTH, QUALIFYING, CLOSE, MEAN_VOLUME = range(8)

SEQUENCE_ITEMS = SEQUENCE_BARS * N_FEATURES
# Larger results are streamed past the cache; smaller ones stay in it for whoever reads the batch next.
STREAM_FROM_BYTES = 16 << 20
_MIN_CHUNK = 64  # sequences; less is not worth a thread

CURRENT_PRICE = MARKET_COLUMN["current_price"]
_AT = {name: i for i, name in enumerate(FEATURE_NAMES)}
_SINCE_ACTIVATION = _AT["days_since_activation"]
_IN_PATTERN = _AT["days_in_pattern"]
_WIDTH_PCT = _AT["consolidation_channel_width_pct"]
_PERIOD = _AT["consolidation_period_days"]
_POSITION = _AT["price_position_in_range"]
_FROM_UPPER = _AT["price_distance_from_upper_pct"]
_FROM_LOWER = _AT["price_distance_from_lower_pct"]
_FROM_POWER = _AT["distance_from_power_pct"]
_START_PRICE = _AT["start_price"]
_UPPER = _AT["upper_boundary"]
_LOWER = _AT["lower_boundary"]
_POWER = _AT["power_boundary"]
_NARROWING = _AT["channel_narrowing_pct"]
_QUALIFICATION = _AT["days_in_qualification"]

# Market channels lie in runs: `length` panel columns from `first` on go to canonical positions `to` .. `to` + `length`.
_BREAKS = [0, *(np.flatnonzero(np.diff(MARKET_CHANNELS) != 1) + 1).tolist(), N_MARKET_FEATURES]
_RUNS = [(int(MARKET_CHANNELS[first]), first, end - first) for first, end in itertools.pairwise(_BREAKS)]
# Copies the market channels of one bar, panel[start : start + 55], to their positions in out[at : at + 69]; one dtype.
market_row = copier_of_runs(_RUNS)
# The pattern channels in the order in which kernels compute them.
PATTERN_ORDER = tuple(f.name for f in FEATURES if f.needs_pattern)


@dataclass(frozen=True, eq=False)
class SequenceIndex:
    """The `sequences` table as plain arrays, what the kernels read.

    `close` (n_bars,) float64, optional, is the close of every bar: with it the channels that subtract prices (23..26)
    and the model's price level are exact; without it the close is the panel's float32, exact to 6e-8 relative.
    """

    rows: np.ndarray  # (n, 4) int64, ROW_COLUMNS
    geometry: np.ndarray  # (n, 8) float64, GEOMETRY_COLUMNS
    close: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, close: np.ndarray | None = None) -> SequenceIndex:
        """From the `sequences` table, same order; `BadInputError` when a window leaves its ticker."""
        rows = np.stack([frame[c].to_numpy(dtype=np.int64) for c in ROW_COLUMNS], axis=1)
        geometry = np.stack([frame[c].to_numpy(dtype=np.float64) for c in GEOMETRY_COLUMNS], axis=1)
        first = frame["first_row"].to_numpy(dtype=np.int64)
        n_valid = rows[:, N_VALID]
        earliest = first + MIN_VALID_HISTORY_BARS - 1
        bad = (n_valid < 1) | (n_valid > SEQUENCE_BARS) | (first < 0) | (rows[:, END] - n_valid + 1 < earliest)
        if bad.any():
            raise BadInputError(
                f"{int(bad.sum())} sequences reach before the valid bars of their ticker, first in row "
                f"{int(np.flatnonzero(bad)[0])}; index the sequences again from the same bars"
            )
        if close is not None:
            close = np.ascontiguousarray(close, dtype=np.float64)
        return cls(np.ascontiguousarray(rows), np.ascontiguousarray(geometry), close)

    def take(self, rows: np.ndarray) -> SequenceIndex:
        """The index of some rows only, in the order given."""
        return SequenceIndex(self.rows[rows], self.geometry[rows], self.close)


@njit
def pattern_constants(geometry: np.ndarray, k: int) -> tuple:
    """What is the same for all bars of sequence `k`: upper, lower, power, width, and channels 3, 49, 67 and 69."""
    upper, lower, prior = geometry[k, UPPER], geometry[k, LOWER], geometry[k, PRIOR_WIDTH]
    width = upper - lower
    width_pct = width / lower * 100.0 if lower != 0.0 else np.nan
    narrowing = (prior - width) / prior * 100.0 if prior != 0.0 else np.nan
    start_price, qualifying = geometry[k, START_PRICE], geometry[k, QUALIFYING]
    return upper, lower, geometry[k, POWER], width, width_pct, start_price, narrowing, qualifying


@njit
def pattern_row(
    since_activation: int, since_start: int, price: float, constants: tuple, out: np.ndarray, at: int
) -> None:
    """Write the 14 pattern channels of a bar with close `price` into out[at : at + 69]; NaN for a division by zero."""
    upper, lower, power, width, width_pct, start_price, narrowing, qualifying = constants
    out[at + _SINCE_ACTIVATION] = since_activation
    out[at + _IN_PATTERN] = since_start
    out[at + _WIDTH_PCT] = width_pct
    out[at + _PERIOD] = max(0, since_start + 1)
    out[at + _POSITION] = (price - lower) / width if width != 0.0 else np.nan
    safe = price if price != 0.0 else np.nan
    out[at + _FROM_UPPER] = (upper - price) / safe * 100.0
    out[at + _FROM_LOWER] = (price - lower) / safe * 100.0
    out[at + _FROM_POWER] = (power - price) / safe * 100.0
    out[at + _START_PRICE] = start_price
    out[at + _UPPER] = upper
    out[at + _LOWER] = lower
    out[at + _POWER] = power
    out[at + _NARROWING] = narrowing
    out[at + _QUALIFICATION] = qualifying


@njit
def _assemble(
    panel: np.ndarray,
    close: np.ndarray,
    index_rows: np.ndarray,
    geometry: np.ndarray,
    rows: np.ndarray,
    begin: int,
    end: int,
    out: np.ndarray,
    mask: np.ndarray,
    shift: int,
    stream: bool,
) -> None:
    panel_flat, out_flat = panel.reshape(-1), out.reshape(-1)
    tile = np.empty(SEQUENCE_ITEMS, out.dtype)
    for i in range(begin, end):
        k, following = rows[i], rows[min(i + 2, end - 1)]
        pad = SEQUENCE_BARS - index_rows[k, N_VALID]
        first = index_rows[k, END] - (SEQUENCE_BARS - 1)
        ahead = index_rows[following, END] - (SEQUENCE_BARS - 1)
        start, activation = index_rows[k, START], index_rows[k, ACTIVATION]
        constants = pattern_constants(geometry, k)
        tile[: pad * N_FEATURES] = 0.0
        prefetch_closes(close, ahead)
        for j in range(pad, SEQUENCE_BARS):
            prefetch_row(panel_flat, ahead + j)
            r = first + j
            source, at = r * N_MARKET_FEATURES, j * N_FEATURES
            price = close[r] if len(close) > 0 else np.float64(panel_flat[source + CURRENT_PRICE])
            market_row(tile, at, panel_flat, source)
            pattern_row(r - activation, r - start, price, constants, tile, at)
        mask[i, :pad] = False
        mask[i, pad:] = True
        write_tile(out_flat, i, shift, tile, stream)
    fence()


@njit
def prefetch_row(panel_flat: np.ndarray, r: int) -> None:
    """Ask for panel row `r`, a bar of a sequence that comes soon."""
    prefetch(panel_flat, r * N_MARKET_FEATURES, N_MARKET_FEATURES)


@njit
def prefetch_closes(close: np.ndarray, first: int) -> None:
    """Ask for the closes of a sequence that comes soon, if there are closes."""
    if len(close) > 0:
        prefetch(close, first, SEQUENCE_BARS)


@njit
def write_tile(out_flat: np.ndarray, i: int, shift: int, tile: np.ndarray, stream: bool) -> None:
    """Put one finished sequence at position `i` of the batch."""
    if stream:
        stream_copy(out_flat, i * SEQUENCE_ITEMS, shift, tile, SEQUENCE_ITEMS)
    else:
        out_flat[i * SEQUENCE_ITEMS : (i + 1) * SEQUENCE_ITEMS] = tile


def assemble_canonical(
    panel_values: np.ndarray,
    index: SequenceIndex,
    rows: np.ndarray,
    out: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    *,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Sequences `rows` of the index: values (b, 50, 69) in the panel's dtype, mask (b, 50) bool, True on valid bars.

    `panel_values` (n_bars, 55) float32 or float64, possibly memory-mapped. Padding is in front and all zero; NaN stays
    NaN. `out` and `mask`, when given, are filled and returned. Raises `BadInputError` for rows outside the index, an
    index that does not belong to the panel, or buffers of another shape, dtype or layout.
    """
    rows, out, mask = prepare(panel_values, index, rows, out, mask, panel_values.dtype)
    panel, close = read_only(panel_values), read_only(np.empty(0) if index.close is None else index.close)
    shift, stream = alignment_shift(out), out.nbytes >= STREAM_FROM_BYTES

    def work(begin: int, end: int) -> None:
        _assemble(panel, close, index.rows, index.geometry, rows, begin, end, out, mask, shift, stream)

    run_chunks(work, len(rows), chunk_size(len(rows), threads), threads)
    return out, mask


def read_only(values: np.ndarray) -> np.ndarray:
    """A read-only view, so that arrays in memory and memory maps share one compiled kernel."""
    view = np.asarray(values).view()
    view.flags.writeable = False
    return view


def chunk_size(n: int, threads: int | None) -> int:
    """Sequences per call of a kernel: one range per thread, unless that is too little work."""
    return max(_MIN_CHUNK, -(-n // (threads or n_threads())))


def prepare(
    panel_values: np.ndarray,
    index: SequenceIndex,
    rows: np.ndarray,
    out: np.ndarray | None,
    mask: np.ndarray | None,
    dtype: np.dtype,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Checked rows (b,) int64, values buffer (b, 50, 69) and mask buffer (b, 50); the kernels do not check bounds."""
    if panel_values.ndim != 2 or panel_values.shape[1] != N_MARKET_FEATURES or not panel_values.flags.c_contiguous:
        raise BadInputError(f"the panel is {panel_values.shape}; expected row-major (n_bars, {N_MARKET_FEATURES})")
    rows = np.ascontiguousarray(rows, dtype=np.int64)
    if len(rows) and (rows.min() < 0 or rows.max() >= len(index)):
        raise BadInputError(f"rows run from {rows.min()} to {rows.max()}; the index has {len(index)} sequences")
    n_bars = len(panel_values)
    if len(rows) and index.rows[rows, END].max() >= n_bars:
        raise BadInputError(f"a sequence ends after the panel's {n_bars} bars; make panel and index from the same bars")
    if index.close is not None and len(index.close) != n_bars:
        raise BadInputError(f"the index has {len(index.close)} closes and the panel {n_bars} bars; use the same bars")
    shape = (len(rows), SEQUENCE_BARS, N_FEATURES)
    out = np.empty(shape, dtype) if out is None else out
    mask = np.empty(shape[:2], np.bool_) if mask is None else mask
    for name, buffer, expected, kind in (("out", out, shape, dtype), ("mask", mask, shape[:2], np.dtype(bool))):
        if buffer.shape != expected or buffer.dtype != kind or not buffer.flags.c_contiguous:
            raise BadInputError(f"{name} is {buffer.dtype} {buffer.shape}; expected contiguous {kind} {expected}")
    return rows, out, mask
