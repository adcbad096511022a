"""Windows, masks, pattern channels and model inputs computed a second time, one snapshot at a time in plain numpy.

Written from docs/features.md on bars, snapshots and the panel; it shares no code with sequences/ or features/ but the
declarations of the channels, and it takes nothing from the `sequences` table, so that a wrong row number there cannot
hide.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from k4_pipeline.config import N_FEATURES, SEQUENCE_BARS
from k4_pipeline.features.spec import FEATURES, FeatureSpec
from k4_pipeline.market.bars import Bars

HISTORY_BARS = 20  # a bar is valid from its ticker's 20th on
PRIOR_BARS = 20
VOLUME_BARS = 250
LEAST_VOLUME = 0.01  # of the mean volume, added to each


def scale_free(channel: FeatureSpec, x: np.ndarray, close: np.ndarray, anchor: float, mean_volume: float) -> np.ndarray:
    """A channel x (n,) in the unit of the model inputs, by its declared scale; not finite where there is none.

    close (n,) of the same bars, `anchor` the close at the snapshot.
    """
    with np.errstate(all="ignore"):
        match channel.scale:
            case "price_level":
                return np.log(x) - math.log(anchor) if anchor > 0 else np.full(len(x), np.nan)
            case "price_width":
                return x / close
            case "volume":
                return np.log(LEAST_VOLUME + x / mean_volume)
            case "count":
                return np.where(x < 0, -np.log1p(-x), np.log1p(x))
    low, high = channel.clip or (-math.inf, math.inf)
    return np.where(np.isfinite(x), np.minimum(np.maximum(x, low), high), np.nan)


class InputOracle:
    """Windows of single snapshots. `panel` (n_bars, 55) belongs to `bars`."""

    def __init__(self, bars: Bars, panel: np.ndarray) -> None:
        self.bars, self.panel = bars, panel
        self.market = [f.position for f in FEATURES if not f.needs_pattern]

    def canonical(self, snapshot: pd.Series) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Canonical values (50, 69) float64, mask (50,), close at the snapshot, mean volume, of one snapshot row."""
        bars = self.bars
        rows = bars.ticker_slice(snapshot["ticker"])
        days = bars.date[rows]
        dates = [np.datetime64(snapshot[c], "D") for c in ("start_date", "activation_date", "snapshot_date")]
        start, activation, end = (rows.start + int(np.flatnonzero(days == d.astype(np.int64))[0]) for d in dates)
        high, low, close, volume = bars.high, bars.low, bars.close, bars.volume
        upper, lower, power = (float(snapshot[c]) for c in ("upper", "lower", "power"))
        x = np.zeros((SEQUENCE_BARS, N_FEATURES))
        mask = np.zeros(SEQUENCE_BARS, dtype=bool)
        prior = np.nan
        if start - rows.start >= PRIOR_BARS:
            before = slice(start - PRIOR_BARS, start)
            prior = float(high[before].max() - low[before].min())
        width = upper - lower
        r = np.arange(max(end - SEQUENCE_BARS + 1, rows.start + HISTORY_BARS - 1), end + 1)  # the valid bars
        j = r - (end - SEQUENCE_BARS + 1)
        mask[j] = True
        x[np.ix_(j, self.market)] = self.panel[r]
        price = close[r].astype(np.float64)
        with np.errstate(all="ignore"):
            values = {
                1: r - activation,
                2: r - start,
                3: width / lower * 100.0,
                4: np.maximum(0, r - start + 1),
                23: (price - lower) / np.float64(width),
                24: (upper - price) / price * 100.0,
                25: (price - lower) / price * 100.0,
                26: (power - price) / price * 100.0,
                49: float(close[start]),
                50: upper,
                51: lower,
                52: power,
                67: (prior - width) / np.float64(prior) * 100.0,
                69: float(snapshot["qualifying_bars"]),
            }
        for number, value in values.items():
            x[j, number - 1] = value
        first = max(rows.start, end - VOLUME_BARS + 1)
        mean_volume = float(volume[first : end + 1].mean()) if end - first + 1 >= HISTORY_BARS else math.nan
        return x, mask, float(close[end]), mean_volume

    def inputs(
        self, made: tuple[np.ndarray, np.ndarray, float, float], center: np.ndarray, scale: np.ndarray, bound: float
    ) -> np.ndarray:
        """Standardised scale-free values (50, 69) float64 of what `canonical` made."""
        x, mask, anchor, mean_volume = made
        out = np.zeros_like(x)
        price = x[:, 4].copy()
        with np.errstate(all="ignore"):
            for f in FEATURES:
                v = scale_free(f, x[:, f.position], price, anchor, mean_volume)
                finite = np.isfinite(v)
                z = np.clip((v - center[f.position]) / scale[f.position], -bound, bound)
                out[:, f.position] = np.where(finite & mask, z, 0.0)
        return out
