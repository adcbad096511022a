"""An independent slow oracle of the 69 features: plain Python loops over one ticker, written straight from the tables.

Nothing here imports the package. Every value is looked up by bar number t (0 = the ticker's first bar) and kept, so
that a whole ticker takes about a second. A value that is not available is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

NAN = float("nan")


def divide(a: float, b: float) -> float:
    return NAN if math.isnan(a) or math.isnan(b) or b == 0 else a / b


def clip(x: float, low: float, high: float) -> float:
    return x if math.isnan(x) else min(max(x, low), high)


def missing(values: Sequence[float]) -> bool:
    return any(math.isnan(v) for v in values)


def mean(values: Sequence[float]) -> float:
    if missing(values):
        return NAN
    # Around the first value, so that the mean of equal values is that value.
    return values[0] + math.fsum(v - values[0] for v in values) / len(values)


def std(values: Sequence[float]) -> float:
    m = mean(values)
    return NAN if math.isnan(m) else math.sqrt(math.fsum((v - m) ** 2 for v in values) / len(values))


def slope(values: Sequence[float]) -> float:
    y = mean(values)
    if math.isnan(y):
        return NAN
    x = (len(values) - 1) / 2
    top = math.fsum((i - x) * (v - y) for i, v in enumerate(values))
    return top / math.fsum((i - x) ** 2 for i in range(len(values)))


def rank(values: Sequence[float]) -> float:
    return NAN if missing(values) else sum(1 for v in values if v <= values[-1]) / len(values)


def median(values: Sequence[float]) -> float:
    if missing(values):
        return NAN
    ordered = sorted(values)
    half = len(ordered) // 2
    return (ordered[half - 1] + ordered[half]) / 2 if len(ordered) % 2 == 0 else ordered[half]


@dataclass(frozen=True)
class TickerBars:
    """The bars of one ticker as plain lists."""

    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float]


@dataclass(frozen=True)
class Geometry:
    """One pattern on a ticker: bar numbers of start and activation, and the boundaries fixed at activation."""

    start: int
    activation: int
    upper: float
    lower: float
    power: float
    qualifying_bars: int


class MarketOracle:
    """The 55 market channels of one ticker; `values(t)` maps names to float64 values."""

    def __init__(self, bars: TickerBars) -> None:
        self.bars = bars
        self.adx_values = self._adx()
        # One memory per series and instance: bound methods wrapped here, not on the class.
        for name in (
            "mean_close", "std_close", "bbw", "bbw_rounded", "volume_ratio", "run", "var_raw", "mass", "std_return",
            "momentum", "ebp_raw", "spike", "nes_score", "inactive_rank",
        ):  # fmt: skip
            setattr(self, name, lru_cache(maxsize=None)(getattr(self, name)))

    @staticmethod
    def window(series: Callable[[int], float], n: int, t: int) -> list[float]:
        """The last n values of a series up to and including t."""
        return [series(i) if i >= 0 else NAN for i in range(t - n + 1, t + 1)]

    def c(self, t: int) -> float:
        return self.bars.close[t]

    def v(self, t: int) -> float:
        return self.bars.volume[t]

    def span(self, t: int) -> float:
        return self.bars.high[t] - self.bars.low[t]

    def true_range(self, t: int) -> float:
        if t < 1:
            return NAN
        h, lo, p = self.bars.high[t], self.bars.low[t], self.bars.close[t - 1]
        return max(h - lo, abs(h - p), abs(lo - p))

    def ret(self, t: int) -> float:
        return divide(self.c(t), self.c(t - 1)) - 1 if t >= 1 else NAN

    def log_ret(self, t: int) -> float:
        return math.log(self.c(t) / self.c(t - 1)) if t >= 1 else NAN

    def mean_close(self, n: int, t: int) -> float:
        return mean(self.window(self.c, n, t))

    def std_close(self, n: int, t: int) -> float:
        return std(self.window(self.c, n, t))

    def mean_volume(self, n: int, t: int) -> float:
        return mean(self.window(self.v, n, t))

    def bbw(self, t: int) -> float:
        return divide(4 * self.std_close(20, t), self.mean_close(20, t)) * 100

    def bbw_rounded(self, t: int) -> float:
        value = self.bbw(t)
        return value if math.isnan(value) else round(value, 9)

    def volume_ratio(self, t: int) -> float:
        return divide(self.v(t), self.mean_volume(20, t))

    def _adx(self) -> list[float]:
        """Wilder: sums of the first 13 moves, then smoothed by 1/14; first ADX = mean of 14 DX; NaN for 27 bars."""
        b, n = self.bars, len(self.bars.close)
        out = [NAN] * n
        plus = minus = tr = 0.0
        dxs: list[float] = []
        value = NAN
        for t in range(1, n):
            up, down = b.high[t] - b.high[t - 1], b.low[t - 1] - b.low[t]
            tie = abs(up - down) < 1e-6 * b.close[t - 1]
            plus_dm = up if up > down and up > 0 and not tie else 0.0
            minus_dm = down if down > up and down > 0 and not tie else 0.0
            if t <= 13:
                plus, minus, tr = plus + plus_dm, minus + minus_dm, tr + self.true_range(t)
                continue
            plus = plus - plus / 14 + plus_dm
            minus = minus - minus / 14 + minus_dm
            tr = tr - tr / 14 + self.true_range(t)
            dx = None
            if tr > 0:
                plus_di, minus_di = 100 * plus / tr, 100 * minus / tr
                if plus_di + minus_di > 0:
                    dx = 100 * abs(plus_di - minus_di) / (plus_di + minus_di)
            if t <= 27:
                dxs.append(0.0 if dx is None else dx)
                if t == 27:
                    value = sum(dxs) / 14
            elif dx is not None:
                value = (13 * value + dx) / 14
            out[t] = value
        return out

    def adx(self, t: int) -> float:
        return self.adx_values[t]

    def run(self, t: int) -> float:
        """k of #29: consecutive bars up to t with bbw_20 < median_60(bbw_20)."""
        if t < 0:
            return NAN
        middle = median(self.window(self.bbw_rounded, 60, t))
        if math.isnan(middle):
            return NAN
        if not self.bbw_rounded(t) < middle:
            return 0.0
        before = self.run(t - 1)
        return 1.0 if math.isnan(before) else before + 1

    def var_raw(self, t: int) -> float:
        volumes, returns = self.window(self.v, 20, t), self.window(self.ret, 20, t)
        if missing(volumes) or missing(returns):
            return NAN
        up = math.fsum(v * max(r, 0) for v, r in zip(volumes, returns, strict=True))
        down = math.fsum(v * max(-r, 0) for v, r in zip(volumes, returns, strict=True))
        return divide(up, down)

    def mass(self, t: int) -> float:
        activity = divide(self.v(t), self.mean_volume(250, t))
        return NAN if math.isnan(activity) else clip(1 - min(activity, 2), 0, 1) * self.c(t) * self.v(t)

    def inactive_rank(self, t: int) -> float:
        return rank(self.window(self.mass, 100, t))

    def std_return(self, n: int, t: int) -> float:
        return std(self.window(self.ret, n, t))

    def wavelet(self, t: int) -> float:
        parts = []
        for w in (5, 10, 20):
            series = [self.std_return(w, i) if i >= 0 else NAN for i in range(t - 49, t + 1)]
            parts.append(divide(series[-1], mean(series)))
        return sum(parts) / 3

    def momentum(self, t: int) -> float:
        return divide(self.c(t), self.c(t - 20)) - 1 if t >= 20 else NAN

    def rsa(self, t: int) -> float:
        values = self.window(self.momentum, 100, t)
        return clip(divide(values[-1] - mean(values), std(values)), -3, 3)

    def nes_score(self, t: int) -> float:
        a, b, c = self.inactive_rank(t), self.wavelet(t), self.rsa(t)
        return clip(a, 1e-10, 1) ** 0.3 * clip(b, 0.1, 10) ** 0.4 * clip(1 + c, 0.1, 10) ** 0.3

    def bid(self, t: int) -> float:
        return (self.c(t) - self.bars.low[t]) / self.span(t) if self.span(t) != 0 else 0.5

    def compression(self, t: int) -> tuple[float, float, float]:
        """#27, #28, #29."""
        widths = self.window(self.bbw, 60, t)
        by_bbw = NAN if missing(widths) else clip(1 - divide(widths[-1], max(widths)), 0, 1)
        short, long = mean(self.window(self.true_range, 20, t)), mean(self.window(self.true_range, 60, t))
        k = self.run(t)
        return by_bbw, clip(1 - divide(short, long), 0, 1), NAN if math.isnan(k) else min(2, math.sqrt(k / 20))

    def pressure(self, t: int) -> tuple[float, float, float]:
        """#37, #38, #39."""
        short, month = self.mean_volume(5, t), self.mean_volume(20, t)
        return (
            mean(self.window(self.bid, 5, t)),
            divide(short, self.mean_volume(50, t)),
            clip(divide(short - month, month), -1, 3),
        )

    def ebp_raw(self, t: int) -> float:
        cci = math.prod(self.compression(t))
        raw = self.window(self.var_raw, 20, t)
        var = clip(divide(raw[-1], mean(raw)), 0.5, 3)
        bid, pressure, fta = self.pressure(t)
        lpf = bid * pressure * (1 + fta)
        tsf = 1 + math.sqrt(self.run(t) / 30)
        product = clip(cci, 0.01, 10) * clip(var, 0.1, 10) * clip(self.nes_score(t), 0.1, 10) * clip(lpf, 0.1, 10)
        return product ** (1 / clip(tsf, 1, 10))

    def spike(self, t: int) -> float:
        return divide(self.v(t), self.mean_volume(20, t - 1)) if t >= 1 else NAN

    def since_low(self, t: int) -> float:
        values = self.window(self.bbw_rounded, 60, t)
        if missing(values):
            return NAN
        return next(age for age in range(60) if values[-1 - age] == min(values))

    def since_spike(self, t: int) -> float:
        values = self.window(self.spike, 61, t)
        if missing(values):
            return NAN
        return next((age for age in range(61) if values[-1 - age] > 2), 60)

    def acceleration(self, t: int) -> float:
        # The table asks for 26 bars, one more than the formula reads.
        if t < 25:
            return NAN
        return ((self.bbw(t) - self.bbw(t - 1)) - (self.bbw(t - 4) - self.bbw(t - 5))) / 4

    def values(self, t: int) -> dict[str, float]:
        """Name -> value of every market channel at bar t."""
        b = self.bars
        h, lo, c, v = b.high[t], b.low[t], b.close[t], b.volume[t]
        bbw, adx, ratio = self.bbw(t), self.adx(t), self.volume_ratio(t)
        keys = self.window(self.bbw_rounded, 100, t)
        base_bbw = mean([self.bbw(i) if i >= 0 else NAN for i in range(t - 49, t - 19)])
        base_volume = mean([self.volume_ratio(i) if i >= 0 else NAN for i in range(t - 49, t - 19)])
        base_std = std([self.c(i) if i >= 0 else NAN for i in range(t - 49, t - 19)])
        std20 = self.std_close(20, t)
        f17, f18 = divide(bbw, base_bbw), divide(ratio, base_volume)
        f27, f28, f29 = self.compression(t)
        raw = self.window(self.var_raw, 20, t)
        bid, pressure, fta = self.pressure(t)
        k = self.run(t)
        composite = rank(self.window(self.ebp_raw, 100, t)) if t >= 99 else NAN
        typical = (h + lo + c) / 3
        volumes10 = self.window(self.v, 10, t)
        return {
            "current_price": c,
            "current_high": h,
            "current_low": lo,
            "current_volume": v,
            "current_bbw_20": bbw,
            "current_bbw_percentile": NAN if missing(keys) else sum(1 for x in keys if x < keys[-1]) / 100,
            "current_adx": adx,
            "current_volume_ratio_20": ratio,
            "current_range_ratio": divide(h - lo, mean(self.window(self.span, 20, t))),
            "baseline_bbw_avg": base_bbw,
            "baseline_volume_avg": base_volume,
            "baseline_volatility": base_std,
            "bbw_compression_ratio": f17,
            "volume_compression_ratio": f18,
            "volatility_compression_ratio": divide(std20, base_std),
            "bbw_slope_20d": slope(self.window(self.bbw, 20, t)),
            "adx_slope_20d": slope(self.window(self.adx, 20, t)),
            "consolidation_quality_score": 0.33 * (1 - clip(f17, 0, 1))
            + 0.33 * (1 - clip(f18 / 2, 0, 1))
            + 0.33 * (1 - clip(adx / 50, 0, 1)),
            "cci_bbw_compression": f27,
            "cci_atr_compression": f28,
            "cci_days_factor": f29,
            "cci_score": f27 * f28 * f29,
            "var_raw": raw[-1],
            "var_score": clip(divide(raw[-1], mean(raw)), 0.5, 3),
            "nes_inactive_mass": self.inactive_rank(t),
            "nes_wavelet_energy": self.wavelet(t),
            "nes_rsa_proxy": self.rsa(t),
            "nes_score": self.nes_score(t),
            "lpf_bid_pressure": bid,
            "lpf_volume_pressure": pressure,
            "lpf_fta_proxy": fta,
            "lpf_score": bid * pressure * (1 + fta),
            "tsf_days_in_consolidation": k,
            "tsf_score": 1 + math.sqrt(k / 30) if not math.isnan(k) else NAN,
            "ebp_raw": self.ebp_raw(t),
            "ebp_composite": composite,
            "ebp_signal": NAN if math.isnan(composite) else 1 + sum(composite >= x for x in (0.5, 0.7, 0.85, 0.95)),
            "avg_range_20d": mean(self.window(self.span, 20, t)),
            "bbw_std_20d": std(self.window(self.bbw, 20, t)),
            "price_volatility_20d": std20,
            "volume_trend_10d": divide(slope(volumes10), mean(volumes10)),
            "volume_spike": self.spike(t),
            "volume_vs_50d": divide(v, self.mean_volume(50, t)),
            "daily_volatility": std(self.window(self.log_ret, 20, t)),
            "high_low_spread": divide(h - lo, c),
            "close_vs_vwap": divide(c - typical, typical),
            "ma_5": self.mean_close(5, t),
            "ma_10": self.mean_close(10, t),
            "ma_20": self.mean_close(20, t),
            "price_vs_ma5": divide(c, self.mean_close(5, t)) - 1,
            "price_vs_ma20": divide(c, self.mean_close(20, t)) - 1,
            "price_momentum_20d": self.momentum(t),
            "days_since_bbw_low": self.since_low(t),
            "days_since_volume_spike": self.since_spike(t),
            "bbw_acceleration": self.acceleration(t),
        }


def oracle_pattern_channels(bars: TickerBars, geometry: Geometry, t: int) -> dict[str, float]:
    """The 14 pattern channels at bar t of a sequence that belongs to `geometry`."""
    g, c = geometry, bars.close[t]
    before = range(g.start - 20, g.start)
    width = max(bars.high[i] for i in before) - min(bars.low[i] for i in before) if g.start >= 20 else NAN
    return {
        "days_since_activation": t - g.activation,
        "days_in_pattern": t - g.start,
        "consolidation_channel_width_pct": divide(g.upper - g.lower, g.lower) * 100,
        "consolidation_period_days": max(t - g.start + 1, 0),
        "price_position_in_range": divide(c - g.lower, g.upper - g.lower),
        "price_distance_from_upper_pct": divide(g.upper - c, c) * 100,
        "price_distance_from_lower_pct": divide(c - g.lower, c) * 100,
        "distance_from_power_pct": divide(g.power - c, c) * 100,
        "start_price": bars.close[g.start],
        "upper_boundary": g.upper,
        "lower_boundary": g.lower,
        "power_boundary": g.power,
        "channel_narrowing_pct": divide(width - (g.upper - g.lower), width) * 100,
        "days_in_qualification": g.qualifying_bars,
    }
