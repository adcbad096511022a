"""Early-breakout-precursor channels, features 27-45: compression, volume, energy, pressure and their composite."""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.features.elementary import exp, log
from k4_pipeline.features.layout import channel_row, helper_row, row, work_rows
from k4_pipeline.features.rolling import (
    clip,
    divide,
    equal_run,
    filled_run,
    rolling_count_le,
    rolling_max,
    rolling_std,
    rolling_sum,
    shift,
    sum_to_exact_mean,
    sum_to_mean,
)

ONE_BAR = np.int64(1)
WEEK_BARS = np.int64(5)
TREND_BARS = np.int64(10)
MONTH_BARS = np.int64(20)
QUARTER_BARS = np.int64(50)
RANK_BARS = np.int64(100)
LONG_BARS = np.int64(60)
YEAR_BARS = np.int64(250)

_BBW = channel_row("current_bbw_20")
_CCI_BBW = channel_row("cci_bbw_compression")
_CCI_ATR = channel_row("cci_atr_compression")
_CCI_DAYS = channel_row("cci_days_factor")
_CCI = channel_row("cci_score")
_VAR_RAW = channel_row("var_raw")
_VAR = channel_row("var_score")
_MASS = channel_row("nes_inactive_mass")
_WAVELET = channel_row("nes_wavelet_energy")
_RSA = channel_row("nes_rsa_proxy")
_NES = channel_row("nes_score")
_BID = channel_row("lpf_bid_pressure")
_PRESSURE = channel_row("lpf_volume_pressure")
_FTA = channel_row("lpf_fta_proxy")
_LPF = channel_row("lpf_score")
_TSF = channel_row("tsf_score")
_EBP_RAW = channel_row("ebp_raw")
_EBP = channel_row("ebp_composite")
_SIGNAL = channel_row("ebp_signal")
_MOMENTUM = channel_row("price_momentum_20d")
_FILLED = helper_row("bbw_filled")
_RANGE = helper_row("range")
_TRUE_RANGE = helper_row("true_range")
_RETURN = helper_row("return")
_MEAN_V5 = helper_row("mean_v5")
_MEAN_V20 = helper_row("mean_v20")
_MEAN_V50 = helper_row("mean_v50")
_TEMP_A = helper_row("a")
_EQUAL_VOLUME = helper_row("equal_volume")
_TEMP_C = helper_row("c")
_TEMP_D = helper_row("d")


@njit
def rank_share(x: np.ndarray, filled: np.ndarray, out: np.ndarray) -> None:
    """rank_100(x): share of the last 100 values that are <= x[t]; `filled` (n,) is overwritten."""
    filled_run(x, filled)
    rolling_count_le(x, filled, RANK_BARS, out)
    for i in range(len(out)):
        out[i] = out[i] / RANK_BARS


@njit
def compression_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Features 27, 28 and 30; 29 must be there."""
    bbw, filled = row(buffer, _BBW, stride, n), row(buffer, _FILLED, stride, n)
    a, c, d = row(buffer, _TEMP_A, stride, n), row(buffer, _TEMP_C, stride, n), row(buffer, _TEMP_D, stride, n)
    work = work_rows(buffer, stride, n)
    by_bbw, by_atr = row(buffer, _CCI_BBW, stride, n), row(buffer, _CCI_ATR, stride, n)
    days, score = row(buffer, _CCI_DAYS, stride, n), row(buffer, _CCI, stride, n)
    rolling_max(bbw, filled, LONG_BARS, work, c)
    for i in range(n):
        by_bbw[i] = clip(1.0 - divide(bbw[i], c[i]), 0.0, 1.0)
    true_range = row(buffer, _TRUE_RANGE, stride, n)
    equal_run(true_range, a)
    rolling_sum(true_range, MONTH_BARS, work, c)
    sum_to_exact_mean(true_range, a, MONTH_BARS, c)
    rolling_sum(true_range, LONG_BARS, work, d)
    sum_to_exact_mean(true_range, a, LONG_BARS, d)
    for i in range(n):
        by_atr[i] = clip(1.0 - divide(c[i], d[i]), 0.0, 1.0)
        score[i] = by_bbw[i] * by_atr[i] * days[i]


@njit
def asymmetry_rows(close: np.ndarray, volume: np.ndarray, buffer: np.ndarray, stride: int) -> None:
    """Features 31 and 32 (volume on rising against falling closes), and the one-bar return."""
    n = len(close)
    r = row(buffer, _RETURN, stride, n)
    a, c, d = row(buffer, _TEMP_A, stride, n), row(buffer, _TEMP_C, stride, n), row(buffer, _TEMP_D, stride, n)
    work = work_rows(buffer, stride, n)
    shift(close, ONE_BAR, a)
    for i in range(n):
        r[i] = divide(close[i], a[i]) - 1.0
    for i in range(n):
        # 0 * r keeps a missing return missing, which the comparison alone would turn into 0.
        c[i] = volume[i] * (r[i] if r[i] > 0.0 else 0.0 * r[i])
        d[i] = volume[i] * (-r[i] if r[i] < 0.0 else 0.0 * r[i])
    raw, score = row(buffer, _VAR_RAW, stride, n), row(buffer, _VAR, stride, n)
    rolling_sum(c, MONTH_BARS, work, raw)
    rolling_sum(d, MONTH_BARS, work, c)
    for i in range(n):
        raw[i] = divide(raw[i], c[i])
    rolling_sum(raw, MONTH_BARS, work, c)
    sum_to_mean(c, MONTH_BARS)
    for i in range(n):
        score[i] = clip(divide(raw[i], c[i]), 0.5, 3.0)


@njit
def energy_rows(close: np.ndarray, volume: np.ndarray, buffer: np.ndarray, stride: int) -> None:
    """Features 33-36; the one-bar return and #64 must be there."""
    n = len(close)
    a, c, d = row(buffer, _TEMP_A, stride, n), row(buffer, _TEMP_C, stride, n), row(buffer, _TEMP_D, stride, n)
    work = work_rows(buffer, stride, n)
    mass, wavelet = row(buffer, _MASS, stride, n), row(buffer, _WAVELET, stride, n)
    rsa, score = row(buffer, _RSA, stride, n), row(buffer, _NES, stride, n)

    rolling_sum(volume, YEAR_BARS, work, c)
    sum_to_exact_mean(volume, row(buffer, _EQUAL_VOLUME, stride, n), YEAR_BARS, c)
    for i in range(n):
        activity = divide(volume[i], c[i])
        activity = 2.0 if activity > 2.0 else activity
        d[i] = clip(1.0 - activity, 0.0, 1.0) * close[i] * volume[i]
    rank_share(d, c, mass)

    r = row(buffer, _RETURN, stride, n)
    for i in range(n):
        wavelet[i] = 0.0
    for window in (WEEK_BARS, TREND_BARS, MONTH_BARS):
        rolling_sum(r, window, work, c)
        sum_to_mean(c, window)
        rolling_std(r, c, window, d)
        rolling_sum(d, QUARTER_BARS, work, a)
        sum_to_mean(a, QUARTER_BARS)
        for i in range(n):
            wavelet[i] += divide(d[i], a[i])
    for i in range(n):
        wavelet[i] = wavelet[i] / 3.0

    momentum = row(buffer, _MOMENTUM, stride, n)
    rolling_sum(momentum, RANK_BARS, work, c)
    sum_to_mean(c, RANK_BARS)
    rolling_std(momentum, c, RANK_BARS, d)
    for i in range(n):
        rsa[i] = clip(divide(momentum[i] - c[i], d[i]), -3.0, 3.0)
    for i in range(n):
        score[i] = exp(
            0.3 * log(clip(mass[i], 1e-10, 1.0))
            + 0.4 * log(clip(wavelet[i], 0.1, 10.0))
            + 0.3 * log(clip(1.0 + rsa[i], 0.1, 10.0))
        )


