"""Leaks in the market channels: each rewrites one channel of the finished panel, ticker by ticker or across tickers.

Benign mutants rewrite the same channel from the past. The channel is the ADX or its slope where a benign mutant needs
a longer look-back than the one declared: being recursive, they declare a warm-up that covers it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.features.spec import MARKET_COLUMN
from k4_pipeline.market.bars import Bars
from k4_pipeline_tests.mutations.registry import Wrapper, register

COMPUTE = "features.compute.compute_market_features"
_CELLS = ("every_bar_is_reproduced_as_the_last_one", "everything_is_reproduced_from_bars_cut_at_a_date")
_INVARIANCE = ("channels_react_to_scale_and_company_as_declared", "nothing_depends_on_other_tickers")

Edit = Callable[[np.ndarray, Bars, slice], np.ndarray]  # channel of one ticker (n,), the bars, its rows


def _whole(channel: str, edit: Callable[[np.ndarray, Bars], np.ndarray]) -> Wrapper:
    """The panel with one channel, all tickers at once, rewritten."""

    def wrapper(original: Callable[..., np.ndarray], bars: Bars, **kwargs: Any) -> np.ndarray:
        panel = original(bars, **kwargs)
        column = MARKET_COLUMN[channel]
        panel[:, column] = edit(panel[:, column].astype(np.float64), bars)
        return panel

    return wrapper


def _each(channel: str, edit: Edit) -> Wrapper:
    """The panel with one channel rewritten ticker by ticker."""

    def whole(values: np.ndarray, bars: Bars) -> np.ndarray:
        for a, b in pairwise(bars.offsets):
            rows = slice(int(a), int(b))
            values[rows] = edit(values[rows], bars, rows)
        return values

    return _whole(channel, whole)


def lagged(x: np.ndarray, n: int) -> np.ndarray:
    """x n bars earlier (n > 0) or later (n < 0); NaN where there is none."""
    out = np.full(len(x), np.nan)
    if abs(n) >= len(x):
        return out
    if n >= 0:
        out[n:] = x[: len(x) - n]
    else:
        out[:n] = x[-n:]
    return out


def _mean_of(x: np.ndarray, lags: range) -> np.ndarray:
    return np.mean([lagged(x, n) for n in lags], axis=0)


def _next_bar(x: np.ndarray, bars: Bars, rows: slice) -> np.ndarray:
    return lagged(x, -1)


register(
    "next_bar_in_one_channel",
    stage="features",
    where=COMPUTE,
    description="shift(-1): the ADX of tomorrow",
    expected=_CELLS,
    leak=_each("current_adx", _next_bar),
    benign=_each("current_adx", lambda x, bars, rows: lagged(x, 1)),
    benign_does="shift(+1): the ADX of yesterday",
)


def _one_cell(offset: int) -> Edit:
    def edit(x: np.ndarray, bars: Bars, rows: slice) -> np.ndarray:
        # One bar of one ticker: the first one dated on or after a fixed day.
        day = int(np.datetime64("2014-03-11" if bars.date[-1] < 17_000 else "2023-03-14", "D").astype(int))
        hit = int(np.searchsorted(bars.date[rows], day))
        if rows.start == 0 and 60 < hit < len(x) - 1 and bars.date[rows][hit] == day:
            x[hit] = x[hit + offset]
        return x

    return edit


register(
    "next_bar_in_a_single_cell",
    stage="features",
    where=COMPUTE,
    description="one cell of one channel of one ticker is that of the next bar",
    expected=_CELLS,
    leak=_each("current_adx", _one_cell(+1)),
    benign=_each("current_adx", lambda x, bars, rows: x * 1.0),
    benign_does="every cell is multiplied by one",
)
register(
    "centred_window",
    stage="features",
    where=COMPUTE,
    description="a mean over the two bars before and the two after",
    expected=_CELLS,
    leak=_each("current_adx", lambda x, bars, rows: _mean_of(x, range(-2, 3))),
    benign=_each("current_adx", lambda x, bars, rows: _mean_of(x, range(0, 5))),
    benign_does="a mean over the last five bars",
)


def _filled(x: np.ndarray, backward: bool) -> np.ndarray:
    series = pd.Series(x[::-1] if backward else x).ffill().to_numpy()
    return series[::-1] if backward else series


register(
    "filled_backward",
    stage="features",
    where=COMPUTE,
    description="values that are not available yet are filled from the first one that is",
    expected=_CELLS,
    leak=_each("ebp_composite", lambda x, bars, rows: _filled(x, True)),
    benign=_each("ebp_composite", lambda x, bars, rows: _filled(x, False)),
    benign_does="values are filled forward",
)


def _thinned(x: np.ndarray, bars: Bars, rows: slice) -> np.ndarray:
    return np.where(bars.date[rows] % 5 == 0, np.nan, x)


def _interpolated(x: np.ndarray, bars: Bars, rows: slice) -> np.ndarray:
    return pd.Series(_thinned(x, bars, rows)).interpolate(limit_direction="both").to_numpy()


register(
    "interpolated_on_both_sides",
    stage="features",
    where=COMPUTE,
    description="gaps are interpolated between the value before and the value after",
    expected=_CELLS,
    leak=_each("current_adx", _interpolated),
    benign=_each("current_adx", lambda x, bars, rows: _filled(_thinned(x, bars, rows), False)),
    benign_does="gaps are filled from the value before",
)


register(
    "rank_over_the_full_sample",
    stage="features",
    where=COMPUTE,
    description="the rank of each value among all values of its ticker",
    expected=_CELLS,
    leak=_each("current_adx", lambda x, bars, rows: pd.Series(x).rank(pct=True).to_numpy()),
    benign=_each("current_adx", lambda x, bars, rows: x / pd.Series(x).rolling(60).max().to_numpy()),
    benign_does="relative to the highest of the last 60 values",
)
register(
    "mean_over_the_full_sample",
    stage="features",
    where=COMPUTE,
    description="the ticker's mean of all years is subtracted",
    expected=_CELLS,
    leak=_each("current_adx", lambda x, bars, rows: x - np.nanmean(x) if np.isfinite(x).any() else x),
    # A ratio, because a difference would magnify the float32 rounding that the warm-up leaves.
    benign=_each("current_adx", lambda x, bars, rows: x / _mean_of(x, range(0, 30))),
    benign_does="divided by the mean of the last 30 bars",
)


def _standardised_over_all(values: np.ndarray, bars: Bars) -> np.ndarray:
    return (values - np.nanmean(values)) / np.nanstd(values)


register(
    "scaled_over_the_full_sample",
    stage="features",
    where=COMPUTE,
    description="a channel is standardised with mean and deviation of all tickers and years",
    expected=_CELLS,
    leak=_whole("current_adx", _standardised_over_all),
    benign=_whole("current_adx", lambda values, bars: values / 10.0),
    benign_does="divided by a fixed number",
)
register(
    "full_sample_imputation",
    stage="features",
    where=COMPUTE,
    description="missing values become the median of the whole panel",
    expected=_CELLS,
    leak=_whole("nes_score", lambda v, bars: np.where(np.isfinite(v), v, np.nanmedian(v))),
    benign=_whole("nes_score", lambda v, bars: np.where(np.isfinite(v), v, np.nan)),
    benign_does="missing values stay missing",
)


def _gain(bars_ahead: int) -> Edit:
    def edit(x: np.ndarray, bars: Bars, rows: slice) -> np.ndarray:
        close = bars.close[rows]
        with np.errstate(invalid="ignore"):
            gain = lagged(close, -bars_ahead) / close if bars_ahead > 0 else close / lagged(close, -bars_ahead)
        return np.where(np.isfinite(x), gain - 1.0, np.nan)

    return edit


register(
    "gain_in_a_channel",
    stage="features",
    where=COMPUTE,
    description="the momentum of the next ten bars instead of the last twenty",
    expected=_CELLS,
    leak=_each("price_momentum_20d", _gain(10)),
    benign=_each("price_momentum_20d", _gain(-10)),
    benign_does="the momentum of the last ten bars",
)


def _faint(x: np.ndarray, bars: Bars, rows: slice) -> np.ndarray:
    gain = _gain(5)(x, bars, rows)
    return x * (1.0 + 1e-5 * np.nan_to_num(gain))


register(
    "faint_trace_of_the_future",
    stage="features",
    where=COMPUTE,
    description="the sign and size of the next gain are added in the fifth decimal, where no metric shows them",
    expected=_CELLS,
    leak=_each("price_momentum_20d", _faint),
    benign=_each("price_momentum_20d", lambda x, bars, rows: x * (1.0 + 1e-5)),
    benign_does="the channel is multiplied by a constant",
)
register(
    "adjusted_price_level_as_a_channel",
    stage="features",
    where=COMPUTE,
    description="the back-adjusted price level, which later splits have set, stands in a scale-free channel",
    expected=_INVARIANCE,
    leak=_each("daily_volatility", lambda x, b, r: np.where(np.isfinite(x), np.log(b.close[r]) / 10.0, np.nan)),
    benign=_each("daily_volatility", lambda x, b, r: np.where(np.isfinite(x), b.high[r] / b.low[r] - 1.0, np.nan)),
    benign_does="the range of the bar relative to its low",
)
register(
    "adjusted_volume_as_a_channel",
    stage="features",
    where=COMPUTE,
    description="the back-adjusted volume, which later splits have set, stands in a scale-free channel",
    expected=_INVARIANCE,
    leak=_each("volume_vs_50d", lambda x, b, r: np.where(np.isfinite(x), np.log1p(b.volume[r]), np.nan)),
    benign=_each("volume_vs_50d", lambda x, b, r: x / 2.0),
    benign_does="half the relative volume",
)


def _weekly(direction: str) -> Edit:
    def edit(x: np.ndarray, bars: Bars, rows: slice) -> np.ndarray:
        days = bars.date[rows].astype(np.int64)
        chosen = np.flatnonzero(days % 5 == 0)  # fixed by the date, so that cutting moves nothing
        if len(chosen) == 0:
            return np.full(len(x), np.nan)
        before = np.searchsorted(days[chosen], days, side="right") - 1
        after = np.searchsorted(days[chosen], days, side="left")
        at_before, at_after = np.clip(before, 0, len(chosen) - 1), np.clip(after, 0, len(chosen) - 1)
        if direction == "after":
            return np.where(after < len(chosen), x[chosen[at_after]], np.nan)
        past = np.where(before >= 0, x[chosen[at_before]], np.nan)
        if direction == "before":
            return past
        closer = np.abs(days[chosen[at_after]] - days) < np.abs(days[chosen[at_before]] - days)
        return np.where(closer, x[chosen[at_after]], past)

    return edit


for _name, _direction, _what in (
    ("joined_forward", "after", "the next"),
    ("joined_to_the_nearest", "nearest", "the nearest"),
):
    register(
        _name,
        stage="features",
        where=COMPUTE,
        description=f"a series of every fifth day is joined by date to {_what} value (merge_asof)",
        expected=_CELLS,
        leak=_each("current_adx", _weekly(_direction)),
        benign=_each("current_adx", _weekly("before")),
        benign_does="joined to the last value before",
    )


def _by_position(x: np.ndarray, bars: Bars, rows: slice) -> np.ndarray:
    there = x[np.isfinite(x)]
    return np.append(there, np.full(len(x) - len(there), np.nan))


register(
    "joined_by_position",
    stage="features",
    where=COMPUTE,
    description="missing values are dropped and the rest is put back by position: every value moves to an earlier bar",
    expected=_CELLS,
    leak=_each("current_adx", _by_position),
    benign=_each("current_adx", lambda x, bars, rows: pd.Series(x).dropna().reindex(range(len(x))).to_numpy()),
    benign_does="missing values are dropped and the rest is put back by key",
)
register(
    "neighbour_ticker_bleeds_over",
    stage="features",
    where=COMPUTE,
    description="a window runs over the border between two tickers",
    expected=("nothing_depends_on_other_tickers",),
    leak=_whole("high_low_spread", lambda v, bars: _mean_of(v, range(0, 2))),
    benign=_each("current_adx", lambda x, bars, rows: _mean_of(x, range(0, 2))),
    benign_does="the same window, ticker by ticker",
)


def _relative_to_the_market(values: np.ndarray, bars: Bars) -> np.ndarray:
    by_day = pd.Series(values).groupby(bars.date)
    return values - by_day.transform("mean").to_numpy()


register(
    "relative_to_the_surviving_universe",
    stage="features",
    where=COMPUTE,
    description="the mean of the day over all tickers of the final universe is subtracted: who is in it is hindsight",
    expected=("nothing_depends_on_other_tickers",),
    leak=_whole("close_vs_vwap", _relative_to_the_market),
    benign=_each("close_vs_vwap", lambda x, bars, rows: x - 0.01),
    benign_does="a constant is subtracted",
)


def _calendar_lag(days_ahead: int) -> Edit:
    def edit(x: np.ndarray, bars: Bars, rows: slice) -> np.ndarray:
        days = bars.date[rows].astype(np.int64)
        at = np.searchsorted(days, days + days_ahead, side="right") - 1
        return np.where(at >= 0, x[np.maximum(at, 0)], np.nan)

    return edit


register(
    "lag_in_calendar_days",
    stage="features",
    where=COMPUTE,
    description="the sign of a lag in calendar days is wrong: the value of the last bar within the week to come",
    expected=_CELLS,
    leak=_each("current_adx", _calendar_lag(7)),
    benign=_each("current_adx", _calendar_lag(-7)),
    benign_does="the value of the last bar up to a week ago",
)
