"""Derived channels, features 46-68 that need no pattern: volume, volatility, moving averages, momentum, bbw changes.

46 (avg_range_20d), 48 (price_volatility_20d) and 61 (ma_20) are by-products of the core indicators.
"""

from __future__ import annotations

import math

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.features.elementary import log
from k4_pipeline.features.layout import channel_row, helper_row, row, work_rows
from k4_pipeline.features.rolling import (
    divide,
    rolling_slope,
    rolling_std,
    rolling_sum,
    shift,
    sum_to_exact_mean,
    sum_to_mean,
)

ONE_BAR = np.int64(1)
SHORT_BARS = np.int64(5)
TREND_BARS = np.int64(10)
MONTH_BARS = np.int64(20)
QUARTER_BARS = np.int64(50)
ACCELERATION_BARS = np.int64(4)

_BBW = channel_row("current_bbw_20")
_BBW_STD = channel_row("bbw_std_20d")
_VOLUME_TREND = channel_row("volume_trend_10d")
_SPIKE = channel_row("volume_spike")
_VS_50D = channel_row("volume_vs_50d")
_DAILY_VOLATILITY = channel_row("daily_volatility")
_SPREAD = channel_row("high_low_spread")
_VS_VWAP = channel_row("close_vs_vwap")
_MA5 = channel_row("ma_5")
_MA10 = channel_row("ma_10")
_MA20 = channel_row("ma_20")
_VS_MA5 = channel_row("price_vs_ma5")
_VS_MA20 = channel_row("price_vs_ma20")
_MOMENTUM = channel_row("price_momentum_20d")
_ACCELERATION = channel_row("bbw_acceleration")
_RANGE = helper_row("range")
_MEAN_V20 = helper_row("mean_v20")
_MEAN_V50 = helper_row("mean_v50")
_EQUAL_CLOSE = helper_row("equal_close")
_EQUAL_VOLUME = helper_row("equal_volume")
_TEMP_A = helper_row("a")
_TEMP_B = helper_row("b")
_TEMP_C = helper_row("c")
_TEMP_D = helper_row("d")


@njit
def log_returns(close: np.ndarray, out: np.ndarray) -> None:
    """log(C / C[t-1]); a ratio first, so that a common factor of all prices cancels exactly when a power of two."""
    n = len(close)
    out[0] = math.nan
    now, before, target = close[1:], close[: n - 1], out[1:]
    for i in range(n - 1):
        target[i] = log(now[i] / before[i])


@njit
def derived_rows(
    high: np.ndarray, low: np.ndarray, close: np.ndarray, volume: np.ndarray, buffer: np.ndarray, stride: int
) -> None:
    """Fill the derived market channels but 65 and 66; the core rows must be there."""
    n = len(close)
    a, b = row(buffer, _TEMP_A, stride, n), row(buffer, _TEMP_B, stride, n)
    work = work_rows(buffer, stride, n)
    c, d = row(buffer, _TEMP_C, stride, n), row(buffer, _TEMP_D, stride, n)
    bbw, spread = row(buffer, _BBW, stride, n), row(buffer, _RANGE, stride, n)
    rolling_sum(bbw, MONTH_BARS, work, c)
    sum_to_mean(c, MONTH_BARS)
    rolling_std(bbw, c, MONTH_BARS, row(buffer, _BBW_STD, stride, n))

    mean_v20, mean_v50 = row(buffer, _MEAN_V20, stride, n), row(buffer, _MEAN_V50, stride, n)
    equal_close, equal_volume = row(buffer, _EQUAL_CLOSE, stride, n), row(buffer, _EQUAL_VOLUME, stride, n)
    trend, spike = row(buffer, _VOLUME_TREND, stride, n), row(buffer, _SPIKE, stride, n)
    vs_50d = row(buffer, _VS_50D, stride, n)
    rolling_sum(volume, QUARTER_BARS, work, mean_v50)
    sum_to_exact_mean(volume, equal_volume, QUARTER_BARS, mean_v50)
    rolling_sum(volume, TREND_BARS, work, c)
    sum_to_exact_mean(volume, equal_volume, TREND_BARS, c)
    rolling_slope(volume, TREND_BARS, trend)
    shift(mean_v20, ONE_BAR, d)
    for i in range(n):
        trend[i] = divide(trend[i], c[i])
        spike[i] = divide(volume[i], d[i])
        vs_50d[i] = divide(volume[i], mean_v50[i])

    log_returns(close, c)
    rolling_sum(c, MONTH_BARS, work, d)
    sum_to_mean(d, MONTH_BARS)
    rolling_std(c, d, MONTH_BARS, row(buffer, _DAILY_VOLATILITY, stride, n))

    ma5, ma10, ma20 = row(buffer, _MA5, stride, n), row(buffer, _MA10, stride, n), row(buffer, _MA20, stride, n)
    rolling_sum(close, SHORT_BARS, work, ma5)
    sum_to_exact_mean(close, equal_close, SHORT_BARS, ma5)
    rolling_sum(close, TREND_BARS, work, ma10)
    sum_to_exact_mean(close, equal_close, TREND_BARS, ma10)
    range_share, vs_vwap = row(buffer, _SPREAD, stride, n), row(buffer, _VS_VWAP, stride, n)
    vs_ma5, vs_ma20 = row(buffer, _VS_MA5, stride, n), row(buffer, _VS_MA20, stride, n)
    for i in range(n):
        range_share[i] = divide(spread[i], close[i])
        # C - tp, summed from differences: exactly 0 on a bar without range.
        above = ((close[i] - high[i]) + (close[i] - low[i])) / 3.0
        vs_vwap[i] = divide(above, close[i] - above)
        vs_ma5[i] = divide(close[i], ma5[i]) - 1.0
        vs_ma20[i] = divide(close[i], ma20[i]) - 1.0

    momentum = row(buffer, _MOMENTUM, stride, n)
    shift(close, MONTH_BARS, a)
    for i in range(n):
        momentum[i] = divide(close[i], a[i]) - 1.0

    acceleration = row(buffer, _ACCELERATION, stride, n)
    shift(bbw, ONE_BAR, a)
    for i in range(n):
        a[i] = bbw[i] - a[i]
    shift(a, ACCELERATION_BARS, b)
    for i in range(n):
        acceleration[i] = (a[i] - b[i]) / ACCELERATION_BARS
