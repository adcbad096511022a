"""What the model sees: canonical channels made scale-free, clipped and standardised, in one pass from panel to batch.

The scale-free form of each scale class is that of `features.reference.model_input`; then (value - center) / scale,
clipped to +-clip_sigmas; what is not finite becomes 0 (the training mean), padding is 0. Prices meet prices before
anything else happens to them, so a rescaling of a ticker by a power of two changes no bit. With any other factor the
panel's float32 prices round differently, by up to 6e-8 of the price, which a narrow channel magnifies; with float64
closes in the index (SequenceIndex.close) the closes and their means are exact and the model input stays within 1e-6.
"""

from __future__ import annotations

import math

import numpy as np

from k4_pipeline._numba import njit, run_chunks
from k4_pipeline.config import N_FEATURES, N_MARKET_FEATURES, SEQUENCE_BARS
from k4_pipeline.features.reference import VOLUME_FLOOR
from k4_pipeline.features.spec import FEATURE_NAMES, FEATURES
from k4_pipeline.sequences.assemble import (
    ACTIVATION,
    CLOSE,
    CURRENT_PRICE,
    END,
    MEAN_VOLUME,
    N_VALID,
    SEQUENCE_ITEMS,
    START,
    STREAM_FROM_BYTES,
    SequenceIndex,
    chunk_size,
    market_row,
    pattern_constants,
    pattern_row,
    prefetch_closes,
    prefetch_row,
    prepare,
    read_only,
    write_tile,
)
from k4_pipeline.sequences.standardisation import Scaler
from k4_pipeline.simd.memory import alignment_shift, copy_items, fence

_PRICE, _MA_5, _MA_10, _MA_20 = (FEATURE_NAMES.index(n) for n in ("current_price", "ma_5", "ma_10", "ma_20"))


def _positions(scale: str, *, pattern: bool | None = None) -> np.ndarray:
    chosen = [f.position for f in FEATURES if f.scale == scale and pattern in (None, f.needs_pattern)]
    return np.array(chosen, dtype=np.int64)


_MARKET_LEVELS = _positions("price_level", pattern=False)
_PATTERN_LEVELS = _positions("price_level", pattern=True)  # constant inside a sequence
_WIDTHS = _positions("price_width")
_VOLUMES = _positions("volume")
_COUNTS = _positions("count")
CLIP_LOWER = np.array([-np.inf if f.clip is None else f.clip[0] for f in FEATURES])
CLIP_UPPER = np.array([np.inf if f.clip is None else f.clip[1] for f in FEATURES])
# Counts are whole numbers; those that occur are looked up.
_LOG1P = np.array([math.log1p(n) for n in range(1024)])


@njit
def _signed_log1p(x: float) -> float:
    size = abs(x)
    if size < len(_LOG1P) and size == math.floor(size):
        value = _LOG1P[int(size)]
    else:
        value = math.log1p(size)  # NaN stays NaN
    return -value if x < 0.0 else value


@njit
def _exact_closes(close: np.ndarray, r: int, x: np.ndarray) -> None:
    """Close and its means at bar `r` in float64 instead of the panel's float32; a valid bar has 20 bars up to it."""
    total = 0.0
    for back in range(5):
        total += close[r - back]
    x[_MA_5] = total / 5.0
    for back in range(5, 10):
        total += close[r - back]
    x[_MA_10] = total / 10.0
    for back in range(10, 20):
        total += close[r - back]
    x[_MA_20] = total / 20.0
    x[_PRICE] = close[r]


