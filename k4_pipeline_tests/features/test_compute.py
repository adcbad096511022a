"""Awkward input: ties, flat windows, zero volumes, holes, one bar; and the ways to call the computation."""

from __future__ import annotations

import numpy as np
import pytest
import talib

from k4_pipeline.errors import BadInputError
from k4_pipeline.features.compute import compute_market_features, ticker_ranges
from k4_pipeline.features.criteria import pattern_criteria
from k4_pipeline.features.spec import MARKET_COLUMN, MARKET_FEATURES, MARKET_NAMES
from k4_pipeline.market.bars import Bars
from k4_pipeline_tests.features.conftest import bars_of, random_ticker


def channel(values: np.ndarray, name: str) -> np.ndarray:
    return values[:, MARKET_COLUMN[name]]


def test_no_infinity_leaves_whatever_the_bars(made_up_bars: Bars, real_bars: Bars) -> None:
    hostile = random_ticker(1, 600)
    hostile["volume"][50:200] = 0.0
    hostile["volume"][200] = 1e300
    hostile["close"][300:330] = 1e-300
    hostile["high"][400] = np.inf
    hostile["low"][450] = -1.0
    zero = {key: np.zeros(500) for key in ("high", "low", "close", "volume")}
    for bars in (made_up_bars, real_bars, bars_of({"HOSTILE": hostile, "ZERO": zero})):
        for dtype in (np.float32, np.float64):
            assert not np.isinf(compute_market_features(bars, dtype=dtype)).any()


def test_a_flat_window_has_deviation_zero_and_ratios_of_nothing_are_missing() -> None:
    for price in (17.3, 0.1, 1e-3, 123456.7):
        flat = random_ticker(1, 400)
        for key in ("high", "low", "close"):
            flat[key][100:300] = price
        values = compute_market_features(bars_of({"FLAT": flat}), dtype=np.float64)[100:300]
        for name, bars in (("price_volatility_20d", 20), ("current_bbw_20", 20), ("daily_volatility", 21)):
            assert (channel(values, name)[bars - 1 :] == 0.0).all()
        for name, bars in (("price_vs_ma20", 20), ("price_vs_ma5", 5), ("close_vs_vwap", 1), ("high_low_spread", 1)):
            assert (channel(values, name)[bars - 1 :] == 0.0).all()
        # Nothing to divide by: mean range, mean band width, falling closes, deviation of momentum.
        for name, bars in (("current_range_ratio", 20), ("bbw_compression_ratio", 70), ("var_raw", 21)):
            assert np.isnan(channel(values, name)[bars - 1 :]).all()
        assert np.isnan(channel(values, "nes_rsa_proxy")[120:]).all()
        assert (channel(values, "lpf_bid_pressure")[4:] == 0.5).all()


def test_equal_volumes_give_a_ratio_of_exactly_one() -> None:
    bars = random_ticker(1, 300)
    bars["volume"][:] = 1234.1
    values = compute_market_features(bars_of({"EVEN": bars}), dtype=np.float64)
    for name in ("current_volume_ratio_20", "volume_spike", "volume_vs_50d", "lpf_volume_pressure"):
        ratio = channel(values, name)
        assert (ratio[~np.isnan(ratio)] == 1.0).all()
    assert (channel(values, "volume_trend_10d")[9:] == 0.0).all()


def test_a_long_stretch_without_volume_leaves_ratios_missing_and_then_recovers() -> None:
    bars = random_ticker(1, 700)
    bars["volume"][100:140] = 0.0
    values = compute_market_features(bars_of({"DRY": bars}), dtype=np.float64)
    ratio = channel(values, "current_volume_ratio_20")
    assert np.isnan(ratio[119:140]).all()
    assert not np.isnan(ratio[140:]).any()
    spike = channel(values, "volume_spike")
    assert np.isnan(spike[120:141]).all()
    # Its look-back of 61 values of #54 is unfilled until the last missing one has left it.
    since = channel(values, "days_since_volume_spike")
    assert np.isnan(since[120:201]).all()
    assert not np.isnan(since[201:]).any()


def test_a_missing_price_empties_every_window_that_holds_it_and_no_other() -> None:
    clean = random_ticker(1, 900)
    holed = {key: values.copy() for key, values in clean.items()}
    for key in ("high", "low", "close"):
        holed[key][450] = np.nan
    before, after = (compute_market_features(bars_of({"X": bars}), dtype=np.float64) for bars in (clean, holed))
    for i, feature in enumerate(MARKET_FEATURES):
        np.testing.assert_array_equal(after[:450, i], before[:450, i])
        if feature.name in ("current_adx", "adx_slope_20d", "consolidation_quality_score"):
            assert np.isnan(after[450:, i]).all(), "the recursion does not start again"
        elif not feature.recursive:
            reach = 450 + feature.lookback_bars
            np.testing.assert_array_equal(after[reach:, i], before[reach:, i], err_msg=feature.name)
    assert np.isnan(channel(after, "tsf_days_in_consolidation")[450 : 450 + 79]).all()


