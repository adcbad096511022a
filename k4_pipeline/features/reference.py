"""The 69 channels in plain numpy, one function per channel, and the model input of each scale class.

What spec.py declares, as a formula that can be read: the kernels compute the same, faster, and are tested against this
file, and so are the rivals in `k4 bench features`. docs/features.md prints these functions.

A market channel is a function of the bars `b` of one ticker and may read other channels by name, b["current_bbw_20"].
A pattern channel is a function of the pattern `p`, the bars `b` of its ticker and the bar numbers t (n,). A value that
is not available is NaN: a window with a missing value has no mean, deviation, slope, rank or minimum.
"""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import dataclass, field

import numpy as np

from k4_pipeline.features.reference_tools import NAN, divide, lag, mean, rank, share, slope, std, windows
from k4_pipeline.features.spec import FEATURES, MARKET_NAMES, FeatureSpec

VOLUME_FLOOR = 0.01  # in the model input a bar without volume is log(0.01) = -4.6, not minus infinity


def model_input(
    spec: FeatureSpec, x: np.ndarray, close: np.ndarray, snapshot_close: float, mean_volume: float
) -> np.ndarray:
    """Scale-free values (n,) of a channel x (n,), before standardisation; not finite where there is none.

    close (n,): of the same bars. mean_volume: of the last 250 bars up to the snapshot.
    """
    with np.errstate(all="ignore"):
        if spec.scale == "price_level":
            return np.log(x / snapshot_close)
        if spec.scale == "price_width":
            return x / close
        if spec.scale == "volume":
            return np.log(VOLUME_FLOOR + x / mean_volume)
        if spec.scale == "count":
            return np.sign(x) * np.log1p(np.abs(x))
        return np.where(np.isfinite(x), np.clip(x, *(spec.clip or (-np.inf, np.inf))), NAN)


def source_of(spec: FeatureSpec) -> str:
    """The reference of a channel as text."""
    kind = PatternReference if spec.needs_pattern else MarketReference
    return textwrap.dedent(inspect.getsource(getattr(kind, spec.name))).strip()