@njit
def pressure_rows(low: np.ndarray, close: np.ndarray, volume: np.ndarray, buffer: np.ndarray, stride: int) -> None:
    """Features 37-40; H - L, mean_20(V) and mean_50(V) must be there."""
    n = len(close)
    spread = row(buffer, _RANGE, stride, n)
    c, work = row(buffer, _TEMP_C, stride, n), work_rows(buffer, stride, n)
    bid, pressure = row(buffer, _BID, stride, n), row(buffer, _PRESSURE, stride, n)
    fta, score = row(buffer, _FTA, stride, n), row(buffer, _LPF, stride, n)
    mean_v5, mean_v20 = row(buffer, _MEAN_V5, stride, n), row(buffer, _MEAN_V20, stride, n)
    mean_v50 = row(buffer, _MEAN_V50, stride, n)
    for i in range(n):
        # A bar without range has no place within it; a missing close still leaves it missing.
        c[i] = (close[i] - low[i]) / spread[i] if spread[i] != 0.0 else 0.5 + 0.0 * close[i]
    rolling_sum(c, WEEK_BARS, work, bid)
    sum_to_mean(bid, WEEK_BARS)
    rolling_sum(volume, WEEK_BARS, work, mean_v5)
    sum_to_exact_mean(volume, row(buffer, _EQUAL_VOLUME, stride, n), WEEK_BARS, mean_v5)
    for i in range(n):
        pressure[i] = divide(mean_v5[i], mean_v50[i])
        fta[i] = clip(divide(mean_v5[i] - mean_v20[i], mean_v20[i]), -1.0, 3.0)
        score[i] = bid[i] * pressure[i] * (1.0 + fta[i])


@njit
def composite_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Features 43-45 from 30, 32, 36, 40 and 42."""
    cci, var, nes = row(buffer, _CCI, stride, n), row(buffer, _VAR, stride, n), row(buffer, _NES, stride, n)
    lpf, tsf = row(buffer, _LPF, stride, n), row(buffer, _TSF, stride, n)
    raw, composite = row(buffer, _EBP_RAW, stride, n), row(buffer, _EBP, stride, n)
    signal = row(buffer, _SIGNAL, stride, n)
    for i in range(n):
        product = clip(cci[i], 0.01, 10.0) * clip(var[i], 0.1, 10.0) * clip(nes[i], 0.1, 10.0) * clip(lpf[i], 0.1, 10.0)
        raw[i] = exp(log(product) / clip(tsf[i], 1.0, 10.0))
    rank_share(raw, row(buffer, _TEMP_C, stride, n), composite)
    for i in range(n):
        share = composite[i]
        level = 1.0 + (1.0 if share >= 0.5 else 0.0) + (1.0 if share >= 0.7 else 0.0)
        level += (1.0 if share >= 0.85 else 0.0) + (1.0 if share >= 0.95 else 0.0)
        signal[i] = level + 0.0 * share
