"""Channels of prices alone: closes and their averages, ranges, returns, momentum, volume on rises against falls.

Fills 5-8, 13, 28, 31, 32, 37, 46, 48, 56-64, and the helper rows other kernels read.
"""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.features.kernels.adx import TIE_SHARE
from k4_pipeline.features.kernels.elementary import log
from k4_pipeline.features.kernels.rolling import bars_since, mean_of, never
from k4_pipeline.features.kernels.window_sums import (
    join,
    no_spread_20,
    no_sum_20,
    nothing,
    spread_8,
    spread_20,
    sum_20,
    sums_8,
)
from k4_pipeline.features.layout import channel_row, helper_row, row, start
from k4_pipeline.simd.memory import copy_items
from k4_pipeline.simd.simd_f64 import (
    LANES,
    absolute,
    clip,
    divide,
    earlier_1,
    earlier_4,
    load,
    nearest_integer,
    select,
    splat,
    square_root,
    store,
)

MONTH_BARS = np.int64(20)
BBW_DECIMALS = 1e9  # comparisons see bbw_20 rounded to 9 decimals

_CLOSE = channel_row("current_price")
_HIGH = channel_row("current_high")
_LOW = channel_row("current_low")
_VOLUME = channel_row("current_volume")
_BBW = channel_row("current_bbw_20")
_RANGE_RATIO = channel_row("current_range_ratio")
_BY_RANGE = channel_row("cci_atr_compression")
_VAR_RAW = channel_row("var_raw")
_VAR = channel_row("var_score")
_BID = channel_row("lpf_bid_pressure")
_MEAN_RANGE = channel_row("avg_range_20d")
_STD20 = channel_row("price_volatility_20d")
_DAILY_VOLATILITY = channel_row("daily_volatility")
_SPREAD = channel_row("high_low_spread")
_VS_VWAP = channel_row("close_vs_vwap")
_MA5 = channel_row("ma_5")
_MA10 = channel_row("ma_10")
_MA20 = channel_row("ma_20")
_VS_MA5 = channel_row("price_vs_ma5")
_VS_MA20 = channel_row("price_vs_ma20")
_MOMENTUM = channel_row("price_momentum_20d")
_KEY = helper_row("bbw_key")
_RANGE = helper_row("range")
_TRUE_RANGE = helper_row("true_range")
_PLUS = helper_row("plus_move")
_MINUS = helper_row("minus_move")
_RETURN = helper_row("return")
_LOG_RETURN = helper_row("log_return")
_STD30 = helper_row("std_30")
_WORK = helper_row("work_0")


@njit
def input_rows(
    high: np.ndarray,
    low: np.ndarray,
    close: np.ndarray,
    volume: np.ndarray,
    first: int,
    n: int,
    buffer: np.ndarray,
    stride: int,
) -> None:
    """Bring bars first .. first + n into the scratch buffer: features 5-8."""
    copy_items(buffer, start(_CLOSE, stride), close, first, n)
    copy_items(buffer, start(_HIGH, stride), high, first, n)
    copy_items(buffer, start(_LOW, stride), low, first, n)
    copy_items(buffer, start(_VOLUME, stride), volume, first, n)