@dataclass(frozen=True, eq=False)
class MarketReference:
    """The market channels of one ticker, whose bars are given oldest first, (n_bars,) float64 each."""

    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    made: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> np.ndarray:
        """A market channel or helper series, (n_bars,); computed once."""
        if name not in self.made:
            with np.errstate(all="ignore"):
                self.made[name] = getattr(self, name)()
        return self.made[name]

    def table(self) -> np.ndarray:
        """All market channels, (n_bars, 55) float64, in `MARKET_NAMES` order."""
        return np.stack([self[name] for name in MARKET_NAMES], axis=1)

    def bbw_key(b):  # what comparisons, ranks, medians and minima read
        return np.round(b["current_bbw_20"], 9)

    def simple_return(b):
        return divide(b.close, lag(b.close, 1)) - 1

    def true_range(b):
        before = lag(b.close, 1)
        return np.maximum(b.high - b.low, np.maximum(np.abs(b.high - before), np.abs(b.low - before)))

    def current_price(b):
        return b.close

    def current_high(b):
        return b.high

    def current_low(b):
        return b.low

    def current_volume(b):
        return b.volume

    def current_bbw_20(b):
        return divide(4 * std(b.close, 20), mean(b.close, 20)) * 100

    def current_bbw_percentile(b):
        w = windows(b["bbw_key"], 100)
        return share(w < w[:, -1:], w)

    def current_adx(b):
        adx, tr = np.full(len(b.close), NAN), b["true_range"]
        up, down = b.high - lag(b.high, 1), lag(b.low, 1) - b.low
        tie = np.abs(up - down) < 1e-6 * lag(b.close, 1)
        plus = np.where((up > down) & (up > 0) & ~tie, up, 0.0)
        minus = np.where((down > up) & (down > 0) & ~tie, down, 0.0)
        sums, seeds, value = np.zeros(3), [], NAN
        for t in range(1, len(adx)):
            moves = np.array([plus[t], minus[t], tr[t]])
            sums = sums + moves if t <= 13 else sums - sums / 14 + moves  # the first 13 moves are summed
            if t <= 13:
                continue
            dx = 100 * divide(abs(sums[0] - sums[1]), sums[0] + sums[1]) if sums[2] > 0 else NAN
            if t <= 27:
                seeds.append(0.0 if np.isnan(dx) else float(dx))
                value = float(np.mean(seeds)) if t == 27 else NAN  # the first ADX is the mean of 14 DX
            elif not np.isnan(dx):
                value = float(13 * value + dx) / 14
            adx[t] = value if not np.isnan(sums).any() else NAN
        return adx

    def current_volume_ratio_20(b):
        return divide(b.volume, mean(b.volume, 20))

    def current_range_ratio(b):
        return divide(b.high - b.low, mean(b.high - b.low, 20))

    def baseline_bbw_avg(b):
        return lag(mean(b["current_bbw_20"], 30), 20)

    def baseline_volume_avg(b):
        return lag(mean(b["current_volume_ratio_20"], 30), 20)

    def baseline_volatility(b):
        return lag(std(b.close, 30), 20)

    def bbw_compression_ratio(b):
        return divide(b["current_bbw_20"], b["baseline_bbw_avg"])

    def volume_compression_ratio(b):
        return divide(b["current_volume_ratio_20"], b["baseline_volume_avg"])

    def volatility_compression_ratio(b):
        return divide(std(b.close, 20), b["baseline_volatility"])

    def bbw_slope_20d(b):
        return slope(b["current_bbw_20"], 20)

    def adx_slope_20d(b):
        return slope(b["current_adx"], 20)

    def consolidation_quality_score(b):
        width, volume = np.clip(b["bbw_compression_ratio"], 0, 1), np.clip(b["volume_compression_ratio"] / 2, 0, 1)
        return 0.33 * (1 - width) + 0.33 * (1 - volume) + 0.33 * (1 - np.clip(b["current_adx"] / 50, 0, 1))

    def cci_bbw_compression(b):
        return np.clip(1 - divide(b["current_bbw_20"], windows(b["current_bbw_20"], 60).max(axis=1)), 0, 1)

    def cci_atr_compression(b):
        return np.clip(1 - divide(mean(b["true_range"], 20), mean(b["true_range"], 60)), 0, 1)

    def tsf_days_in_consolidation(b):
        middle, run = np.median(windows(b["bbw_key"], 60), axis=1), np.full(len(b.close), NAN)
        for t in np.flatnonzero(~np.isnan(middle)):
            before = 0.0 if t == 0 or np.isnan(run[t - 1]) else run[t - 1]
            run[t] = before + 1 if b["bbw_key"][t] < middle[t] else 0.0
        return run

    def cci_days_factor(b):
        return np.minimum(2, np.sqrt(b["tsf_days_in_consolidation"] / 20))

    def cci_score(b):
        return b["cci_bbw_compression"] * b["cci_atr_compression"] * b["cci_days_factor"]

    def var_raw(b):
        r = b["simple_return"]
        up, down = b.volume * np.maximum(r, 0), b.volume * np.maximum(-r, 0)
        return divide(windows(up, 20).sum(axis=1), windows(down, 20).sum(axis=1))

    def var_score(b):
        return np.clip(divide(b["var_raw"], mean(b["var_raw"], 20)), 0.5, 3)

    def nes_inactive_mass(b):
        activity = divide(b.volume, mean(b.volume, 250))
        return rank(np.clip(1 - np.minimum(activity, 2), 0, 1) * b.close * b.volume, 100)

    def nes_wavelet_energy(b):
        parts = [std(b["simple_return"], n) for n in (5, 10, 20)]
        return sum(divide(part, mean(part, 50)) for part in parts) / 3

    def nes_rsa_proxy(b):
        momentum = b["price_momentum_20d"]
        return np.clip(divide(momentum - mean(momentum, 100), std(momentum, 100)), -3, 3)

    def nes_score(b):
        mass, energy = np.clip(b["nes_inactive_mass"], 1e-10, 1), np.clip(b["nes_wavelet_energy"], 0.1, 10)
        return mass**0.3 * energy**0.4 * np.clip(1 + b["nes_rsa_proxy"], 0.1, 10) ** 0.3

    def lpf_bid_pressure(b):
        place = divide(b.close - b.low, b.high - b.low)
        return mean(np.where(b.high == b.low, 0.5, place), 5)

    def lpf_volume_pressure(b):
        return divide(mean(b.volume, 5), mean(b.volume, 50))

    def lpf_fta_proxy(b):
        return np.clip(divide(mean(b.volume, 5) - mean(b.volume, 20), mean(b.volume, 20)), -1, 3)

    def lpf_score(b):
        return b["lpf_bid_pressure"] * b["lpf_volume_pressure"] * (1 + b["lpf_fta_proxy"])

    def tsf_score(b):
        return 1 + np.sqrt(b["tsf_days_in_consolidation"] / 30)

    def ebp_raw(b):
        product = np.clip(b["cci_score"], 0.01, 10)
        for name in ("var_score", "nes_score", "lpf_score"):
            product = product * np.clip(b[name], 0.1, 10)
        return product ** (1 / np.clip(b["tsf_score"], 1, 10))

    def ebp_composite(b):
        return rank(b["ebp_raw"], 100)

    def ebp_signal(b):
        levels = sum(np.where(b["ebp_composite"] >= level, 1.0, 0.0) for level in (0.5, 0.7, 0.85, 0.95))
        return np.where(np.isnan(b["ebp_composite"]), NAN, 1 + levels)

    def avg_range_20d(b):
        return mean(b.high - b.low, 20)

    def bbw_std_20d(b):
        return std(b["current_bbw_20"], 20)

    def price_volatility_20d(b):
        return std(b.close, 20)

    def volume_trend_10d(b):
        return divide(slope(b.volume, 10), mean(b.volume, 10))

    def volume_spike(b):
        return divide(b.volume, lag(mean(b.volume, 20), 1))

    def volume_vs_50d(b):
        return divide(b.volume, mean(b.volume, 50))

    def daily_volatility(b):
        return std(np.log(b.close / lag(b.close, 1)), 20)

    def high_low_spread(b):
        return divide(b.high - b.low, b.close)

    def close_vs_vwap(b):
        typical = (b.high + b.low + b.close) / 3
        return divide(b.close - typical, typical)

    def ma_5(b):
        return mean(b.close, 5)

    def ma_10(b):
        return mean(b.close, 10)

    def ma_20(b):
        return mean(b.close, 20)

    def price_vs_ma5(b):
        return divide(b.close, b["ma_5"]) - 1

    def price_vs_ma20(b):
        return divide(b.close, b["ma_20"]) - 1

    def price_momentum_20d(b):
        return divide(b.close, lag(b.close, 20)) - 1

    def days_since_bbw_low(b):
        w = windows(b["bbw_key"], 60)
        return np.where(np.isnan(w).any(axis=1), NAN, np.argmin(w[:, ::-1], axis=1))

    def days_since_volume_spike(b):
        w = windows(b["volume_spike"], 61)
        last = np.where((w > 2).any(axis=1), np.argmax(w[:, ::-1] > 2, axis=1), 60)
        return np.where(np.isnan(w).any(axis=1), NAN, last)

    def bbw_acceleration(b):
        change = b["current_bbw_20"] - lag(b["current_bbw_20"], 1)
        out = (change - lag(change, 4)) / 4
        out[:25] = NAN  # declared, as in the canonical table, with one bar more than it reads
        return out


