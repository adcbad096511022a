"""Core indicators, features 5-22: prices, Bollinger band width, ADX, volume and range ratios, and their baselines."""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.features import adx as _adx
from k4_pipeline.features.layout import channel_row, helper_row, row, work_rows
from k4_pipeline.features.rolling import (
    clip,
    copy,
    divide,
    equal_run,
    filled_run,
    negate,
    rolling_count_le,
    rolling_slope,
    rolling_std,
    rolling_sum,
    shift,
    sum_to_exact_mean,
    sum_to_mean,
)

BAND_BARS = np.int64(20)
PERCENTILE_BARS = np.int64(100)
BASELINE_BARS = np.int64(30)  # bars t-49 .. t-20
BASELINE_LAG = np.int64(20)
SLOPE_BARS = np.int64(20)
BBW_DECIMALS = 1e9  # comparisons see bbw_20 rounded to 9 decimals

_PRICE = channel_row("current_price")
_HIGH = channel_row("current_high")
_LOW = channel_row("current_low")
_VOLUME = channel_row("current_volume")
_BBW = channel_row("current_bbw_20")
_PERCENTILE = channel_row("current_bbw_percentile")
_ADX = channel_row("current_adx")
_VOLUME_RATIO = channel_row("current_volume_ratio_20")
_RANGE_RATIO = channel_row("current_range_ratio")
_BASE_BBW = channel_row("baseline_bbw_avg")
_BASE_VOLUME = channel_row("baseline_volume_avg")
_BASE_STD = channel_row("baseline_volatility")
_BBW_COMPRESSION = channel_row("bbw_compression_ratio")
_VOLUME_COMPRESSION = channel_row("volume_compression_ratio")
_STD_COMPRESSION = channel_row("volatility_compression_ratio")
_BBW_SLOPE = channel_row("bbw_slope_20d")
_ADX_SLOPE = channel_row("adx_slope_20d")
_QUALITY = channel_row("consolidation_quality_score")
_MA20 = channel_row("ma_20")
_STD20 = channel_row("price_volatility_20d")
_MEAN_RANGE = channel_row("avg_range_20d")
_KEY = helper_row("bbw_key")
_FILLED = helper_row("bbw_filled")
_RANGE = helper_row("range")
_TRUE_RANGE = helper_row("true_range")
_MEAN_V20 = helper_row("mean_v20")
_EQUAL_CLOSE = helper_row("equal_close")
_EQUAL_VOLUME = helper_row("equal_volume")
_TEMP_A = helper_row("a")
_TEMP_B = helper_row("b")
_TEMP_C = helper_row("c")
_TEMP_D = helper_row("d")


@njit
def criteria_rows(
    high: np.ndarray, low: np.ndarray, close: np.ndarray, volume: np.ndarray, buffer: np.ndarray, stride: int
) -> None:
    """Fill what the pattern criteria need: features 9-13, 46, 48, 61, with the bbw key, H - L, TR and mean_20(V)."""
    n = len(close)
    a, b, c = row(buffer, _TEMP_A, stride, n), row(buffer, _TEMP_B, stride, n), row(buffer, _TEMP_C, stride, n)
    equal_close, equal_volume = row(buffer, _EQUAL_CLOSE, stride, n), row(buffer, _EQUAL_VOLUME, stride, n)
    work = work_rows(buffer, stride, n)
    equal_run(close, equal_close)
    equal_run(volume, equal_volume)

    ma20, std20 = row(buffer, _MA20, stride, n), row(buffer, _STD20, stride, n)
    rolling_sum(close, BAND_BARS, work, ma20)
    sum_to_exact_mean(close, equal_close, BAND_BARS, ma20)
    rolling_std(close, ma20, BAND_BARS, std20)
    bbw, key, filled = row(buffer, _BBW, stride, n), row(buffer, _KEY, stride, n), row(buffer, _FILLED, stride, n)
    for i in range(n):
        bbw[i] = divide(4.0 * std20[i], ma20[i]) * 100.0
        key[i] = np.rint(bbw[i] * BBW_DECIMALS)
    filled_run(bbw, filled)
    # Strictly below = all but those at or above; at or above is <= with the signs turned.
    percentile = row(buffer, _PERCENTILE, stride, n)
    negate(key, a)
    rolling_count_le(a, filled, PERCENTILE_BARS, percentile)
    for i in range(n):
        percentile[i] = (PERCENTILE_BARS - percentile[i]) / PERCENTILE_BARS

    _adx.true_range(high, low, close, row(buffer, _TRUE_RANGE, stride, n))
    _adx.adx(high, low, close, a, b, row(buffer, _ADX, stride, n))

    mean_volume, volume_ratio = row(buffer, _MEAN_V20, stride, n), row(buffer, _VOLUME_RATIO, stride, n)
    rolling_sum(volume, BAND_BARS, work, mean_volume)
    sum_to_exact_mean(volume, equal_volume, BAND_BARS, mean_volume)
    spread, mean_range = row(buffer, _RANGE, stride, n), row(buffer, _MEAN_RANGE, stride, n)
    for i in range(n):
        spread[i] = high[i] - low[i]
    equal_run(spread, c)
    rolling_sum(spread, BAND_BARS, work, mean_range)
    sum_to_exact_mean(spread, c, BAND_BARS, mean_range)
    range_ratio = row(buffer, _RANGE_RATIO, stride, n)
    for i in range(n):
        volume_ratio[i] = divide(volume[i], mean_volume[i])
        range_ratio[i] = divide(spread[i], mean_range[i])


