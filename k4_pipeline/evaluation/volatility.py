"""Volatility at a bar from the closes up to it: what the simplest baselines sort by."""

from __future__ import annotations

import numpy as np

from k4_pipeline.market.bars import Bars

LEAST_RETURNS = 20
WINDOWS = (20, 60, 250)
_CHUNK = 4096


def volatility_at(bars: Bars, rows: np.ndarray, window: int) -> np.ndarray:
    """Standard deviation (ddof 0) of the last `window` log returns up to and with bars `rows` (n,), float64.

    A ticker with fewer returns counts those it has; NaN below `LEAST_RETURNS`.
    """
    rows = np.asarray(rows, np.int64)
    have = rows - bars.offsets[np.searchsorted(bars.offsets, rows, side="right") - 1]
    log_close, out = np.log(bars.close), np.full(len(rows), np.nan)
    full = np.flatnonzero(have >= window)
    for i in range(0, len(full), _CHUNK):
        part = full[i : i + _CHUNK]
        at = rows[part, None] + np.arange(-window, 1)
        out[part] = np.diff(log_close[at], axis=1).std(axis=1)
    for short in np.flatnonzero((have < window) & (have >= LEAST_RETURNS)):
        out[short] = np.diff(log_close[rows[short] - have[short] : rows[short] + 1]).std()
    return out