@njit
def bar_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """What a bar and the one before it (20 before it, for momentum) tell: features 37, 57, 58, 64 and helper rows."""
    close, high, low = start(_CLOSE, stride), start(_HIGH, stride), start(_LOW, stride)
    spread_to, true_range = start(_RANGE, stride), start(_TRUE_RANGE, stride)
    plus_to, minus_to = start(_PLUS, stride), start(_MINUS, stride)
    return_to, ratio_to = start(_RETURN, stride), start(_LOG_RETURN, stride)
    momentum, share_to, vs_vwap = start(_MOMENTUM, stride), start(_SPREAD, stride), start(_VS_VWAP, stride)
    bid = start(_BID, stride)
    zero = splat(0.0)
    c1 = h1 = l1 = place1 = nothing()
    sums = (nothing(), nothing(), nothing())
    for i in range(0, n, LANES):
        c, h, lo = load(buffer, close + i), load(buffer, high + i), load(buffer, low + i)
        c0, h0, lo0 = earlier_1(c1, c), earlier_1(h1, h), earlier_1(l1, lo)
        c1, h1, l1 = c, h, lo
        spread = h - lo
        store(buffer, spread_to + i, spread)
        up, down = absolute(h - c0), absolute(lo - c0)
        far = select(up > down, up, down)
        # The comparisons hide a NaN; adding 0 * (its parts) brings it back.
        store(buffer, true_range + i, select(spread > far, spread, far) + (spread + far) * 0.0)

        rise, fall = h - h0, lo0 - lo
        apart = absolute(rise - fall) >= c0 * TIE_SHARE
        missing = (rise + fall + c0) * 0.0
        store(buffer, plus_to + i, select(apart & (rise > fall) & (rise > 0.0), rise, zero) + missing)
        store(buffer, minus_to + i, select(apart & (fall > rise) & (fall > 0.0), fall, zero) + missing)

        # A ratio first, so that a common factor of all prices cancels exactly when a power of two.
        ratio = divide(c, c0)
        store(buffer, ratio_to + i, ratio)
        store(buffer, return_to + i, ratio - 1.0)
        store(buffer, momentum + i, divide(c, load(buffer, close + i - MONTH_BARS)) - 1.0)
        store(buffer, share_to + i, divide(spread, c))
        # C - tp, summed from differences: exactly 0 on a bar without range.
        above = ((c - h) + (c - lo)) * (1.0 / 3.0)
        store(buffer, vs_vwap + i, divide(above, c - above))
        # A bar without range has no place within it; a missing close still leaves it missing.
        place = select(spread != 0.0, (c - lo) / spread, c * 0.0 + 0.5)
        sums = sums_8(place, sums)
        store(buffer, bid + i, (sums[1] + earlier_4(place1, place)) * 0.2)
        sums = (place, sums[0], sums[1])
        place1 = place
    log_return = row(buffer, _LOG_RETURN, stride, n)
    for i in range(n):
        log_return[i] = log(log_return[i])