def test_the_adx_is_ta_libs_on_series_without_ties() -> None:
    bars = bars_of({f"T{i}": random_ticker(i, 3000) for i in range(5)})
    adx = channel(compute_market_features(bars, dtype=np.float64), "current_adx")
    for ticker in bars.tickers:
        rows = bars.ticker_slice(ticker)
        expected = talib.ADX(bars.high[rows], bars.low[rows], bars.close[rows], 14)
        np.testing.assert_allclose(adx[rows], expected, rtol=1e-9, atol=0, equal_nan=True)


def test_equal_directional_moves_count_for_neither_side() -> None:
    n = 60
    middle = 100.0 + np.zeros(n)
    half = 0.5 + 0.37 * np.arange(n) % 3.0
    bars = {"high": middle + half, "low": middle - half, "close": middle, "volume": np.ones(n)}
    for nudge in (0.0, 1e-9, -1e-9):
        wobbling = {**bars, "high": bars["high"] + nudge * (np.arange(n) % 2)}
        assert (
            channel(compute_market_features(bars_of({"T": wobbling}), dtype=np.float64), "current_adx")[27:] == 0
        ).all()


def test_one_bar_and_very_short_tickers_work(made_up_bars: Bars) -> None:
    values = compute_market_features(made_up_bars.subset(["ONE", "SHORT"]), dtype=np.float64)
    assert np.isfinite(values[0]).sum() == sum(f.lookback_bars == 1 for f in MARKET_FEATURES)
    assert np.isfinite(values[23]).sum() == sum(f.lookback_bars <= 23 for f in MARKET_FEATURES)


def test_threads_out_and_progress_change_nothing(made_up_bars: Bars) -> None:
    expected = compute_market_features(made_up_bars, threads=1)
    calls: list[tuple[int, int]] = []
    out = np.full((len(made_up_bars), 55), 7.0, dtype=np.float32)
    got = compute_market_features(made_up_bars, out=out, threads=3, progress=lambda *c: calls.append(c))
    assert got is out
    assert out.tobytes() == expected.tobytes()
    assert [total for _, total in calls] == [len(made_up_bars)] * len(calls)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert calls[-1][0] == len(made_up_bars)


def test_an_output_of_another_shape_or_layout_is_refused(made_up_bars: Bars) -> None:
    n = len(made_up_bars)
    for out in (
        np.empty((n, 54)),
        np.empty((n, 55), order="F"),
        np.empty((n, 55), dtype=np.int64),
        np.empty((n - 1, 55)),
    ):
        with pytest.raises(BadInputError, match="C-contiguous"):
            compute_market_features(made_up_bars, out=out)


def test_the_pattern_criteria_are_the_channels_in_float64(made_up_bars: Bars, real_bars: Bars) -> None:
    for bars in (made_up_bars, real_bars):
        values = compute_market_features(bars, dtype=np.float64)
        criteria = pattern_criteria(bars)
        for got, name in (
            (criteria.bbw_percentile, "current_bbw_percentile"),
            (criteria.adx, "current_adx"),
            (criteria.volume_ratio, "current_volume_ratio_20"),
            (criteria.range_ratio, "current_range_ratio"),
        ):
            assert got.tobytes() == np.ascontiguousarray(channel(values, name)).tobytes()
        share = criteria.bbw_percentile
        assert np.nanmin(share) >= 0.0
        assert np.nanmax(share) <= 0.99


def test_float32_is_the_float64_value_cast_last(real_bars: Bars) -> None:
    exact = compute_market_features(real_bars, dtype=np.float64)
    np.testing.assert_array_equal(compute_market_features(real_bars), exact.astype(np.float32))
    assert exact.shape[1] == len(MARKET_NAMES)


def test_ticker_ranges_cover_every_ticker_once() -> None:
    offsets = np.concatenate([[0], np.cumsum([5, 1, 1, 90, 3, 3, 3])])
    for chunk in (1, 4, 10, 1000):
        ranges = ticker_ranges(offsets, chunk)
        assert [t for a, b in ranges for t in range(a, b)] == list(range(7))
        assert all(b == a + 1 or offsets[b] - offsets[a] <= chunk for a, b in ranges)
