"""The race labels: every rule of the table, when a label is known, and the slow oracle."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from pandas.testing import assert_frame_equal

from k4_pipeline.config import LabelConfig
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.market.bars import Bars, to_dates, to_days
from k4_pipeline.market.calendar import session_offset, sessions
from k4_pipeline.patterns.boundaries import check_boundaries
from k4_pipeline.patterns.labels import LABEL_COLUMNS, label_snapshots
from k4_pipeline.patterns.snapshots import make_snapshots
from k4_pipeline_tests.patterns import oracle
from k4_pipeline_tests.patterns.worlds import SMALL, random_bars

DAYS = sessions("XNYS", "2010-01-04", "2012-12-31")
RACE = LabelConfig()
BREACH = LabelConfig(labeling="first_breach")


def bars_of(high, low=None, close=None, days=None) -> Bars:
    """One ticker; the first bar is the snapshot bar."""
    high = np.asarray(high, dtype=np.float64)
    low = np.minimum(high, 95.0) if low is None else np.asarray(low, dtype=np.float64)
    close = (high + low) / 2 if close is None else np.asarray(close, dtype=np.float64)
    days = DAYS[: len(high)] if days is None else np.asarray(days, dtype=np.int32)
    return Bars(
        np.array(["A"], dtype=object), np.array([0, len(high)]), days, close, high, low, close, np.ones(len(high))
    )


def snapshot(day: int, upper=100.0, lower=90.0, ticker="A") -> pd.DataFrame:
    date = to_dates(np.array([day]))
    return pd.DataFrame(
        {
            "ticker": pd.Series([ticker], dtype="str"),
            "pattern_id": pd.Series([f"{ticker}|x"], dtype="str"),
            "start_date": date,
            "activation_date": date,
            "snapshot_date": date,
            "upper": [upper],
            "lower": [lower],
            "power": [upper * 1.005],
            "start_price": [95.0],
            "qualifying_bars": np.array([10]),
            "bars_active": np.array([0]),
        }
    )


def race(later_high: dict[int, float], later_low: dict[int, float] | None = None, config: LabelConfig = RACE) -> int:
    """Class when later bar k (1..100) has these highs and lows, and quiet ones otherwise."""
    high, low = np.full(101, 99.0), np.full(101, 95.0)
    for k, value in later_high.items():
        high[k] = value
    for k, value in (later_low or {}).items():
        low[k] = value
    labeled = label_snapshots(bars_of(high, low), snapshot(DAYS[0]), config)
    assert labeled["label_end_date"].iloc[0] == to_dates(DAYS[100:101])[0]
    assert labeled["label_bars"].iloc[0] == 100
    return int(labeled["outcome_class"].iloc[0])


def test_each_class_begins_exactly_at_its_threshold():
    for cls, factor in ((1, 1.05), (2, 1.15), (3, 1.35), (4, 1.75)):
        reach = factor * 100.0
        assert race({50: reach}) == cls
        assert race({50: np.nextafter(reach, 0)}) == cls - 1
    assert race({}) == 0
    assert race({}, {50: 0.90 * 90.0}) == 5
    assert race({}, {50: np.nextafter(0.90 * 90.0, 99)}) == 0


def test_the_snapshot_bar_itself_is_no_part_of_the_race():
    assert race({0: 999.0}, {0: 1.0}) == 0


def test_the_hundredth_bar_counts_and_the_next_one_does_not():
    assert race({100: 175.0}) == 4
    high = np.full(102, 99.0)
    high[101] = 999.0
    assert label_snapshots(bars_of(high), snapshot(DAYS[0]), RACE)["outcome_class"].iloc[0] == 0


@pytest.mark.parametrize(
    ("highs", "lows", "expected"),
    [
        ({20: 106.0}, {30: 70.0}, 1),  # a K1 before the stop keeps
        ({20: 116.0}, {30: 70.0}, 2),
        ({20: 106.0, 40: 200.0}, {30: 70.0}, 1),  # after the stop a K1 does not improve
        ({20: 116.0, 40: 136.0}, {30: 70.0}, 2),  # nor a K2
        ({20: 136.0, 40: 175.0}, {30: 70.0}, 4),  # a K3 may still become K4
        ({20: 136.0, 40: 174.9}, {30: 70.0}, 3),
        ({20: 136.0, 30: 175.0}, {30: 70.0}, 4),  # on the stop bar too: it is not before the stop
        ({40: 200.0}, {30: 70.0}, 5),  # the stop first is final
        ({30: 200.0}, {30: 70.0}, 5),  # the same bar: the stop first
        ({20: 106.0, 30: 200.0}, {30: 70.0}, 1),
        ({10: 106.0, 20: 116.0}, {30: 70.0, 60: 60.0}, 2),  # the best one before the stop
        ({20: 175.0}, {30: 70.0}, 4),
    ],
)
def test_race_keeps_what_came_before_the_stop(highs, lows, expected):
    assert race(highs, lows) == expected


@pytest.mark.parametrize(
    ("highs", "lows", "expected"),
    [
        ({20: 116.0}, {30: 70.0}, 5),  # K1 and K2 do not end the race
        ({20: 136.0, 40: 200.0}, {30: 70.0}, 3),  # the first breach is final
        ({20: 175.0}, {}, 4),
        ({20: 136.0, 40: 200.0}, {}, 3),
        ({20: 175.0}, {20: 70.0}, 5),  # the same bar: the stop first
        ({20: 116.0}, {}, 2),
        ({20: 106.0}, {}, 1),
        ({}, {}, 0),
    ],
)
def test_first_breach_is_final(highs, lows, expected):
    assert race(highs, lows, BREACH) == expected


def test_measured_on_close_looks_at_closes_alone():
    config = LabelConfig(measured_on="close", horizon_bars=5)
    high, low, close = np.full(6, 300.0), np.full(6, 10.0), np.full(6, 95.0)
    assert label_snapshots(bars_of(high, low, close), snapshot(DAYS[0]), config)["outcome_class"].iloc[0] == 0
    close[3] = 115.0
    assert label_snapshots(bars_of(high, low, close), snapshot(DAYS[0]), config)["outcome_class"].iloc[0] == 2


def test_the_presets_are_the_documented_ones():
    rare = LabelConfig.preset("rare_30")
    assert (rare.horizon_bars, rare.measured_on, rare.labeling) == (30, "close", "race")
    assert LabelConfig.preset("race_100") == LabelConfig()
    with pytest.raises(ConfigError, match="race_100"):
        LabelConfig.preset("race_101")


def test_a_ticker_still_trading_has_no_label_before_bar_100_whatever_has_happened():
    high = np.full(100, 99.0)
    high[1] = 999.0
    labeled = label_snapshots(bars_of(high), snapshot(DAYS[0]), RACE)
    assert labeled["outcome_class"].isna().all()
    assert labeled["label_end_date"].isna().all()
    assert not labeled["censored"].any()
    assert (labeled["label_bars"] == 0).all()


def test_a_delisted_ticker_is_labelled_on_the_bars_there_are_from_the_calendars_hundredth_session():
    high = np.full(31, 99.0)
    high[10] = 116.0
    bars = bars_of(high)
    end = DAYS[100]
    before = label_snapshots(bars, snapshot(DAYS[0]), RACE, data_end=int(end) - 1)
    assert before["outcome_class"].isna().all()
    labeled = label_snapshots(bars, snapshot(DAYS[0]), RACE, data_end=int(end))
    assert labeled["outcome_class"].tolist() == [2]
    assert labeled["censored"].tolist() == [True]
    assert labeled["label_bars"].tolist() == [30]
    assert labeled["label_end_date"].tolist() == [pd.Timestamp(to_dates(DAYS[100:101])[0])]


def test_an_end_shortly_before_the_horizon_is_known_only_after_the_silent_sessions():
    bars = bars_of(np.full(96, 99.0))  # last bar on session 95; silence is over on session 106
    labeled = label_snapshots(bars, snapshot(DAYS[0]), RACE, data_end=int(DAYS[106]))
    assert labeled["label_end_date"].tolist() == [pd.Timestamp(to_dates(DAYS[106:107])[0])]
    assert label_snapshots(bars, snapshot(DAYS[0]), RACE, data_end=int(DAYS[105]))["outcome_class"].isna().all()


def test_a_bar_on_the_last_silent_session_keeps_the_ticker_alive():
    config = LabelConfig(horizon_bars=20)
    rest = np.arange(30, 60)
    for gap, censored in ((11, False), (12, True)):
        # Bars on sessions 0..15 and from 15 + gap on: horizon session 20, silence over on session 15 + 11 = 26.
        days = DAYS[np.concatenate([np.arange(16), rest - 30 + 15 + gap])]
        labeled = label_snapshots(bars_of(np.full(46, 99.0), days=days), snapshot(DAYS[0]), config)
        assert labeled["censored"].tolist() == [censored]
        expected = DAYS[26] if censored else days[20]
        assert labeled["label_end_date"].tolist() == [pd.Timestamp(to_dates(np.array([expected]))[0])]
        assert labeled["label_bars"].tolist() == [15 if censored else 20]


def test_a_halt_within_the_horizon_does_not_end_a_ticker_whose_horizon_session_lies_after_it():
    days = DAYS[np.concatenate([np.arange(10), np.arange(40, 150)])]
    labeled = label_snapshots(bars_of(np.full(120, 99.0), days=days), snapshot(DAYS[0]), RACE)
    assert labeled["censored"].tolist() == [False]
    assert labeled["label_end_date"].tolist() == [pd.Timestamp(to_dates(days[100:101])[0])]


def test_bars_that_come_back_after_years_do_not_change_a_censored_label():
    high = np.concatenate([np.full(31, 99.0), np.full(200, 500.0)])
    days = DAYS[np.concatenate([np.arange(31), np.arange(300, 500)])]
    labeled = label_snapshots(bars_of(high, np.full(231, 95.0), days=days), snapshot(DAYS[0]), RACE)
    assert labeled["outcome_class"].tolist() == [0]
    assert labeled["censored"].tolist() == [True]
    assert labeled["label_end_date"].tolist() == [pd.Timestamp(to_dates(DAYS[100:101])[0])]


def test_a_snapshot_on_the_very_last_bar_of_an_ended_ticker_is_k0_on_no_bars():
    labeled = label_snapshots(bars_of([99.0]), snapshot(DAYS[0]), RACE, data_end=int(DAYS[200]))
    assert labeled[["outcome_class", "censored", "label_bars"]].values.tolist() == [[0, True, 0]]


def test_the_exchange_of_the_suffix_sets_the_horizon_session():
    bars = bars_of(np.full(31, 99.0))
    malaysia = Bars(np.array(["A.KL"], dtype=object), *(getattr(bars, f.name) for f in dataclasses.fields(Bars)[1:]))
    labeled = label_snapshots(malaysia, snapshot(DAYS[0], ticker="A.KL"), RACE, data_end=int(DAYS[200]))
    expected = session_offset("XKLS", DAYS[:1], 100)
    assert expected[0] != DAYS[100]
    assert to_days(labeled["label_end_date"].to_numpy()).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("upper", "lower", "reason"),
    [
        (np.nan, 90.0, "upper boundary is not a finite number"),
        (np.inf, 90.0, "upper boundary is not a finite number"),
        (100.0, np.nan, "lower boundary is not a finite number"),
        (100.0, -1.0, "lower boundary is not positive"),
        (100.0, 0.0, "lower boundary is not positive"),
        (100.0, 100.0, "lower boundary is not below the upper one"),
        (90.0, 100.0, "lower boundary is not below the upper one"),
    ],
)
def test_unusable_boundaries_are_rejected_with_the_row_named(upper, lower, reason):
    good = snapshot(DAYS[0])
    frame = pd.concat([good, snapshot(DAYS[0], upper, lower)], ignore_index=True)
    rejects = check_boundaries(frame)
    assert rejects[["row", "reason"]].values.tolist() == [[1, reason]]
    assert len(check_boundaries(good)) == 0
    with pytest.raises(BadInputError, match=r"row 1 \(A, start 2010-01-04"):
        label_snapshots(bars_of(np.full(101, 99.0)), frame, RACE)


def test_a_snapshot_without_a_bar_is_named():
    frame = pd.concat([snapshot(DAYS[0]), snapshot(DAYS[0] - 1)], ignore_index=True)
    with pytest.raises(BadInputError, match=r"1 of 2 snapshots have no bar .* row 1 \(A, 2010-01-03\)"):
        label_snapshots(bars_of(np.full(101, 99.0)), frame, RACE)


@pytest.mark.parametrize(
    "change",
    [
        {"horizon_bars": 0},
        {"stop_loss": 1.0},
        {"delisted_after_sessions": 0},
        {"gain_thresholds": (0.05, 0.15, 0.15, 0.75)},
        {"labeling": "last_breach"},
        {"measured_on": "open"},
    ],
)
def test_impossible_settings_are_a_config_error(change):
    with pytest.raises(ConfigError):
        label_snapshots(bars_of(np.full(101, 99.0)), snapshot(DAYS[0]), dataclasses.replace(RACE, **change))


prices = st.lists(st.sampled_from([60.0, 81.0, 90.0, 99.0, 105.0, 115.0, 135.0, 140.0, 175.0, 180.0]), max_size=12)


@settings(max_examples=300, deadline=None)
@given(first=prices, second=prices, labeling=st.sampled_from(["race", "first_breach"]))
def test_random_races_agree_with_the_oracle(first, second, labeling):
    n = min(len(first), len(second))
    high = [99.0] + [max(a, b) for a, b in zip(first, second)]
    low = [95.0] + [min(a, b) for a, b in zip(first, second)]
    config = LabelConfig(horizon_bars=max(n, 1), labeling=labeling)
    labeled = label_snapshots(bars_of(high, low), snapshot(DAYS[0]), config, data_end=int(DAYS[60]))
    decide = oracle.race_class if labeling == "race" else oracle.first_breach_class
    assert labeled["outcome_class"].iloc[0] == decide(high[1:], low[1:], 100.0, 90.0)


def test_rows_keep_their_order_and_the_input_is_not_changed():
    bars = random_bars(12)
    snapshots = make_snapshots(bars, SMALL).sample(frac=1.0, random_state=0)
    before = snapshots.copy()
    labeled = label_snapshots(bars, snapshots, RACE)
    assert_frame_equal(snapshots, before)
    assert_frame_equal(labeled[list(before.columns)], before.reset_index(drop=True))
    straight = label_snapshots(bars, make_snapshots(bars, SMALL), RACE)
    keys = ["ticker", "start_date", "snapshot_date"]
    assert_frame_equal(labeled.sort_values(keys).reset_index(drop=True), straight, check_exact=True)


def test_no_snapshots_give_an_empty_labelled_table():
    bars = random_bars(12)
    labeled = label_snapshots(bars, make_snapshots(bars, SMALL).iloc[:0], RACE)
    assert len(labeled) == 0
    assert [str(labeled[c].dtype) for c in LABEL_COLUMNS] == ["Int8", "datetime64[us]", "bool", "int64"]
