"""Derived channels, features 46-68 that need no pattern: volume, volatility, moving averages, momentum, bbw changes.

46 (avg_range_20d), 48 (price_volatility_20d) and 61 (ma_20) are by-products of the core indicators.
"""

from __future__ import annotations

import math

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.features.layout import HELPER_ROW, row
from k4_pipeline.features.rolling import divide, rolling_mean, rolling_slope, rolling_std, shift
from k4_pipeline.features.spec import MARKET_COLUMN

SHORT_BARS = 5
TREND_BARS = 10
MONTH_BARS = 20
QUARTER_BARS = 50
ACCELERATION_BARS = 4

_BBW = MARKET_COLUMN["current_bbw_20"]
_BBW_STD = MARKET_COLUMN["bbw_std_20d"]
_VOLUME_TREND = MARKET_COLUMN["volume_trend_10d"]
_SPIKE = MARKET_COLUMN["volume_spike"]
_VS_50D = MARKET_COLUMN["volume_vs_50d"]
_DAILY_VOLATILITY = MARKET_COLUMN["daily_volatility"]
_SPREAD = MARKET_COLUMN["high_low_spread"]
_VS_VWAP = MARKET_COLUMN["close_vs_vwap"]
_MA5 = MARKET_COLUMN["ma_5"]
_MA10 = MARKET_COLUMN["ma_10"]
_MA20 = MARKET_COLUMN["ma_20"]
_VS_MA5 = MARKET_COLUMN["price_vs_ma5"]
_VS_MA20 = MARKET_COLUMN["price_vs_ma20"]
_MOMENTUM = MARKET_COLUMN["price_momentum_20d"]
_ACCELERATION = MARKET_COLUMN["bbw_acceleration"]
_RANGE = HELPER_ROW["range"]
_MEAN_V20 = HELPER_ROW["mean_v20"]
_MEAN_V50 = HELPER_ROW["mean_v50"]
_TEMP_A = HELPER_ROW["a"]
_TEMP_B = HELPER_ROW["b"]


@njit
def log_returns(close: np.ndarray, out: np.ndarray) -> None:
    """log(C / C[t-1]); a ratio first, so that a common factor of all prices cancels exactly when a power of two."""
    out[:1] = math.nan
    for i in range(1, len(close)):
        ratio = divide(close[i], close[i - 1])
        out[i] = math.log(ratio) if ratio > 0.0 else math.nan


@njit
def derived_rows(
    high: np.ndarray, low: np.ndarray, close: np.ndarray, volume: np.ndarray, buffer: np.ndarray, stride: int
) -> None:
    """Fill the derived market channels but 65 and 66; the core rows must be there."""
    n = len(close)
    a, b = row(buffer, _TEMP_A, stride, n), row(buffer, _TEMP_B, stride, n)
    bbw, spread = row(buffer, _BBW, stride, n), row(buffer, _RANGE, stride, n)
    rolling_mean(bbw, MONTH_BARS, a)
    rolling_std(bbw, a, MONTH_BARS, row(buffer, _BBW_STD, stride, n))

    mean_v20, mean_v50 = row(buffer, _MEAN_V20, stride, n), row(buffer, _MEAN_V50, stride, n)
    trend, spike, vs_50d = (
        row(buffer, _VOLUME_TREND, stride, n),
        row(buffer, _SPIKE, stride, n),
        row(buffer, _VS_50D, stride, n),
    )
    rolling_mean(volume, QUARTER_BARS, mean_v50)
    rolling_mean(volume, TREND_BARS, a)
    rolling_slope(volume, TREND_BARS, trend)
    shift(mean_v20, 1, b)
    for i in range(n):
        trend[i] = divide(trend[i], a[i])
        spike[i] = divide(volume[i], b[i])
        vs_50d[i] = divide(volume[i], mean_v50[i])

    log_returns(close, a)
    rolling_mean(a, MONTH_BARS, b)
    rolling_std(a, b, MONTH_BARS, row(buffer, _DAILY_VOLATILITY, stride, n))

    ma5, ma20 = row(buffer, _MA5, stride, n), row(buffer, _MA20, stride, n)
    rolling_mean(close, SHORT_BARS, ma5)
    rolling_mean(close, TREND_BARS, row(buffer, _MA10, stride, n))
    range_share, vs_vwap = row(buffer, _SPREAD, stride, n), row(buffer, _VS_VWAP, stride, n)
    vs_ma5, vs_ma20 = row(buffer, _VS_MA5, stride, n), row(buffer, _VS_MA20, stride, n)
    for i in range(n):
        range_share[i] = divide(spread[i], close[i])
        typical = (high[i] + low[i] + close[i]) / 3.0
        vs_vwap[i] = divide(close[i] - typical, typical)
        vs_ma5[i] = divide(close[i], ma5[i]) - 1.0
        vs_ma20[i] = divide(close[i], ma20[i]) - 1.0

    momentum = row(buffer, _MOMENTUM, stride, n)
    shift(close, MONTH_BARS, a)
    for i in range(n):
        momentum[i] = divide(close[i], a[i]) - 1.0

    acceleration = row(buffer, _ACCELERATION, stride, n)
    shift(bbw, 1, a)
    for i in range(n):
        a[i] = bbw[i] - a[i]
    shift(a, ACCELERATION_BARS, b)
    for i in range(n):
        acceleration[i] = (a[i] - b[i]) / ACCELERATION_BARS