@njit
def close_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Averages and deviations of closes: features 9, 48, 59-63, the bbw key and std_30(C)."""
    close = start(_CLOSE, stride)
    ma5_to, ma10_to, ma20_to = start(_MA5, stride), start(_MA10, stride), start(_MA20, stride)
    vs_ma5, vs_ma20, std20_to = start(_VS_MA5, stride), start(_VS_MA20, stride), start(_STD20, stride)
    bbw_to, key_to, std30_to = start(_BBW, stride), start(_KEY, stride), start(_STD30, stride)
    zero, changed = splat(0.0), never()
    none = nothing()
    levels = (none, none, none, none, none)
    eight1, dev_eight1, six1, dev_six1, fourteen1, dev_fourteen1 = none, none, none, none, none, none
    four2, dev_four2, fourteen2, dev_fourteen2 = none, none, none, none
    for i in range(0, n, LANES):
        c = load(buffer, close + i)
        equal, changed = bars_since(c != earlier_1(levels[0], c), i, changed)
        two, dev_two, four, dev_four, eight, dev_eight = spread_8(c, levels)
        two4, dev_two4 = earlier_4(levels[1], two), earlier_4(levels[2], dev_two)
        six, dev_six = join(four, dev_four, 4.0, two4, dev_two4, 2.0)
        fourteen, dev_fourteen = join(eight, dev_eight, 8.0, six1, dev_six1, 6.0)
        sixteen, dev_sixteen = join(eight, dev_eight, 8.0, eight1, dev_eight1, 8.0)
        twenty, dev_twenty = join(sixteen, dev_sixteen, 16.0, four2, dev_four2, 4.0)
        _, dev_thirty = join(sixteen, dev_sixteen, 16.0, fourteen2, dev_fourteen2, 14.0)

        ma5 = mean_of(c, four + earlier_4(levels[0], c), equal, 5.0)
        ma20 = mean_of(c, twenty, equal, 20.0)
        store(buffer, ma5_to + i, ma5)
        store(buffer, ma10_to + i, mean_of(c, eight + levels[1], equal, 10.0))
        store(buffer, ma20_to + i, ma20)
        store(buffer, vs_ma5 + i, divide(c, ma5) - 1.0)
        store(buffer, vs_ma20 + i, divide(c, ma20) - 1.0)
        std20 = square_root(dev_twenty * (1.0 / 20.0))
        bbw = divide(std20 * 4.0, ma20) * 100.0
        store(buffer, std20_to + i, std20)
        store(buffer, std30_to + i, square_root(select(equal >= 29.0, zero, dev_thirty) * (1.0 / 30.0)))
        store(buffer, bbw_to + i, bbw)
        store(buffer, key_to + i, nearest_integer(bbw * BBW_DECIMALS))

        four2, dev_four2, fourteen2, dev_fourteen2 = levels[3], levels[4], fourteen1, dev_fourteen1
        levels = (c, two, dev_two, four, dev_four)
        eight1, dev_eight1, six1, dev_six1 = eight, dev_eight, six, dev_six
        fourteen1, dev_fourteen1 = fourteen, dev_fourteen


@njit
def range_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Averages of ranges and true ranges: features 13, 28 and 46."""
    spread, true_range = start(_RANGE, stride), start(_TRUE_RANGE, stride)
    mean_to, ratio_to, by_range = start(_MEAN_RANGE, stride), start(_RANGE_RATIO, stride), start(_BY_RANGE, stride)
    work = start(_WORK, stride)
    sums, changed, tr_changed = no_sum_20(), never(), never()
    none = nothing()
    levels = (none, none, none)
    four2, eight1, twelve1, twelve2, sixteen1, sixteen2 = none, none, none, none, none, none
    for i in range(0, n, LANES):
        x = load(buffer, spread + i)
        equal, changed = bars_since(x != earlier_1(sums[0], x), i, changed)
        total, sums = sum_20(x, sums)
        mean = mean_of(x, total, equal, 20.0)
        store(buffer, mean_to + i, mean)
        store(buffer, ratio_to + i, divide(x, mean))

        tr = load(buffer, true_range + i)
        equal, tr_changed = bars_since(tr != earlier_1(levels[0], tr), i, tr_changed)
        two, four, eight = sums_8(tr, levels)
        twelve = eight + levels[2]
        sixteen = eight + eight1
        twenty_eight = sixteen + twelve2
        sixty = (sixteen + sixteen2) + load(buffer, work + i - 32)
        store(buffer, work + i, twenty_eight)
        mean20, mean60 = mean_of(tr, sixteen + four2, equal, 20.0), mean_of(tr, sixty, equal, 60.0)
        store(buffer, by_range + i, clip(splat(1.0) - divide(mean20, mean60), 0.0, 1.0))
        four2, levels = levels[2], (tr, two, four)
        eight1, twelve2, twelve1, sixteen2, sixteen1 = eight, twelve1, twelve, sixteen1, sixteen


@njit
def asymmetry_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Volume on rising against falling closes, and the deviation of log returns: features 31, 32 and 56."""
    volume, simple, logarithmic = start(_VOLUME, stride), start(_RETURN, stride), start(_LOG_RETURN, stride)
    raw_to, score_to, volatility = start(_VAR_RAW, stride), start(_VAR, stride), start(_DAILY_VOLATILITY, stride)
    rises, falls, ratios, spread = no_sum_20(), no_sum_20(), no_sum_20(), no_spread_20()
    for i in range(0, n, LANES):
        v, r = load(buffer, volume + i), load(buffer, simple + i)
        # 0 * r keeps a missing return missing, which the comparison alone would turn into 0.
        on_rise, rises = sum_20(v * select(r > 0.0, r, r * 0.0), rises)
        on_fall, falls = sum_20(v * select(r < 0.0, splat(0.0) - r, r * 0.0), falls)
        raw = divide(on_rise, on_fall)
        total, ratios = sum_20(raw, ratios)
        store(buffer, raw_to + i, raw)
        store(buffer, score_to + i, clip(divide(raw, total * (1.0 / 20.0)), 0.5, 3.0))
        _, deviation, spread = spread_20(load(buffer, logarithmic + i), spread)
        store(buffer, volatility + i, square_root(deviation * (1.0 / 20.0)))