@njit
def _assemble_inputs(
    panel: np.ndarray,
    close: np.ndarray,
    index_rows: np.ndarray,
    geometry: np.ndarray,
    rows: np.ndarray,
    begin: int,
    end: int,
    clip_lower: np.ndarray,
    clip_upper: np.ndarray,
    center: np.ndarray,
    inverse_scale: np.ndarray,
    bound: float,
    missing: float,
    out: np.ndarray,
    mask: np.ndarray,
    shift: int,
    stream: bool,
) -> None:
    panel_flat, out_flat = panel.reshape(-1), out.reshape(-1)
    tile = np.empty(SEQUENCE_ITEMS, out.dtype)
    canonical, bar = np.zeros(N_FEATURES, panel.dtype), np.empty(N_FEATURES, out.dtype)
    x = np.empty(N_FEATURES, np.float64)
    level = np.empty(len(_PATTERN_LEVELS), np.float64)
    for i in range(begin, end):
        k, following = rows[i], rows[min(i + 2, end - 1)]
        pad = SEQUENCE_BARS - index_rows[k, N_VALID]
        first = index_rows[k, END] - (SEQUENCE_BARS - 1)
        ahead = index_rows[following, END] - (SEQUENCE_BARS - 1)
        start, activation = index_rows[k, START], index_rows[k, ACTIVATION]
        constants = pattern_constants(geometry, k)
        anchor = geometry[k, CLOSE] if geometry[k, CLOSE] > 0.0 else np.nan
        mean_volume = geometry[k, MEAN_VOLUME] if geometry[k, MEAN_VOLUME] > 0.0 else np.nan
        tile[: pad * N_FEATURES] = 0.0
        prefetch_closes(close, ahead)
        for j in range(pad, SEQUENCE_BARS):
            prefetch_row(panel_flat, ahead + j)
            r = first + j
            source = r * N_MARKET_FEATURES
            price = close[r] if len(close) > 0 else np.float64(panel_flat[source + CURRENT_PRICE])
            market_row(canonical, 0, panel_flat, source)
            for c in range(N_FEATURES):
                x[c] = canonical[c]
            pattern_row(r - activation, r - start, price, constants, x, 0)
            if len(close) > 0:
                _exact_closes(close, r, x)
            for q in range(len(_MARKET_LEVELS)):
                x[_MARKET_LEVELS[q]] = math.log(x[_MARKET_LEVELS[q]] / anchor)
            for q in range(len(_PATTERN_LEVELS)):
                if j == pad:
                    level[q] = math.log(x[_PATTERN_LEVELS[q]] / anchor)
                x[_PATTERN_LEVELS[q]] = level[q]
            for q in range(len(_WIDTHS)):
                x[_WIDTHS[q]] = x[_WIDTHS[q]] / price
            for q in range(len(_VOLUMES)):
                x[_VOLUMES[q]] = math.log(VOLUME_FLOOR + x[_VOLUMES[q]] / mean_volume)
            for q in range(len(_COUNTS)):
                x[_COUNTS[q]] = _signed_log1p(x[_COUNTS[q]])
            for c in range(N_FEATURES):
                value = x[c]
                clipped = min(max(value, clip_lower[c]), clip_upper[c])
                z = min(max((clipped - center[c]) * inverse_scale[c], -bound), bound)
                # value - value is 0 for finite numbers and NaN for all others
                bar[c] = z if value - value == 0.0 else missing
            copy_items(tile, j * N_FEATURES, bar, 0, N_FEATURES)
        mask[i, :pad] = False
        mask[i, pad:] = True
        write_tile(out_flat, i, shift, tile, stream)
    fence()


def _run(
    panel_values: np.ndarray,
    index: SequenceIndex,
    rows: np.ndarray,
    center: np.ndarray,
    inverse_scale: np.ndarray,
    bound: float,
    missing: float,
    out: np.ndarray | None,
    mask: np.ndarray | None,
    dtype: np.dtype,
    threads: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    rows, out, mask = prepare(panel_values, index, rows, out, mask, dtype)
    panel, close = read_only(panel_values), read_only(np.empty(0) if index.close is None else index.close)
    shift, stream = alignment_shift(out), out.nbytes >= STREAM_FROM_BYTES
    fixed = (CLIP_LOWER, CLIP_UPPER, center, inverse_scale, bound, missing, out, mask, shift, stream)

    def work(begin: int, end: int) -> None:
        _assemble_inputs(panel, close, index.rows, index.geometry, rows, begin, end, *fixed)

    run_chunks(work, len(rows), chunk_size(len(rows), threads), threads)
    return out, mask


def assemble_inputs(
    panel_values: np.ndarray,
    index: SequenceIndex,
    rows: np.ndarray,
    scaler: Scaler,
    out: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    *,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Model inputs of sequences `rows`: values (b, 50, 69) float32, mask (b, 50) bool, True on valid bars.

    Finite everywhere; padding in front and zero. A row's values do not depend on the other rows, on `threads`, or on
    anything after the snapshot bar. Raises as `assemble_canonical`, and `StaleArtifactError` when the scaler was fitted
    for other feature declarations or with closes of another precision than the index has.
    """
    scaler.check_usable(exact_close=index.close is not None)
    scale = scaler.scale.astype(np.float64)
    return _run(
        panel_values,
        index,
        rows,
        scaler.center.astype(np.float64),
        1.0 / scale,
        scaler.clip_sigmas,
        0.0,
        out,
        mask,
        np.dtype(np.float32),
        threads,
    )


def assemble_scale_free(
    panel_values: np.ndarray,
    index: SequenceIndex,
    rows: np.ndarray,
    *,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The scale-free values before standardisation, (b, 50, 69) in the panel's dtype with NaN kept, and the mask.

    What the scaler is fitted on. Same kernel as `assemble_inputs`, with center 0, scale 1 and no bound.
    """
    zero, one = np.zeros(N_FEATURES), np.ones(N_FEATURES)
    return _run(panel_values, index, rows, zero, one, np.inf, np.nan, None, None, panel_values.dtype, threads)
