"""A random but plausible panel with a sequence index and a scaler, for the tests that start from bars."""

from __future__ import annotations

import numpy as np

from k4_pipeline.config import N_FEATURES, SEQUENCE_BARS
from k4_pipeline.features.spec import FEATURES, MARKET_COLUMN, feature_list_hash
from k4_pipeline.sequences.assemble import SequenceIndex
from k4_pipeline.sequences.model_inputs import assemble_scale_free
from k4_pipeline.sequences.standardisation import Scaler


def random_panel(n_bars: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """panel (n_bars, 55) float32 with a few NaN and infinities, and the float64 closes it was rounded from."""
    rng = np.random.default_rng(seed)
    close = 40.0 * np.exp(np.cumsum(0.02 * rng.standard_normal(n_bars)))
    panel = np.empty((n_bars, len(MARKET_COLUMN)), np.float32)
    for f in FEATURES:
        if f.needs_pattern:
            continue
        noise = rng.standard_normal(n_bars)
        if f.scale == "price_level":
            values = close * (1 + 0.01 * noise)
        elif f.scale == "price_width":
            values = close * 0.03 * np.exp(0.3 * noise)
        elif f.scale == "volume":
            values = 1e6 * np.exp(noise) * (rng.random(n_bars) > 0.02)
        elif f.scale == "count":
            values = rng.integers(-30, 300, n_bars)
        else:
            low, high = f.clip
            values = low + (high - low) * (0.5 + 0.4 * noise)  # some outside the clip
        panel[:, MARKET_COLUMN[f.name]] = values
    panel[rng.random(panel.shape) < 0.01] = np.nan
    panel[rng.random(panel.shape) < 0.002] = np.inf
    panel[:, MARKET_COLUMN["current_price"]] = close
    total = np.concatenate([[0.0], np.cumsum(close)])
    for n in (5, 10, 20):  # with exact closes the model inputs recompute these means, so they must be means here
        panel[n - 1 :, MARKET_COLUMN[f"ma_{n}"]] = (total[n:] - total[:-n]) / n
    return panel, close


def random_index(panel: np.ndarray, close: np.ndarray | None, n: int = 120, seed: int = 1) -> SequenceIndex:
    """Windows anywhere in the panel, short ones at its beginning; a few without prior width or mean volume."""
    rng = np.random.default_rng(seed)
    price = panel[:, MARKET_COLUMN["current_price"]].astype(np.float64) if close is None else close
    end = np.sort(rng.integers(19, len(panel), n))
    end[:3] = [19, 25, 60]
    end[5:12] = np.maximum(end[5:12], 60)
    n_valid = np.minimum(SEQUENCE_BARS, end - 18)  # a valid bar has 20 bars of history
    n_valid[5:12] = 1 + np.arange(7) * 5
    activation = end - rng.integers(0, 40, n)
    rows = np.stack([end, n_valid, activation - 9, activation], axis=1).astype(np.int64)
    at = price[end]
    upper, lower = at * (1 + 0.08 * rng.random(n)), at * (1 - 0.08 * rng.random(n))
    prior = np.where(rng.random(n) < 0.1, np.nan, at * 0.2)
    mean_volume = np.where(rng.random(n) < 0.1, np.nan, 1e6)
    geometry = np.stack(
        [upper, lower, upper * 1.005, at * 0.97, prior, rng.integers(10, 20, n), at, mean_volume], axis=1
    ).astype(np.float64)
    return SequenceIndex(rows, geometry, close)


def scaler_for(panel: np.ndarray, index: SequenceIndex) -> Scaler:
    """Plain mean and standard deviation over the sequences of `index`."""
    values, mask = assemble_scale_free(panel, index, np.arange(len(index)))
    flat = values[mask].astype(np.float64)
    flat[~np.isfinite(flat)] = np.nan
    center, scale = np.nanmean(flat, axis=0), np.nanstd(flat, axis=0)
    assert center.shape == (N_FEATURES,)
    meta = {"feature_list_hash": feature_list_hash(), "exact_close": index.close is not None, "clip_sigmas": 8.0}
    arrays = [a.astype(np.float32) for a in (center, np.where(scale > 1e-6, scale, 1.0), center, center)]
    return Scaler(*arrays, meta=meta)
