"""Declarations of the 69 canonical features: order, names, formulas, look-backs, warm-ups, scale classes, clips.

The computing code takes its look-backs from here (an earlier bar is NaN), the model inputs their scale class and clip,
the documentation its table. Kernels compiled through `_numba` freeze channel positions taken from this file.
Nothing here computes a feature.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np

from k4_pipeline.config import N_FEATURES, N_MARKET_FEATURES, N_PATTERN_FEATURES
from k4_pipeline.errors import ConfigError

Group = Literal["core", "ebp", "derived"]
Scale = Literal["invariant", "price_level", "price_width", "volume", "count"]

# Bars after which the recursions forget where a ticker's history began, to 1e-6 relative (measured on real bars by
# features/proofs.py). Wilder smoothing forgets by 13/14 a bar, twice over for the ADX.
ADX_WARMUP_BARS = 450
# A run length is exact for runs of at most this many bars; the longest on 3 million real bars has 127.
RUN_WARMUP_BARS = 200


@dataclass(frozen=True)
class FeatureSpec:
    """One canonical channel.

    index: its number in the table, 1..69. lookback_bars: bars needed up to and including t; with fewer the value is
    NaN. recursive: depends on where history begins. warmup_bars: bars after which it agrees with an infinitely long
    history to 1e-6 (equals the look-back where not recursive). scale: how it reacts to a rescaling of prices and
    volumes. clip: the fixed bounds of the model input of an invariant channel. dtype: as stored in the panel.
    """

    index: int
    name: str
    group: Group
    formula: str
    lookback_bars: int
    recursive: bool
    warmup_bars: int
    scale: Scale
    needs_pattern: bool
    clip: tuple[float, float] | None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.lookback_bars < 1:
            raise ConfigError(f"feature {self.name!r} declares no look-back: state the bars it needs, t included")
        if self.recursive and self.warmup_bars <= self.lookback_bars:
            raise ConfigError(f"feature {self.name!r} is recursive: its warm-up must exceed its look-back")
        if not self.recursive and self.warmup_bars != self.lookback_bars:
            raise ConfigError(f"feature {self.name!r} is not recursive: its warm-up is its look-back")
        if (self.scale == "invariant") != (self.clip is not None):
            raise ConfigError(f"feature {self.name!r}: a scale-invariant channel, and only such a one, declares a clip")
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ConfigError(f"feature {self.name!r}: clip {self.clip} is empty")

    @property
    def position(self) -> int:
        """0-based position in the canonical order."""
        return self.index - 1


_Clip = tuple[float, float] | None
_A = ADX_WARMUP_BARS
_R = RUN_WARMUP_BARS

# name, formula at t, look-back, warm-up (0: the look-back), scale, clip, needs the pattern
_CORE: tuple[tuple[str, str, int, int, Scale, _Clip, bool], ...] = (
    ("days_since_activation", "bars since the activation bar (negative before it)", 1, 0, "count", None, True),
    ("days_in_pattern", "bars since the start bar (negative before it)", 1, 0, "count", None, True),
    ("consolidation_channel_width_pct", "(upper - lower) / lower * 100", 1, 0, "invariant", (0, 200), True),
    (
        "consolidation_period_days",
        "bars of the pattern seen so far, start to t inclusive; 0 before the start",
        1,
        0,
        "count",
        None,
        True,
    ),
    ("current_price", "C", 1, 0, "price_level", None, False),
    ("current_high", "H", 1, 0, "price_level", None, False),
    ("current_low", "L", 1, 0, "price_level", None, False),
    ("current_volume", "volume", 1, 0, "volume", None, False),
    ("current_bbw_20", "Bollinger band width: 4 * std_20(C) / mean_20(C) * 100", 20, 0, "invariant", (0, 200), False),
    (
        "current_bbw_percentile",
        "share of the last 100 values of bbw_20 strictly below its value at t",
        119,
        0,
        "invariant",
        (0, 1),
        False,
    ),
    ("current_adx", "Wilder ADX, 14, with the tie rule", 28, _A, "invariant", (0, 100), False),
    ("current_volume_ratio_20", "V / mean_20(V)", 20, 0, "invariant", (0, 20), False),
    ("current_range_ratio", "(H - L) / mean_20(H - L)", 20, 0, "invariant", (0, 20), False),
    ("baseline_bbw_avg", "mean of bbw_20 over bars t-49 .. t-20", 69, 0, "invariant", (0, 200), False),
    ("baseline_volume_avg", "mean of volume_ratio_20 over bars t-49 .. t-20", 69, 0, "invariant", (0, 5), False),
    ("baseline_volatility", "std of C over bars t-49 .. t-20", 50, 0, "price_width", None, False),
    ("bbw_compression_ratio", "bbw_20 / baseline_bbw_avg", 69, 0, "invariant", (0, 10), False),
    ("volume_compression_ratio", "volume_ratio_20 / baseline_volume_avg", 69, 0, "invariant", (0, 20), False),
    ("volatility_compression_ratio", "std_20(C) / baseline_volatility", 50, 0, "invariant", (0, 20), False),
    ("bbw_slope_20d", "slope_20(bbw_20)", 39, 0, "invariant", (-10, 10), False),
    ("adx_slope_20d", "slope_20(adx)", 47, _A + 19, "invariant", (-5, 5), False),
    (
        "consolidation_quality_score",
        "0.33*(1 - clip(#17, 0, 1)) + 0.33*(1 - clip(#18 / 2, 0, 1)) + 0.33*(1 - clip(adx / 50, 0, 1))",
        69,
        _A,
        "invariant",
        (0, 1),
        False,
    ),
    ("price_position_in_range", "(C - lower) / (upper - lower)", 1, 0, "invariant", (-5, 6), True),
    ("price_distance_from_upper_pct", "(upper - C) / C * 100", 1, 0, "invariant", (-100, 200), True),
    ("price_distance_from_lower_pct", "(C - lower) / C * 100", 1, 0, "invariant", (-200, 100), True),
    ("distance_from_power_pct", "(power - C) / C * 100", 1, 0, "invariant", (-100, 200), True),
)
_EBP: tuple[tuple[str, str, int, int, Scale, _Clip, bool], ...] = (
    ("cci_bbw_compression", "clip(1 - bbw_20 / max_60(bbw_20), 0, 1)", 79, 0, "invariant", (0, 1), False),
    ("cci_atr_compression", "clip(1 - mean_20(TR) / mean_60(TR), 0, 1)", 61, 0, "invariant", (0, 1), False),
    (
        "cci_days_factor",
        "min(2, sqrt(k / 20)), k = consecutive bars up to t with bbw_20 < median_60(bbw_20)",
        79,
        79 + 79,
        "invariant",
        (0, 2),
        False,
    ),
    ("cci_score", "#27 * #28 * #29", 79, 79 + 79, "invariant", (0, 2), False),
    ("var_raw", "sum_20(V * max(r, 0)) / sum_20(V * max(-r, 0))", 21, 0, "invariant", (0, 20), False),
    ("var_score", "clip(var_raw / mean_20(var_raw), 0.5, 3)", 40, 0, "invariant", (0.5, 3), False),
    (
        "nes_inactive_mass",
        "rank_100(m), m = clip(1 - min(V / mean_250(V), 2), 0, 1) * C * V",
        349,
        0,
        "invariant",
        (0, 1),
        False,
    ),
    (
        "nes_wavelet_energy",
        "mean over w in {5, 10, 20} of std_w(r) / mean_50(std_w(r))",
        70,
        0,
        "invariant",
        (0, 10),
        False,
    ),
    (
        "nes_rsa_proxy",
        "clip((mom - mean_100(mom)) / std_100(mom), -3, 3), mom = C / C[t-20] - 1",
        120,
        0,
        "invariant",
        (-3, 3),
        False,
    ),
    (
        "nes_score",
        "clip(#33, 1e-10, 1)^0.3 * clip(#34, 0.1, 10)^0.4 * clip(1 + #35, 0.1, 10)^0.3",
        349,
        0,
        "invariant",
        (0, 4),
        False,
    ),
    ("lpf_bid_pressure", "mean_5((C - L) / (H - L)), 0.5 on a bar without range", 5, 0, "invariant", (0, 1), False),
    ("lpf_volume_pressure", "mean_5(V) / mean_50(V)", 50, 0, "invariant", (0, 10), False),
    ("lpf_fta_proxy", "clip((mean_5(V) - mean_20(V)) / mean_20(V), -1, 3)", 20, 0, "invariant", (-1, 3), False),
    ("lpf_score", "#37 * #38 * (1 + #39)", 50, 0, "invariant", (0, 40), False),
    ("tsf_days_in_consolidation", "k of #29", 79, 79 + _R, "count", None, False),
    ("tsf_score", "1 + sqrt(k / 30)", 79, 79 + _R, "invariant", (1, 10), False),
    (
        "ebp_raw",
        "(clip(#30, .01, 10) * clip(#32, .1, 10) * clip(#36, .1, 10) * clip(#40, .1, 10)) ^ (1 / clip(#42, 1, 10))",
        349,
        349 + _R,
        "invariant",
        (0, 250),
        False,
    ),
    ("ebp_composite", "rank_100(ebp_raw)", 448, 448 + _R, "invariant", (0, 1), False),
    (
        "ebp_signal",
        "1 weak, 2 moderate >= .5, 3 good >= .7, 4 strong >= .85, 5 exceptional >= .95 of #44",
        448,
        448 + _R,
        "invariant",
        (1, 5),
        False,
    ),
)
_DERIVED: tuple[tuple[str, str, int, int, Scale, _Clip, bool], ...] = (
    ("avg_range_20d", "mean_20(H - L)", 20, 0, "price_width", None, False),
    ("bbw_std_20d", "std_20(bbw_20)", 39, 0, "invariant", (0, 50), False),
    ("price_volatility_20d", "std_20(C)", 20, 0, "price_width", None, False),
    ("start_price", "C at the start bar", 1, 0, "price_level", None, True),
    ("upper_boundary", "upper", 1, 0, "price_level", None, True),
    ("lower_boundary", "lower", 1, 0, "price_level", None, True),
    ("power_boundary", "power", 1, 0, "price_level", None, True),
    ("volume_trend_10d", "slope_10(V) / mean_10(V)", 10, 0, "invariant", (-1, 1), False),
    ("volume_spike", "V / mean of V over bars t-20 .. t-1", 21, 0, "invariant", (0, 50), False),
    ("volume_vs_50d", "V / mean_50(V)", 50, 0, "invariant", (0, 50), False),
    ("daily_volatility", "std_20 of log returns of C", 21, 0, "invariant", (0, 1), False),
    ("high_low_spread", "(H - L) / C", 1, 0, "invariant", (0, 1), False),
    ("close_vs_vwap", "(C - tp) / tp, tp = (H + L + C) / 3", 1, 0, "invariant", (-0.5, 0.5), False),
    ("ma_5", "mean_5(C)", 5, 0, "price_level", None, False),
    ("ma_10", "mean_10(C)", 10, 0, "price_level", None, False),
    ("ma_20", "mean_20(C)", 20, 0, "price_level", None, False),
    ("price_vs_ma5", "C / ma_5 - 1", 5, 0, "invariant", (-1, 2), False),
    ("price_vs_ma20", "C / ma_20 - 1", 20, 0, "invariant", (-1, 5), False),
    ("price_momentum_20d", "C / C[t-20] - 1", 21, 0, "invariant", (-1, 5), False),
    (
        "days_since_bbw_low",
        "bars since the minimum of bbw_20 over the last 60 bars (latest minimum)",
        79,
        0,
        "count",
        None,
        False,
    ),
    ("days_since_volume_spike", "bars since the last bar with #54 > 2, capped at 60", 81, 0, "count", None, False),
    (
        "channel_narrowing_pct",
        "(w0 - (upper - lower)) / w0 * 100, w0 = max(H) - min(L) of the 20 bars before the start bar",
        1,
        0,
        "invariant",
        (-500, 100),
        True,
    ),
    ("bbw_acceleration", "(d[t] - d[t-4]) / 4, d = one-bar change of bbw_20", 26, 0, "invariant", (-20, 20), False),
    ("days_in_qualification", "number of qualifying bars of the pattern", 1, 0, "count", None, True),
)


def _declare() -> tuple[FeatureSpec, ...]:
    specs: list[FeatureSpec] = []
    groups: tuple[tuple[Group, tuple], ...] = (("core", _CORE), ("ebp", _EBP), ("derived", _DERIVED))
    for group, rows in groups:
        for name, formula, lookback, warmup, scale, clip, needs_pattern in rows:
            bounds = None if clip is None else (float(clip[0]), float(clip[1]))
            specs.append(
                FeatureSpec(
                    index=len(specs) + 1,
                    name=name,
                    group=group,
                    formula=formula,
                    lookback_bars=lookback,
                    recursive=warmup > 0,
                    warmup_bars=warmup or lookback,
                    scale=scale,
                    needs_pattern=needs_pattern,
                    clip=bounds,
                )
            )
    return tuple(specs)


FEATURES: tuple[FeatureSpec, ...] = _declare()
FEATURE_NAMES: tuple[str, ...] = tuple(f.name for f in FEATURES)
MARKET_CHANNELS: np.ndarray = np.array([f.position for f in FEATURES if not f.needs_pattern])  # (55,)
PATTERN_CHANNELS: np.ndarray = np.array([f.position for f in FEATURES if f.needs_pattern])  # (14,)
MARKET_FEATURES: tuple[FeatureSpec, ...] = tuple(FEATURES[i] for i in MARKET_CHANNELS)
MARKET_NAMES: tuple[str, ...] = tuple(f.name for f in MARKET_FEATURES)
# Column of a market channel in the panel, by name.
MARKET_COLUMN: dict[str, int] = {name: i for i, name in enumerate(MARKET_NAMES)}

if (len(FEATURES), len(MARKET_CHANNELS), len(PATTERN_CHANNELS)) != (
    N_FEATURES,
    N_MARKET_FEATURES,
    N_PATTERN_FEATURES,
):
    raise ConfigError(f"{len(FEATURES)} features are declared; the canonical table has {N_FEATURES}")


def feature_list_hash() -> str:
    """16 hex digits that change when any declaration changes; stored with scalers and models."""
    rows = [
        [f.index, f.name, f.group, f.formula, f.lookback_bars, f.warmup_bars, f.scale, f.needs_pattern, f.clip, f.dtype]
        for f in FEATURES
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