@dataclass(frozen=True)
class PatternReference:
    """The pattern channels of one pattern: bar numbers of start and activation, and the box fixed at activation."""

    start: int
    activation: int
    upper: float
    lower: float
    power: float
    qualifying_bars: int

    def table(self, b: MarketReference, t: np.ndarray) -> np.ndarray:
        """All pattern channels at the bars t (n,), (n, 14) float64, in the order of the declarations."""
        with np.errstate(all="ignore"):
            columns = [getattr(self, f.name)(b, t) for f in FEATURES if f.needs_pattern]
        return np.stack([np.broadcast_to(np.asarray(c, dtype=np.float64), t.shape) for c in columns], axis=1)

    def days_since_activation(p, b, t):
        return t - p.activation

    def days_in_pattern(p, b, t):
        return t - p.start

    def consolidation_channel_width_pct(p, b, t):
        return divide(p.upper - p.lower, p.lower) * 100

    def consolidation_period_days(p, b, t):
        return np.maximum(t - p.start + 1, 0)

    def price_position_in_range(p, b, t):
        return divide(b.close[t] - p.lower, p.upper - p.lower)

    def price_distance_from_upper_pct(p, b, t):
        return divide(p.upper - b.close[t], b.close[t]) * 100

    def price_distance_from_lower_pct(p, b, t):
        return divide(b.close[t] - p.lower, b.close[t]) * 100

    def distance_from_power_pct(p, b, t):
        return divide(p.power - b.close[t], b.close[t]) * 100

    def start_price(p, b, t):
        return b.close[p.start]

    def upper_boundary(p, b, t):
        return p.upper

    def lower_boundary(p, b, t):
        return p.lower

    def power_boundary(p, b, t):
        return p.power

    def channel_narrowing_pct(p, b, t):
        if p.start < 20:
            return NAN
        before = slice(p.start - 20, p.start)
        width = b.high[before].max() - b.low[before].min()
        return divide(width - (p.upper - p.lower), width) * 100

    def days_in_qualification(p, b, t):
        return p.qualifying_bars
