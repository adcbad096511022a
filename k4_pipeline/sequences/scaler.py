"""Standardisation of the model inputs, fitted on train rows alone and stored with the keys it saw.

Per channel, after the scale-free transform and over valid bars with finite values: winsorise at the train quantiles,
then take mean and standard deviation (ddof 0). The same object serves training and prediction.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS, N_FEATURES, ScalerConfig
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.features.spec import FEATURE_NAMES, feature_list_hash
from k4_pipeline.sequences.assemble import SequenceIndex
from k4_pipeline.sequences.model_inputs import assemble_scale_free
from k4_pipeline.sequences.standardisation import Scaler
from k4_pipeline.storage.keys import key_strings, keys_hash

# A spread below this share of the channel's size is float32 rounding, not information.
_CONSTANT_SPREAD = 1e-6


def fit_scaler(
    panel_values: np.ndarray,
    index: SequenceIndex,
    rows: np.ndarray,
    config: ScalerConfig,
    *,
    keys: pd.DataFrame,
    threads: int | None = None,
) -> Scaler:
    """Fit on the sequences `rows` (b,) of the index, which must be train rows; `keys` (b rows) are their key columns.

    At most `max_fit_sequences` are used, evenly spaced in key order, so the result does not depend on the order of
    `rows`. Raises `BadInputError` without rows, with keys that do not fit or are duplicated.
    """
    _check(rows, keys, config)
    order = np.argsort(np.array(key_strings(keys), dtype=object), kind="stable")
    n_fit = min(len(order), config.max_fit_sequences)
    chosen = order[np.arange(n_fit) * len(order) // n_fit]
    values, mask = assemble_scale_free(panel_values, index, np.asarray(rows)[chosen], threads=threads)
    center, scale = np.zeros(N_FEATURES, np.float32), np.ones(N_FEATURES, np.float32)
    lower, upper = np.zeros(N_FEATURES, np.float32), np.zeros(N_FEATURES, np.float32)
    constant, empty = [], []
    for c in range(N_FEATURES):
        channel = values[:, :, c][mask].astype(np.float64)  # (valid bars,)
        channel = channel[np.isfinite(channel)]
        if len(channel) == 0:
            empty.append(FEATURE_NAMES[c])
            continue
        low, high = np.quantile(channel, [config.lower_quantile, config.upper_quantile])
        np.clip(channel, low, high, out=channel)
        mean, spread = float(channel.mean()), float(channel.std())
        center[c], lower[c], upper[c] = mean, low, high
        if spread > _CONSTANT_SPREAD * max(1.0, abs(mean)):
            scale[c] = spread
        else:
            constant.append(FEATURE_NAMES[c])
    dates = keys["snapshot_date"]
    meta = {
        "first_snapshot": str(dates.min().date()),
        "last_snapshot": str(dates.max().date()),
        "rows": len(rows),
        "fitted_sequences": int(n_fit),
        "fitted_bars": int(mask.sum()),
        "keys_hash": keys_hash(keys),
        "fitted_keys_hash": keys_hash(keys.iloc[chosen]),
        "lower_quantile": config.lower_quantile,
        "upper_quantile": config.upper_quantile,
        "clip_sigmas": config.clip_sigmas,
        "max_fit_sequences": config.max_fit_sequences,
        "feature_list_hash": feature_list_hash(),
        "exact_close": index.close is not None,
        "constant_channels": constant,
        "empty_channels": empty,
    }
    return Scaler(center, scale, lower, upper, meta)


def _check(rows: np.ndarray, keys: pd.DataFrame, config: ScalerConfig) -> None:
    if not 0.0 <= config.lower_quantile < config.upper_quantile <= 1.0:
        raise ConfigError(f"scaler quantiles {config.lower_quantile} and {config.upper_quantile} are not in order")
    if config.max_fit_sequences < 1 or not config.clip_sigmas > 0:
        raise ConfigError("scaler.max_fit_sequences must be at least 1 and scaler.clip_sigmas positive")
    if len(rows) == 0:
        raise BadInputError("no train rows to fit the scaler on; use another as_of or more tickers")
    if len(keys) != len(rows):
        raise BadInputError(f"{len(rows)} rows and {len(keys)} keys: pass the key columns of exactly these rows")
    if keys.duplicated(KEYS).any() or len(np.unique(rows)) != len(rows):
        raise BadInputError("a train row is duplicated among the rows to fit on; remove the duplicates")
