"""The market channels as idiomatic pandas groupby-rolling: the slower rival in `k4 bench features`.

The same channels as in features_polars.py. Rows are sorted by ticker, so a grouped result has the order of the frame.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.market.bars import Bars


def frame(bars: Bars) -> pd.DataFrame:
    """Ticker number, high, low, close, volume, sorted by ticker."""
    codes = np.repeat(np.arange(bars.n_tickers), np.diff(bars.offsets))
    return pd.DataFrame({"ticker": codes, **{name: getattr(bars, name) for name in ("high", "low", "close", "volume")}})


def compute(bars_frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The channels `names` as float32 columns."""
    d = bars_frame.copy()
    ticker = d["ticker"]

    def rolling(x: pd.Series, n: int) -> pd.api.typing.RollingGroupby:
        return x.groupby(ticker, sort=False).rolling(n)

    def mean(x: pd.Series, n: int) -> pd.Series:
        return rolling(x, n).mean().droplevel(0)

    def std(x: pd.Series, n: int) -> pd.Series:
        return rolling(x, n).std(ddof=0).droplevel(0)

    def lag(x: pd.Series, n: int) -> pd.Series:
        return x.groupby(ticker, sort=False).shift(n)

    c, h, low, v = d["close"], d["high"], d["low"], d["volume"]
    d["current_price"], d["current_high"], d["current_low"], d["current_volume"] = c, h, low, v
    before = lag(c, 1)
    for n in (5, 10, 20):
        d[f"ma_{n}"] = mean(c, n)
    d["price_volatility_20d"] = std(c, 20)
    v5, v20, v50, v250 = (mean(v, n) for n in (5, 20, 50, 250))
    span = h - low
    momentum = c / lag(c, 20) - 1
    r, logr = c / before - 1, np.log(c / before)
    tr = pd.concat([span, (h - before).abs(), (low - before).abs()], axis=1).max(axis=1)
    d["avg_range_20d"] = mean(span, 20)
    bbw = d["current_bbw_20"] = 4 * d["price_volatility_20d"] / d["ma_20"] * 100
    key = bbw.round(9)
    d["current_bbw_percentile"] = (rolling(key, 100).rank(method="min").droplevel(0) - 1) / 100
    ratio = d["current_volume_ratio_20"] = v / v20
    d["current_range_ratio"] = span / d["avg_range_20d"]
    d["baseline_bbw_avg"], d["baseline_volume_avg"] = lag(mean(bbw, 30), 20), lag(mean(ratio, 30), 20)
    d["baseline_volatility"] = lag(std(c, 30), 20)
    d["bbw_compression_ratio"] = bbw / d["baseline_bbw_avg"]
    d["volume_compression_ratio"] = ratio / d["baseline_volume_avg"]
    d["volatility_compression_ratio"] = d["price_volatility_20d"] / d["baseline_volatility"]

    d["cci_bbw_compression"] = (1 - bbw / rolling(bbw, 60).max().droplevel(0)).clip(0, 1)
    d["cci_atr_compression"] = (1 - mean(tr, 20) / mean(tr, 60)).clip(0, 1)
    below = (key < rolling(key, 60).median().droplevel(0)).astype(np.int64)
    passed = below.groupby(ticker, sort=False).cumsum()
    at_break = passed.where(below == 0).groupby(ticker, sort=False).ffill().fillna(0)
    run = d["tsf_days_in_consolidation"] = passed - at_break
    d["cci_days_factor"] = np.sqrt(run / 20).clip(upper=2)
    d["cci_score"] = d["cci_bbw_compression"] * d["cci_atr_compression"] * d["cci_days_factor"]
    up, down = v * r.clip(lower=0), v * (-r).clip(lower=0)
    raw = d["var_raw"] = rolling(up, 20).sum().droplevel(0) / rolling(down, 20).sum().droplevel(0)
    d["var_score"] = (raw / mean(raw, 20)).clip(0.5, 3)
    mass = (1 - (v / v250).clip(upper=2)).clip(0, 1) * c * v
    d["nes_inactive_mass"] = rolling(mass, 100).rank(method="max").droplevel(0) / 100
    parts = [(s, mean(s, 50)) for s in (std(r, 5), std(r, 10), std(r, 20))]
    d["nes_wavelet_energy"] = (parts[0][0] / parts[0][1] + parts[1][0] / parts[1][1] + parts[2][0] / parts[2][1]) / 3
    d["nes_rsa_proxy"] = ((momentum - mean(momentum, 100)) / std(momentum, 100)).clip(-3, 3)
    d["nes_score"] = (
        d["nes_inactive_mass"].clip(1e-10, 1) ** 0.3
        * d["nes_wavelet_energy"].clip(0.1, 10) ** 0.4
        * (1 + d["nes_rsa_proxy"]).clip(0.1, 10) ** 0.3
    )
    place = ((c - low) / span).where(span != 0, 0.5)
    d["lpf_bid_pressure"], d["lpf_volume_pressure"] = mean(place, 5), v5 / v50
    d["lpf_fta_proxy"] = ((v5 - v20) / v20).clip(-1, 3)
    d["lpf_score"] = d["lpf_bid_pressure"] * d["lpf_volume_pressure"] * (1 + d["lpf_fta_proxy"])
    d["tsf_score"] = 1 + np.sqrt(run / 30)
    product = (
        d["cci_score"].clip(0.01, 10)
        * d["var_score"].clip(0.1, 10)
        * d["nes_score"].clip(0.1, 10)
        * d["lpf_score"].clip(0.1, 10)
    )
    d["ebp_raw"] = product ** (1 / d["tsf_score"].clip(1, 10))
    share = d["ebp_composite"] = rolling(d["ebp_raw"], 100).rank(method="max").droplevel(0) / 100
    d["ebp_signal"] = 1 + sum((share >= level).astype(np.int64) for level in (0.5, 0.7, 0.85, 0.95))

    d["bbw_std_20d"] = std(bbw, 20)
    spike = d["volume_spike"] = v / lag(v20, 1)
    d["volume_vs_50d"] = v / v50
    d["daily_volatility"] = std(logr, 20)
    d["high_low_spread"] = span / c
    typical = (h + low + c) / 3
    d["close_vs_vwap"] = (c - typical) / typical
    d["price_vs_ma5"], d["price_vs_ma20"] = c / d["ma_5"] - 1, c / d["ma_20"] - 1
    d["price_momentum_20d"] = momentum
    bar = d.groupby("ticker", sort=False).cumcount()
    spike_bar = bar.where(spike > 2).groupby(ticker, sort=False).ffill()
    d["days_since_volume_spike"] = (bar - spike_bar).fillna(60).clip(upper=60)
    change = bbw - lag(bbw, 1)
    d["bbw_acceleration"] = (change - lag(change, 4)) / 4
    return d[names].astype(np.float32)