@njit
def core_rows(
    high: np.ndarray, low: np.ndarray, close: np.ndarray, volume: np.ndarray, buffer: np.ndarray, stride: int
) -> None:
    """Fill features 5-22; `criteria_rows` must have run."""
    n = len(close)
    copy(close, row(buffer, _PRICE, stride, n))
    copy(high, row(buffer, _HIGH, stride, n))
    copy(low, row(buffer, _LOW, stride, n))
    copy(volume, row(buffer, _VOLUME, stride, n))

    bbw, adx = row(buffer, _BBW, stride, n), row(buffer, _ADX, stride, n)
    volume_ratio, std20 = row(buffer, _VOLUME_RATIO, stride, n), row(buffer, _STD20, stride, n)
    base_bbw, base_volume = row(buffer, _BASE_BBW, stride, n), row(buffer, _BASE_VOLUME, stride, n)
    base_std = row(buffer, _BASE_STD, stride, n)
    work = work_rows(buffer, stride, n)
    c, d = row(buffer, _TEMP_C, stride, n), row(buffer, _TEMP_D, stride, n)
    rolling_sum(bbw, BASELINE_BARS, work, c)
    sum_to_mean(c, BASELINE_BARS)
    shift(c, BASELINE_LAG, base_bbw)
    rolling_sum(volume_ratio, BASELINE_BARS, work, c)
    sum_to_mean(c, BASELINE_BARS)
    shift(c, BASELINE_LAG, base_volume)
    rolling_sum(close, BASELINE_BARS, work, c)
    sum_to_exact_mean(close, row(buffer, _EQUAL_CLOSE, stride, n), BASELINE_BARS, c)
    rolling_std(close, c, BASELINE_BARS, d)
    shift(d, BASELINE_LAG, base_std)

    bbw_part, volume_part = row(buffer, _BBW_COMPRESSION, stride, n), row(buffer, _VOLUME_COMPRESSION, stride, n)
    std_part, quality = row(buffer, _STD_COMPRESSION, stride, n), row(buffer, _QUALITY, stride, n)
    for i in range(n):
        bbw_part[i] = divide(bbw[i], base_bbw[i])
        volume_part[i] = divide(volume_ratio[i], base_volume[i])
        std_part[i] = divide(std20[i], base_std[i])
    rolling_slope(bbw, SLOPE_BARS, row(buffer, _BBW_SLOPE, stride, n))
    rolling_slope(adx, SLOPE_BARS, row(buffer, _ADX_SLOPE, stride, n))
    for i in range(n):
        quality[i] = (
            0.33 * (1.0 - clip(bbw_part[i], 0.0, 1.0))
            + 0.33 * (1.0 - clip(volume_part[i] / 2.0, 0.0, 1.0))
            + 0.33 * (1.0 - clip(adx[i] / 50.0, 0.0, 1.0))
        )
