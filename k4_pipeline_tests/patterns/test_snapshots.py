"""Snapshots: what is sampled, what never depends on later bars or other tickers, and today's open patterns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from pandas.testing import assert_frame_equal

from k4_pipeline.config import PatternConfig
from k4_pipeline.market.bars import Bars, to_dates, to_days
from k4_pipeline.patterns.consolidation import find_patterns
from k4_pipeline.patterns.sampling import sampling_uniform, ticker_digest
from k4_pipeline.patterns.snapshots import (
    SNAPSHOT_COLUMNS,
    active_snapshots,
    make_snapshots,
    make_snapshots_with_rejects,
    sample_snapshots,
)
from k4_pipeline_tests.patterns import oracle
from k4_pipeline_tests.patterns.worlds import SMALL, random_bars, rescaled, scan_patterns

EVERY_BAR = dataclasses.replace(SMALL, sample_probability=1.0, sample_probability_late=1.0)


@pytest.fixture(scope="module")
def bars() -> Bars:
    return random_bars(1, n_tickers=12)


def same_rows(left: pd.DataFrame, right: pd.DataFrame) -> None:
    assert_frame_equal(left.reset_index(drop=True), right.reset_index(drop=True), check_exact=True)


def test_the_table_has_its_columns_dtypes_and_order(bars):
    snapshots = make_snapshots(bars, SMALL)
    assert tuple(snapshots.columns) == SNAPSHOT_COLUMNS
    assert len(snapshots) > 100
    assert [str(t) for t in snapshots.dtypes] == ["str"] * 2 + ["datetime64[us]"] * 3 + ["float64"] * 4 + ["int64"] * 2
    assert snapshots.index.equals(pd.RangeIndex(len(snapshots)))
    assert not snapshots.duplicated(["ticker", "snapshot_date"]).any()
    same_rows(snapshots, snapshots.sort_values(["ticker", "start_date", "snapshot_date"]))


def test_every_active_bar_and_no_ending_bar_is_a_snapshot_at_probability_one(bars):
    patterns = scan_patterns(bars, EVERY_BAR)
    snapshots = make_snapshots(bars, EVERY_BAR)
    rows = bars.locate(snapshots["ticker"], to_days(snapshots["snapshot_date"]))
    ends = {
        t: bars.ticker_slice(t).stop for t in bars.tickers
    }  # an open pattern is ACTIVE up to the last bar of its ticker
    expected = [
        row
        for p in patterns.itertuples()
        for row in range(p.activation_row, p.end_row if p.end_row >= 0 else ends[p.ticker])
    ]
    assert rows.tolist() == expected
    np.testing.assert_array_equal(
        rows - snapshots["bars_active"], bars.locate(snapshots["ticker"], to_days(snapshots["activation_date"]))
    )
    start_rows = bars.locate(snapshots["ticker"], to_days(snapshots["start_date"]))
    np.testing.assert_array_equal(bars.close[start_rows], snapshots["start_price"])


def test_the_activation_bar_is_always_a_snapshot_and_later_bars_only_when_drawn(bars):
    nothing = dataclasses.replace(SMALL, sample_probability=0.0, sample_probability_late=0.0)
    snapshots = make_snapshots(bars, nothing)
    assert (snapshots["bars_active"] == 0).all()
    assert len(snapshots) == len(scan_patterns(bars, SMALL))


def test_the_late_probability_applies_to_more_than_fifteen_active_bars():
    uniform = sampling_uniform(0, np.array(["A"] * 40, dtype=object), np.arange(40) + 15_000)
    late_only = dataclasses.replace(
        SMALL,
        bbw_percentile_max=1.1,
        min_other=0,
        min_history_bars=1,
        sample_probability=0.0,
        sample_probability_late=1.0,
    )
    close = np.full(160, 10.0) + np.tile([0.0, 0.01], 80)
    day = np.arange(160, dtype=np.int32) + 15_000
    flat = Bars(
        np.array(["A"], dtype=object), np.array([0, 160]), day, close, close + 1, close - 1, close, np.ones(160)
    )
    snapshots = make_snapshots(flat, late_only)
    assert sorted(set(snapshots["bars_active"]) - {0}) == list(range(16, snapshots["bars_active"].max() + 1))
    assert uniform.min() >= 0.0
    assert uniform.max() < 1.0


def test_the_hash_is_frozen():
    assert ticker_digest("AAPL") == 0xF4EBBFF672FF4A6B
    uniform = sampling_uniform(0, np.array(["AAPL", "MSFT", "AAPL"], dtype=object), np.array([16_000, 16_000, -5]))
    np.testing.assert_array_equal(uniform, [0.31585273830528116, 0.3974188274618783, 0.43565857143641806])
    assert sampling_uniform(1, np.array(["AAPL"], dtype=object), np.array([16_000]))[0] == 0.10492406519195474


@given(
    seed=st.integers(-(2**63), 2**63 - 1),
    ticker=st.text(st.characters(codec="utf-8"), max_size=8),
    day=st.integers(-40_000, 60_000),
)
def test_the_hash_equals_its_plain_python_form(seed, ticker, day):
    mine = sampling_uniform(seed, np.array([ticker], dtype=object), np.array([day]))[0]
    assert mine == oracle.sampling_number(seed, ticker, day)


def test_the_draws_are_uniform_and_independent_of_each_other():
    days = np.tile(np.arange(5_000), 4)
    names = np.repeat(np.array(["A", "B", "AA", "AB"], dtype=object), 5_000)
    u = sampling_uniform(3, names, days)
    counts = np.histogram(u, bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 50  # chi square with 19 degrees of freedom: p < 0.0002
    by_ticker = u.reshape(4, 5_000)
    assert np.abs(np.corrcoef(by_ticker) - np.eye(4)).max() < 0.06
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.03


def test_the_sampled_share_is_the_configured_one(bars):
    full, sampled = make_snapshots(bars, EVERY_BAR), make_snapshots(bars, SMALL)
    late = full["bars_active"] > 15
    for which, p in ((late, 0.5), (~late & (full["bars_active"] > 0), 0.35)):
        n = int(which.sum())
        drawn = full[which].merge(sampled, on=["ticker", "snapshot_date"], validate="one_to_one")
        assert abs(len(drawn) - p * n) < 4 * np.sqrt(p * (1 - p) * max(n, 1)) + 1


def test_another_seed_draws_other_bars_and_the_same_activation_bars(bars):
    other = make_snapshots(bars, dataclasses.replace(SMALL, sampling_seed=1))
    mine = make_snapshots(bars, SMALL)
    assert not mine["snapshot_date"].equals(other["snapshot_date"])
    same_rows(mine[mine["bars_active"] == 0], other[other["bars_active"] == 0])


def test_every_cut_of_a_small_universe_gives_the_full_snapshots_up_to_that_day():
    bars = random_bars(2, n_tickers=5, n_bars=280)
    full = make_snapshots(bars, SMALL)
    assert len(full) > 20
    for day in np.unique(bars.date)[130:]:
        same_rows(make_snapshots(bars.until(day), SMALL), full[full["snapshot_date"] <= to_dates(np.array([day]))[0]])


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.floats(0.3, 1.0))
def test_snapshots_of_a_random_universe_do_not_change_when_the_future_is_cut(seed, cut):
    bars = random_bars(seed, n_tickers=4, n_bars=320)
    day = int(np.quantile(bars.date, cut))
    full = make_snapshots(bars, SMALL)
    same_rows(make_snapshots(bars.until(day), SMALL), full[full["snapshot_date"] <= to_dates(np.array([day]))[0]])


def test_real_snapshots_do_not_change_when_the_future_is_cut(real_bars):
    config = PatternConfig()
    full = make_snapshots(real_bars, config)
    assert len(full) > 500
    for day in np.random.default_rng(0).choice(np.unique(real_bars.date)[700:], 12, replace=False):
        cut = make_snapshots(real_bars.until(day), config)
        same_rows(cut, full[full["snapshot_date"] <= to_dates(np.array([day]))[0]])


def test_other_tickers_change_nothing(bars):
    full = make_snapshots(bars, SMALL)
    some = ["T02", "T05", "T09"]
    same_rows(make_snapshots(bars.subset(some), SMALL), full[full["ticker"].isin(some)])


@pytest.mark.parametrize("exponent", [-12, -3, 1, 12])
def test_a_power_of_two_on_prices_leaves_every_key_and_scales_the_boundaries_exactly(bars, exponent):
    factor = 2.0**exponent
    full, scaled = make_snapshots(bars, SMALL), make_snapshots(rescaled(bars, factor), SMALL)
    prices = ["upper", "lower", "power", "start_price"]
    same_rows(scaled.drop(columns=prices), full.drop(columns=prices))
    same_rows(scaled[prices], full[prices] * factor)


@pytest.mark.parametrize("exponent", [-12, 12])
def test_a_power_of_two_on_real_prices_leaves_every_key(real_bars, exponent):
    keys = ["ticker", "pattern_id", "activation_date", "snapshot_date", "bars_active"]
    full = make_snapshots(real_bars, PatternConfig())
    same_rows(make_snapshots(rescaled(real_bars, 2.0**exponent), PatternConfig())[keys], full[keys])


def test_active_snapshots_are_the_patterns_open_on_the_last_day_of_the_universe():
    bars = random_bars(4, n_tickers=10)
    full = make_snapshots(bars, EVERY_BAR)
    found = 0
    for day in np.unique(bars.date)[-160:]:
        active = active_snapshots(bars.until(day), SMALL)
        same_rows(active, full[full["snapshot_date"] == to_dates(np.array([day]))[0]])
        found += len(active)
    assert found > 50


def test_a_pattern_without_range_is_rejected_by_name_and_reaches_no_table():
    # Swings that widen all the time never qualify; then the listing is dead.
    close = np.concatenate([10 + 0.01 * np.arange(200) * np.tile([1, -1], 100), np.full(40, 10.0)])
    bars = Bars(
        np.array(["FLAT"], dtype=object),
        np.array([0, 240]),
        np.arange(240, dtype=np.int32) + 15_000,
        close,
        close.copy(),
        close.copy(),
        close,
        np.ones(240),
    )
    config = dataclasses.replace(EVERY_BAR, min_history_bars=1, min_other=0)
    result = make_snapshots_with_rejects(bars, config)
    assert len(result.rejects) > 0
    assert set(result.rejects["ticker"]) == {"FLAT"}
    assert set(result.rejects["reason"]) == {"lower boundary is not below the upper one"}
    assert (result.snapshots["lower"] < result.snapshots["upper"]).all()
    assert len(active_snapshots(bars, config)) == 0


def test_a_universe_without_patterns_gives_an_empty_table_of_the_same_shape():
    bars = random_bars(0, n_tickers=2, n_bars=60)
    assert len(find_patterns(bars, SMALL)) == 0
    empty = sample_snapshots(bars, find_patterns(bars, SMALL), SMALL).snapshots
    assert tuple(empty.columns) == SNAPSHOT_COLUMNS
    assert [str(t) for t in empty.dtypes] == [str(t) for t in make_snapshots(random_bars(1), SMALL).dtypes]
    assert len(empty) == 0
