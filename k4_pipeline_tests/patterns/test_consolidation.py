"""The state machine against its text and against the slow oracle."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from k4_pipeline.config import PatternConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.features.criteria import pattern_criteria
from k4_pipeline.market.bars import Bars
from k4_pipeline.patterns.consolidation import run_state_machine
from k4_pipeline_tests.patterns import oracle
from k4_pipeline_tests.patterns.worlds import SMALL, patterns_frame, random_bars, scan_patterns, ticker_lists

CONFIG = PatternConfig(min_history_bars=1, qualifying_bars=3, max_active_bars=5)


def one_ticker(close, high=None, low=None) -> Bars:
    close = np.asarray(close, dtype=np.float64)
    n = len(close)
    high = close + 1.0 if high is None else np.asarray(high, dtype=np.float64)
    low = close - 1.0 if low is None else np.asarray(low, dtype=np.float64)
    return Bars(
        np.array(["A"], dtype=object),
        np.array([0, n]),
        np.arange(n, dtype=np.int32) + 10_000,
        close,
        high,
        low,
        close,
        np.ones(n),
    )


def criteria_where(good) -> SimpleNamespace:
    """Criteria under which exactly the bars marked True qualify."""
    good = np.asarray(good, dtype=bool)
    value = np.where(good, 0.0, 2.0)
    return SimpleNamespace(bbw_percentile=value, adx=value, volume_ratio=value, range_ratio=value)


def spans(bars: Bars, good, config: PatternConfig = CONFIG) -> list[tuple[int, int, int]]:
    found = run_state_machine(bars, criteria_where(good), config)
    return list(zip(found.start_row.tolist(), found.activation_row.tolist(), found.end_row.tolist()))


def test_three_qualifying_bars_in_a_row_activate_on_the_third_and_fix_the_boundaries():
    bars = one_ticker([10, 11, 12, 12, 12], high=[15, 12, 13, 99, 99], low=[9, 8, 11, 1, 1])
    found = run_state_machine(bars, criteria_where([1, 1, 1, 0, 0]), CONFIG)
    assert (found.start_row[0], found.activation_row[0], found.end_row[0]) == (0, 2, -1)
    assert (found.upper[0], found.lower[0], found.power[0]) == (15.0, 8.0, 15.0 * 1.005)


def test_a_bar_that_does_not_qualify_starts_the_count_again():
    assert spans(one_ticker([10] * 6), [1, 1, 0, 1, 1, 1]) == [(3, 5, -1)]


def test_the_ending_bar_does_not_start_the_next_pattern():
    bars = one_ticker([10, 10, 10, 50, 50, 50, 50])
    # Bar 3 breaks out and qualifies too; the next run counts from bar 4 on.
    assert spans(bars, [1] * 7) == [(0, 2, 3), (4, 6, -1)]


def test_nothing_else_is_tracked_while_a_pattern_is_active():
    bars = one_ticker([10, 10, 10, 10, 10, 50, 50])
    assert spans(bars, [1] * 7) == [(0, 2, 5)]


def test_breakout_is_a_close_above_power_and_not_at_it():
    power = 11.0 * 1.005
    assert spans(one_ticker([10, 10, 10, power]), [1, 1, 1, 0]) == [(0, 2, -1)]
    assert spans(one_ticker([10, 10, 10, np.nextafter(power, 99)]), [1, 1, 1, 0]) == [(0, 2, 3)]


def test_breakdown_is_a_close_below_lower_and_not_at_it():
    assert spans(one_ticker([10, 10, 10, 9.0]), [1, 1, 1, 0]) == [(0, 2, -1)]
    assert spans(one_ticker([10, 10, 10, np.nextafter(9.0, 0)]), [1, 1, 1, 0]) == [(0, 2, 3)]


def test_timeout_ends_a_pattern_max_active_bars_after_its_activation_bar():
    found = scan_like(one_ticker([10.0] * 12), [1] * 3 + [0] * 9)
    assert found == [(0, 2, 7, "timeout")]


def scan_like(bars: Bars, good) -> list[tuple[int, int, int, str]]:
    frame = patterns_frame(bars, run_state_machine(bars, criteria_where(good), CONFIG))
    return list(zip(frame["start_row"], frame["activation_row"], frame["end_row"], frame["end_reason"]))


def test_a_missing_percentile_never_qualifies_and_a_missing_other_counts_as_not_met():
    bars = one_ticker([10.0] * 3)
    criteria = criteria_where([1, 1, 1])
    criteria.adx = np.full(3, np.nan)
    assert len(run_state_machine(bars, criteria, CONFIG)) == 1
    criteria.volume_ratio = np.array([0.0, np.nan, 0.0])
    assert len(run_state_machine(bars, criteria, CONFIG)) == 0
    criteria = criteria_where([1, 1, 1])
    criteria.bbw_percentile = np.array([0.0, np.nan, 0.0])
    assert len(run_state_machine(bars, criteria, CONFIG)) == 0


def test_history_is_counted_up_to_the_activation_bar_and_the_machine_runs_from_the_first_bar():
    bars = one_ticker([10.0] * 40)
    config = PatternConfig(min_history_bars=10, qualifying_bars=3, max_active_bars=5)
    # A pattern every 8 bars; the one that activates on bar 3 is too early, yet it decides where the next can start.
    assert spans(bars, [1] * 40, config) == [(8, 10, 15), (16, 18, 23), (24, 26, 31), (32, 34, 39)]
    assert spans(bars, [1] * 40, PatternConfig(min_history_bars=11, qualifying_bars=3, max_active_bars=5))[0][1] == 10
    assert spans(bars, [1] * 40, PatternConfig(min_history_bars=12, qualifying_bars=3, max_active_bars=5))[0][1] == 18


def test_tickers_do_not_bleed_into_each_other():
    whole = one_ticker([10.0] * 4)
    two = Bars(np.array(["A", "B"], dtype=object), np.array([0, 2, 4]), *(getattr(whole, c) for c in _COLUMNS))
    assert spans(two, [1, 1, 1, 1]) == []


_COLUMNS = ("date", "open", "high", "low", "close", "volume")


def test_impossible_counts_are_a_config_error():
    with pytest.raises(ConfigError, match="at least 1"):
        run_state_machine(one_ticker([1.0]), criteria_where([1]), PatternConfig(qualifying_bars=0))


def test_the_machine_gives_the_same_with_one_thread_and_with_many_and_reports_progress():
    bars = random_bars(3, n_tickers=70, n_bars=200, ragged=False)
    seen = []
    config = PatternConfig(min_history_bars=1)
    one = scan_patterns(bars, config, threads=1, progress=lambda done, total: seen.append((done, total)))
    assert one.equals(scan_patterns(bars, config, threads=4))
    assert seen[-1] == (70, 70)
    assert len(one) > 20


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 150),
    good_share=st.floats(0.3, 1.0),
    qualifying_bars=st.integers(1, 6),
    max_active=st.integers(1, 12),
    min_history=st.integers(1, 60),
)
def test_random_machines_agree_with_the_oracle(seed, n, good_share, qualifying_bars, max_active, min_history):
    rng = np.random.default_rng(seed)
    config = PatternConfig(qualifying_bars=qualifying_bars, max_active_bars=max_active, min_history_bars=min_history)
    close = np.round(10 + np.cumsum(rng.normal(0, 0.3, n)), 1)
    bars = one_ticker(close, close + np.round(rng.random(n), 1), close - np.round(rng.random(n), 1))
    values = {
        "bbw_percentile": np.where(rng.random(n) < good_share, 0.1, 0.3),
        "adx": rng.choice([10.0, 32.0, np.nan], n, p=[0.7, 0.2, 0.1]),
        "volume_ratio": rng.choice([0.5, 0.8, np.nan], n, p=[0.7, 0.2, 0.1]),
        "range_ratio": rng.choice([0.5, 1.0, np.nan], n, p=[0.7, 0.2, 0.1]),
    }
    found = run_state_machine(bars, SimpleNamespace(**values), config)
    expected = oracle.patterns(
        bars.high.tolist(),
        bars.low.tolist(),
        bars.close.tolist(),
        bars.volume.tolist(),
        config,
        given_criteria=list(zip(*(v.tolist() for v in values.values()))),
    )
    assert found.start_row.tolist() == [p["start"] for p in expected]
    assert found.activation_row.tolist() == [p["activation"] for p in expected]
    assert found.end_row.tolist() == [-1 if p["end"] is None else p["end"] for p in expected]
    assert found.upper.tolist() == [p["upper"] for p in expected]
    assert found.lower.tolist() == [p["lower"] for p in expected]
    assert found.power.tolist() == [p["power"] for p in expected]


def compare_with_oracle(bars: Bars, tickers, config: PatternConfig) -> tuple[int, int]:
    """(patterns of the oracle, patterns in one list and not in the other) over these tickers."""
    frame = scan_patterns(bars.subset(tickers), config)
    total = different = 0
    for ticker in tickers:
        mine = ticker_lists(bars, ticker)
        expected = oracle.patterns(mine["high"], mine["low"], mine["close"], mine["volume"], config)
        rows = frame[frame["ticker"] == ticker]
        first = int(bars.subset(tickers).ticker_slice(ticker).start)
        ours = {
            (int(r.start_row) - first, int(r.activation_row) - first, r.upper, r.lower, r.power, r.end_reason)
            for r in rows.itertuples()
        }
        theirs = {(p["start"], p["activation"], p["upper"], p["lower"], p["power"], p["reason"]) for p in expected}
        total += len(theirs)
        different += len(ours ^ theirs)
    return total, different


def test_patterns_of_random_walks_agree_with_the_oracle_from_raw_bars_on():
    bars = random_bars(11, n_tickers=16, n_bars=420)
    total, different = compare_with_oracle(bars, list(bars.tickers), SMALL)
    assert total >= 60
    assert different == 0


def test_patterns_of_random_real_tickers_agree_with_the_oracle_from_raw_bars_on(real_bars):
    tickers = sorted(np.random.default_rng(5).choice(real_bars.tickers, 60, replace=False))
    total, different = compare_with_oracle(real_bars, tickers, PatternConfig())
    assert total >= 100
    # Ties in the rank or the directional moves may be decided by rounding noise: under 0.1% of the patterns.
    assert different <= 0.001 * total


def test_every_bar_of_the_real_criteria_is_decided_as_by_the_oracle(real_bars):
    tickers = sorted(np.random.default_rng(6).choice(real_bars.tickers, 5, replace=False))
    few = real_bars.subset(tickers)
    ours = pattern_criteria(few)
    for ticker in tickers:
        mine = ticker_lists(few, ticker)
        rows = few.ticker_slice(ticker)
        theirs = np.array(oracle.criteria(mine["high"], mine["low"], mine["close"], mine["volume"]))
        ours_here = np.column_stack(
            [getattr(ours, c)[rows] for c in ("bbw_percentile", "adx", "volume_ratio", "range_ratio")]
        )
        np.testing.assert_allclose(ours_here, theirs, rtol=1e-9, atol=1e-12)
