"""The proofs hold for the 55 market channels, fire on planted faults, and do not pass without evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from k4_pipeline.features import proofs
from k4_pipeline.features.compute import compute_market_features
from k4_pipeline.features.proof_tools import ChannelSet
from k4_pipeline.features.spec import FEATURES, MARKET_NAMES, FeatureSpec
from k4_pipeline.market.bars import Bars
from k4_pipeline_tests.features.conftest import bars_of, random_ticker

ALL = {"tickers": None, "cuts": None}


def spec(**changes: object) -> FeatureSpec:
    """A declaration for a planted channel: a scale-invariant one with a look-back of one bar, unless told otherwise."""
    base = next(f for f in FEATURES if f.name == "high_low_spread")
    return replace(base, **changes)


def planted(column: object, **changes: object) -> ChannelSet:
    """A channel set of one channel: `column(bars, ticker_rows)` gives its values for one ticker."""

    def compute(bars: Bars) -> np.ndarray:
        out = np.empty((len(bars), 1), dtype=np.float64)
        for a, b in zip(bars.offsets[:-1], bars.offsets[1:], strict=True):
            out[a:b, 0] = column(bars, slice(a, b))  # type: ignore[operator]
        return out

    return ChannelSet((spec(**changes),), compute)


def test_truncation_changes_no_bit_at_any_bar_of_small_tickers() -> None:
    small = bars_of({"A": random_ticker(1, 470), "B": random_ticker(2, 130, tick=0.25, quiet=0.5)})
    result = proofs.check_truncation(small, **ALL)
    assert result.passed, result.findings
    assert result.cases == (470 * 469 // 2 + 130 * 129 // 2) * 55


def test_truncation_changes_no_bit_on_sampled_real_bars(real_bars: Bars) -> None:
    result = proofs.check_truncation(real_bars, tickers=40, cuts=5)
    assert result.passed, result.findings
    assert result.cases > 1_000_000


def test_corrupting_the_future_changes_no_bit_before_it(made_up_bars: Bars, real_bars: Bars) -> None:
    for bars in (made_up_bars, real_bars):
        result = proofs.check_future_corruption(bars, tickers=20, cuts=3)
        assert result.passed, result.findings
        assert result.cases > 100_000


def test_other_tickers_do_not_matter(made_up_bars: Bars, real_bars: Bars) -> None:
    for bars in (made_up_bars, real_bars):
        result = proofs.check_isolation(bars, tickers=10)
        assert result.passed, result.findings
        assert result.cases > 100_000


def test_rescaling_acts_as_the_scale_class_says(made_up_bars: Bars, real_bars: Bars) -> None:
    powers = tuple(2.0**e for e in range(-12, 13, 3))
    for bars in (made_up_bars, real_bars):
        result = proofs.check_rescale(bars, factors=powers, tickers=12)
        assert result.passed, result.findings
        assert result.cases > 500_000
    result = proofs.check_rescale(real_bars, factors=(0.1, 1 / 3, 1.7, 3.0, 123.456), tickers=30)
    assert result.passed, result.findings
    assert result.flipped < 1e-3 * result.cases


def test_history_before_the_warm_up_does_not_matter(made_up_bars: Bars, real_bars: Bars) -> None:
    for bars in (made_up_bars, real_bars):
        result = proofs.check_warmup(bars, tickers=30, cuts=4)
        assert result.passed, result.findings
        assert result.cases > 50_000


def test_the_stored_panel_is_what_is_proved(made_up_bars: Bars) -> None:
    stored = compute_market_features(made_up_bars)
    stored[150, 3] += 1.0
    small = {"tickers": None, "reference": stored}
    for result in (
        proofs.check_truncation(made_up_bars, cuts=10, **small),
        proofs.check_future_corruption(made_up_bars, cuts=10, **small),
        proofs.check_isolation(made_up_bars, **small),
        proofs.check_rescale(made_up_bars, factors=(2.0,), **small),
    ):
        assert not result.passed
        assert any(MARKET_NAMES[3] in line for line in result.findings), result.proof


def test_a_channel_that_looks_one_bar_ahead_is_caught(made_up_bars: Bars) -> None:
    def ahead(bars: Bars, rows: slice) -> np.ndarray:
        c = bars.close[rows]
        return np.append(c[1:] / c[:-1], np.nan)

    channels = planted(ahead)
    assert not proofs.check_truncation(made_up_bars, channels=channels).passed
    assert not proofs.check_future_corruption(made_up_bars, channels=channels).passed


def test_a_channel_normalised_by_the_whole_history_is_caught(made_up_bars: Bars) -> None:
    channels = planted(lambda bars, rows: bars.close[rows] / bars.close[rows].mean())
    assert not proofs.check_truncation(made_up_bars, channels=channels).passed
    assert not proofs.check_future_corruption(made_up_bars, channels=channels).passed


def test_a_channel_that_reads_other_tickers_is_caught(made_up_bars: Bars) -> None:
    channels = planted(lambda bars, rows: bars.close[rows] / bars.close.max())
    assert not proofs.check_isolation(made_up_bars, channels=channels).passed


def test_a_channel_with_an_absolute_threshold_is_caught(made_up_bars: Bars) -> None:
    channels = planted(lambda bars, rows: (bars.close[rows] - bars.low[rows]) / (bars.close[rows] + 1e-8))
    assert not proofs.check_rescale(made_up_bars, factors=(2.0**-12,), channels=channels).passed
    price = planted(lambda bars, rows: bars.close[rows] + 0.0)
    assert not proofs.check_rescale(made_up_bars, factors=(3.0,), channels=price).passed


def test_a_running_sum_and_a_short_warm_up_are_caught(made_up_bars: Bars) -> None:
    def running(bars: Bars, rows: slice) -> np.ndarray:
        total = np.cumsum(bars.high[rows])
        out = np.full(len(total), np.nan)
        out[20:] = (total[20:] - total[:-20]) / bars.close[rows][20:]
        return out

    assert not proofs.check_warmup(made_up_bars, channels=planted(running, lookback_bars=21, warmup_bars=21)).passed

    def smoothed(bars: Bars, rows: slice) -> np.ndarray:
        out = bars.close[rows].copy()
        for i in range(1, len(out)):
            out[i] = 0.9 * out[i - 1] + 0.1 * out[i]
        return out / bars.close[rows]

    honest, short = (planted(smoothed, recursive=True, warmup_bars=n) for n in (200, 40))
    assert proofs.check_warmup(made_up_bars, channels=honest).passed
    assert not proofs.check_warmup(made_up_bars, channels=short).passed


def test_no_evidence_is_no_pass() -> None:
    one = bars_of({"ONE": random_ticker(1, 1)})
    assert not proofs.check_truncation(one).passed
    assert not proofs.check_future_corruption(one).passed
    assert not proofs.check_warmup(one).passed
