"""Channels of volume against its own averages: features 12, 38, 39, 53-55, and the mass that 33 ranks."""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.features.kernels.rolling import bars_since, mean_of, never
from k4_pipeline.features.kernels.window_sums import no_slope_10, no_sum_30, nothing, slope_10, sum_30, sums_8
from k4_pipeline.features.layout import channel_row, helper_row, start
from k4_pipeline.simd.simd_f64 import LANES, clip, divide, earlier_1, earlier_4, load, select, splat, store

_CLOSE = channel_row("current_price")
_VOLUME = channel_row("current_volume")
_RATIO = channel_row("current_volume_ratio_20")
_PRESSURE = channel_row("lpf_volume_pressure")
_FTA = channel_row("lpf_fta_proxy")
_TREND = channel_row("volume_trend_10d")
_SPIKE = channel_row("volume_spike")
_VS_50D = channel_row("volume_vs_50d")
_MEAN_RATIO_30 = helper_row("mean_ratio_30")
_MASS = helper_row("mass")
_WORK = helper_row("work_0")


@njit
def volume_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Fill the channels; the bars must be in the buffer."""
    close, volume, changed = start(_CLOSE, stride), start(_VOLUME, stride), never()
    ratio_to, pressure, fta = start(_RATIO, stride), start(_PRESSURE, stride), start(_FTA, stride)
    trend, spike, vs_50d = start(_TREND, stride), start(_SPIKE, stride), start(_VS_50D, stride)
    mean_ratio, mass = start(_MEAN_RATIO_30, stride), start(_MASS, stride)
    # Partial sums over 18, 26, 32, 58, 64 and 122 bars, which longer ones read 32 to 128 bars later.
    sum18, sum26, sum32 = start(_WORK, stride), start(_WORK + 1, stride), start(_WORK + 2, stride)
    sum58, sum64, sum122 = start(_WORK + 3, stride), start(_WORK + 4, stride), start(_WORK + 5, stride)
    none, one = nothing(), splat(1.0)
    levels, slopes, ratios = (none, none, none), no_slope_10(), no_sum_30()
    two2, four2, eight1, ten1, ten2, sixteen1, sixteen2, mean1 = none, none, none, none, none, none, none, none
    for i in range(0, n, LANES):
        v = load(buffer, volume + i)
        equal, changed = bars_since(v != earlier_1(levels[0], v), i, changed)
        two, four, eight = sums_8(v, levels)
        five, ten, sixteen = four + earlier_4(levels[0], v), eight + levels[1], eight + eight1
        eighteen, twenty, twenty_six = sixteen + two2, sixteen + four2, sixteen + ten2
        thirty_two = sixteen + sixteen2
        fifty = thirty_two + load(buffer, sum18 + i - 32)
        fifty_eight = thirty_two + load(buffer, sum26 + i - 32)
        sixty_four = thirty_two + load(buffer, sum32 + i - 32)
        one_two_two = sixty_four + load(buffer, sum58 + i - 64)
        year = (sixty_four + load(buffer, sum64 + i - 64)) + load(buffer, sum122 + i - 128)
        store(buffer, sum18 + i, eighteen)
        store(buffer, sum26 + i, twenty_six)
        store(buffer, sum32 + i, thirty_two)
        store(buffer, sum58 + i, fifty_eight)
        store(buffer, sum64 + i, sixty_four)
        store(buffer, sum122 + i, one_two_two)

        mean5, mean10 = mean_of(v, five, equal, 5.0), mean_of(v, ten, equal, 10.0)
        mean20, mean50 = mean_of(v, twenty, equal, 20.0), mean_of(v, fifty, equal, 50.0)
        ratio = divide(v, mean20)
        store(buffer, ratio_to + i, ratio)
        total, ratios = sum_30(ratio, ratios)
        store(buffer, mean_ratio + i, total * (1.0 / 30.0))
        store(buffer, spike + i, divide(v, earlier_1(mean1, mean20)))
        store(buffer, vs_50d + i, divide(v, mean50))
        slope, slopes = slope_10(v, slopes)
        store(buffer, trend + i, divide(slope, mean10))
        store(buffer, pressure + i, divide(mean5, mean50))
        store(buffer, fta + i, clip(divide(mean5 - mean20, mean20), -1.0, 3.0))
        activity = divide(v, mean_of(v, year, equal, 250.0))
        activity = select(activity > 2.0, splat(2.0), activity)
        store(buffer, mass + i, clip(one - activity, 0.0, 1.0) * load(buffer, close + i) * v)

        two2, four2, levels = levels[1], levels[2], (v, two, four)
        eight1, ten2, ten1, sixteen2, sixteen1, mean1 = eight, ten1, ten, sixteen1, sixteen, mean20
