"""The kernels against the plain numpy reference, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from k4_pipeline.features.compute import compute_market_features
from k4_pipeline.features.reference import MarketReference
from k4_pipeline.features.spec import MARKET_NAMES
from k4_pipeline.market.bars import Bars

# Values that jump when a tie flips: counts, ranks and what is built on them. All other channels must always agree.
TIED = {
    "current_bbw_percentile",
    "cci_days_factor",
    "cci_score",
    "nes_inactive_mass",
    "nes_score",
    "tsf_days_in_consolidation",
    "tsf_score",
    "ebp_raw",
    "ebp_composite",
    "ebp_signal",
    "days_since_bbw_low",
    "days_since_volume_spike",
}


def reference_table(bars: Bars, ticker: str) -> np.ndarray:
    """The reference's market channels of one ticker, (n_bars, 55)."""
    s = bars.ticker_slice(ticker)
    return MarketReference(*(getattr(bars, name)[s] for name in ("high", "low", "close", "volume"))).table()


def disagreements(expected: np.ndarray, actual: np.ndarray, rtol: float = 1e-9) -> np.ndarray:
    """Where two tables (n, 55) differ by more than `rtol` of the value; (n, 55) bool.

    A difference that cancels almost to zero has no relative precision of its own: below 1e-3 of the channel's typical
    size the tolerance stops shrinking.
    """
    size = np.array([np.median(np.abs(v[~np.isnan(v)])) if not np.isnan(v).all() else 0.0 for v in expected.T])
    scale = np.maximum(np.abs(expected), 1e-3 * size)
    both_missing = np.isnan(expected) & np.isnan(actual)
    return ~(both_missing | (np.abs(expected - actual) <= rtol * scale))


def assert_agreement(expected: np.ndarray, actual: np.ndarray) -> None:
    wrong = disagreements(expected, actual)
    for channel, name in enumerate(MARKET_NAMES):
        count = int(wrong[:, channel].sum())
        allowed = len(wrong) // 1000 if name in TIED else 0
        if count > allowed:
            i = int(np.flatnonzero(wrong[:, channel])[0])
            pytest.fail(
                f"{name}: {count} of {len(wrong)} differ; row {i}: {expected[i, channel]} != {actual[i, channel]}"
            )


@pytest.mark.parametrize("ticker", ["WALK1", "COARSE", "PENNY", "FLAT", "ONE", "SHORT"])
def test_made_up_tickers_agree_with_the_reference_at_every_bar(made_up_bars: Bars, ticker: str) -> None:
    one = made_up_bars.subset([ticker])
    assert_agreement(reference_table(one, ticker), compute_market_features(one, dtype=np.float64))


def test_random_real_tickers_agree_with_the_reference(real_bars: Bars) -> None:
    rng = np.random.default_rng(5)
    long_enough = real_bars.tickers[np.diff(real_bars.offsets) >= 600]
    expected, actual = [], []
    for ticker in rng.choice(long_enough, 8, replace=False):
        one = real_bars.subset([ticker])
        expected.append(reference_table(one, ticker))
        actual.append(compute_market_features(one, dtype=np.float64))
    assert_agreement(np.concatenate(expected), np.concatenate(actual))


def test_the_comparison_sees_a_difference_in_the_eighth_digit_and_a_lost_value(made_up_bars: Bars) -> None:
    values = compute_market_features(made_up_bars.subset(["WALK2"]), dtype=np.float64)
    assert not disagreements(values, values).any()
    there = ~np.isnan(values) & (values != 0)
    assert there.any(axis=0).all()
    assert (disagreements(values, values * (1 + 1e-8)) == there).mean() > 0.99
    assert disagreements(values, np.full_like(values, np.nan))[there].all()
