"""Channels put together from others: baselines 15, 16, 18, 19, scores 22, 30, 40, 43-45, and the age of feature 66."""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.features.kernels.elementary import exp, log
from k4_pipeline.features.kernels.rolling import NAN, bars_since, never, rank_share_rows
from k4_pipeline.features.layout import channel_row, helper_row, row, start
from k4_pipeline.simd.simd_f64 import LANES, clip, divide, load, select, splat, store

BASELINE_LAG = np.int64(20)
SPIKE_RATIO = 2.0
SPIKE_CAP = 60.0

_ADX = channel_row("current_adx")
_VOLUME_RATIO = channel_row("current_volume_ratio_20")
_BASE_VOLUME = channel_row("baseline_volume_avg")
_BASE_STD = channel_row("baseline_volatility")
_BBW_COMPRESSION = channel_row("bbw_compression_ratio")
_VOLUME_COMPRESSION = channel_row("volume_compression_ratio")
_STD_COMPRESSION = channel_row("volatility_compression_ratio")
_QUALITY = channel_row("consolidation_quality_score")
_BY_BBW = channel_row("cci_bbw_compression")
_BY_RANGE = channel_row("cci_atr_compression")
_DAYS_FACTOR = channel_row("cci_days_factor")
_CCI = channel_row("cci_score")
_VAR = channel_row("var_score")
_NES = channel_row("nes_score")
_BID = channel_row("lpf_bid_pressure")
_PRESSURE = channel_row("lpf_volume_pressure")
_FTA = channel_row("lpf_fta_proxy")
_LPF = channel_row("lpf_score")
_TSF = channel_row("tsf_score")
_EBP_RAW = channel_row("ebp_raw")
_EBP = channel_row("ebp_composite")
_SIGNAL = channel_row("ebp_signal")
_STD20 = channel_row("price_volatility_20d")
_SPIKE = channel_row("volume_spike")
_SINCE_SPIKE = channel_row("days_since_volume_spike")
_STD30 = helper_row("std_30")
_MEAN_RATIO_30 = helper_row("mean_ratio_30")


@njit
def score_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Features 15, 16, 18, 19, 22, 30 and 40 from those of the other kernels."""
    ratio, mean_ratio = start(_VOLUME_RATIO, stride), start(_MEAN_RATIO_30, stride)
    std20, std30, adx = start(_STD20, stride), start(_STD30, stride), start(_ADX, stride)
    base_volume, base_std = start(_BASE_VOLUME, stride), start(_BASE_STD, stride)
    by_volume, by_std = start(_VOLUME_COMPRESSION, stride), start(_STD_COMPRESSION, stride)
    by_band, quality = start(_BBW_COMPRESSION, stride), start(_QUALITY, stride)
    by_bbw, by_range, days = start(_BY_BBW, stride), start(_BY_RANGE, stride), start(_DAYS_FACTOR, stride)
    bid, pressure, fta = start(_BID, stride), start(_PRESSURE, stride), start(_FTA, stride)
    cci, lpf, one = start(_CCI, stride), start(_LPF, stride), splat(1.0)
    for i in range(0, n, LANES):
        usual, usual_std = load(buffer, mean_ratio + i - BASELINE_LAG), load(buffer, std30 + i - BASELINE_LAG)
        volume_part = divide(load(buffer, ratio + i), usual)
        store(buffer, base_volume + i, usual)
        store(buffer, base_std + i, usual_std)
        store(buffer, by_volume + i, volume_part)
        store(buffer, by_std + i, divide(load(buffer, std20 + i), usual_std))
        calm = one - clip(load(buffer, by_band + i), 0.0, 1.0)
        thin = one - clip(volume_part * 0.5, 0.0, 1.0)
        trendless = one - clip(load(buffer, adx + i) * (1.0 / 50.0), 0.0, 1.0)
        store(buffer, quality + i, (calm * 0.33 + thin * 0.33) + trendless * 0.33)
        compressed = load(buffer, by_bbw + i) * load(buffer, by_range + i)
        store(buffer, cci + i, compressed * load(buffer, days + i))
        pressed = load(buffer, bid + i) * load(buffer, pressure + i)
        store(buffer, lpf + i, pressed * (load(buffer, fta + i) + 1.0))


@njit
def composite_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Features 43-45 from 30, 32, 36, 40 and 42."""
    cci, var, nes, lpf = start(_CCI, stride), start(_VAR, stride), start(_NES, stride), start(_LPF, stride)
    product = start(_EBP_RAW, stride)
    for i in range(0, n, LANES):
        a, b = clip(load(buffer, cci + i), 0.01, 10.0), clip(load(buffer, var + i), 0.1, 10.0)
        c, d = clip(load(buffer, nes + i), 0.1, 10.0), clip(load(buffer, lpf + i), 0.1, 10.0)
        store(buffer, product + i, ((a * b) * c) * d)
    raw, tsf = row(buffer, _EBP_RAW, stride, n), row(buffer, _TSF, stride, n)
    for i in range(n):
        bounded = 1.0 if tsf[i] < 1.0 else (10.0 if tsf[i] > 10.0 else tsf[i])
        raw[i] = exp(log(raw[i]) / bounded)
    composite, signal = start(_EBP, stride), start(_SIGNAL, stride)
    rank_share_rows(buffer, product, composite, n)
    zero, one = splat(0.0), splat(1.0)
    for i in range(0, n, LANES):
        share = load(buffer, composite + i)
        level = select(share >= 0.5, one, zero) + select(share >= 0.7, one, zero)
        level = level + (select(share >= 0.85, one, zero) + select(share >= 0.95, one, zero))
        store(buffer, signal + i, (level + 1.0) + share * 0.0)


@njit
def spike_age_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Feature 66; NaN unless the last `SPIKE_CAP` + 1 values of #54 are there."""
    spike, out = start(_SPIKE, stride), start(_SINCE_SPIKE, stride)
    missing, spiked = never(), never()
    for i in range(0, n, LANES):
        x = load(buffer, spike + i)
        filled, missing = bars_since(x != x, i, missing)
        age, spiked = bars_since(x > SPIKE_RATIO, i, spiked)
        age = select(age > SPIKE_CAP, splat(SPIKE_CAP), age)
        store(buffer, out + i, select(filled > SPIKE_CAP, age, splat(NAN)))
