"""The race labels against the day-by-day oracle, at every cut of the data, and on scaled prices."""

from __future__ import annotations

import bisect

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from pandas.testing import assert_frame_equal

from k4_pipeline.config import LabelConfig, PatternConfig
from k4_pipeline.market.bars import Bars, to_dates, to_day
from k4_pipeline.market.calendar import sessions
from k4_pipeline.patterns.labels import LABEL_COLUMNS, label_snapshots
from k4_pipeline.patterns.snapshots import make_snapshots
from k4_pipeline_tests.patterns import oracle
from k4_pipeline_tests.patterns.worlds import SMALL, random_bars, rescaled, ticker_lists

RACE = LabelConfig()
CONFIGS = {
    "race_100": LabelConfig.preset("race_100"),
    "rare_30": LabelConfig.preset("rare_30"),
    "first_breach": LabelConfig(labeling="first_breach"),
    "first_breach_close_10": LabelConfig(labeling="first_breach", measured_on="close", horizon_bars=10),
    "race_10": LabelConfig(horizon_bars=10, delisted_after_sessions=4),
}


def oracle_labels(bars: Bars, snapshots: pd.DataFrame, config: LabelConfig, data_end: int) -> list[tuple]:
    table = sessions("XNYS", 0, data_end + 1000).tolist()
    out = []
    for s in snapshots.itertuples():
        mine = ticker_lists(bars, s.ticker)
        found = oracle.label(
            bisect.bisect_left(mine["date"], to_day(s.snapshot_date)),
            mine["date"],
            mine["high"],
            mine["low"],
            mine["close"],
            s.upper,
            s.lower,
            config,
            lambda day, n: table[bisect.bisect_right(table, day) + n - 1],
            data_end,
        )
        out.append(found or (None, None, False, 0))
    return out


def as_tuples(labeled: pd.DataFrame) -> list[tuple]:
    return [
        (None, None, False, 0)
        if pd.isna(r.outcome_class)
        else (int(r.outcome_class), to_day(r.label_end_date), bool(r.censored), int(r.label_bars))
        for r in labeled.itertuples()
    ]


@pytest.mark.parametrize("name", CONFIGS)
def test_labels_of_a_ragged_universe_agree_with_the_day_by_day_oracle(name):
    bars = random_bars(21, n_tickers=12, n_bars=420)
    snapshots = make_snapshots(bars, SMALL)
    labeled = label_snapshots(bars, snapshots, CONFIGS[name])
    assert as_tuples(labeled) == oracle_labels(bars, snapshots, CONFIGS[name], bars.last_day)
    assert labeled["censored"].any()
    assert labeled["outcome_class"].notna().sum() > 50


@pytest.mark.parametrize("name", ["race_100", "rare_30", "first_breach"])
def test_labels_of_real_tickers_agree_with_the_day_by_day_oracle(real_bars, name):
    snapshots = make_snapshots(real_bars, PatternConfig())
    some = snapshots.iloc[:: 1 + len(snapshots) // 400].reset_index(drop=True)
    labeled = label_snapshots(real_bars, some, CONFIGS[name])
    assert as_tuples(labeled) == oracle_labels(real_bars, some, CONFIGS[name], real_bars.last_day)
    assert set(labeled["outcome_class"].dropna()) >= {0, 1, 2, 3, 5}


def labels_at_cut(bars: Bars, snapshots: pd.DataFrame, config: LabelConfig, day: int) -> None:
    """Labels on bars up to `day` are exactly those of the full run with label_end_date <= day, and no others."""
    full = label_snapshots(bars, snapshots, config)
    date = to_dates(np.array([day]))[0]
    known = snapshots["snapshot_date"] <= date
    cut = label_snapshots(bars.until(day), snapshots[known], config, data_end=day)
    expected = full[known].reset_index(drop=True)
    later = ~(expected["label_end_date"] <= date)
    expected.loc[later, "outcome_class"] = pd.NA
    expected.loc[later, "label_end_date"] = pd.NaT
    expected.loc[later, "censored"] = False
    expected.loc[later, "label_bars"] = 0
    assert_frame_equal(cut, expected, check_exact=True)


@pytest.mark.parametrize("name", ["race_10", "first_breach_close_10", "rare_30"])
def test_labels_at_every_cut_of_a_small_universe_are_those_known_by_then(name):
    bars = random_bars(8, n_tickers=8, n_bars=330)
    snapshots = make_snapshots(bars, SMALL)
    first = to_day(snapshots["snapshot_date"].min())
    censored = label_snapshots(bars, snapshots, CONFIGS[name])["censored"]
    assert censored.any()
    for day in range(first, bars.last_day + 1):  # every calendar day, week-ends and holidays too
        labels_at_cut(bars, snapshots, CONFIGS[name], day)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cut=st.floats(0.4, 1.0),
    horizon=st.integers(1, 120),
    silent=st.integers(1, 30),
    labeling=st.sampled_from(["race", "first_breach"]),
    measured_on=st.sampled_from(["high_low", "close"]),
)
def test_labels_at_a_random_cut_of_a_random_universe_are_those_known_by_then(
    seed, cut, horizon, silent, labeling, measured_on
):
    config = LabelConfig(
        horizon_bars=horizon, delisted_after_sessions=silent, labeling=labeling, measured_on=measured_on
    )
    bars = random_bars(seed, n_tickers=4, n_bars=360)
    snapshots = make_snapshots(bars, SMALL)
    day = int(np.quantile(bars.date, cut))
    if (snapshots["snapshot_date"] <= to_dates(np.array([day]))[0]).any():
        labels_at_cut(bars, snapshots, config, day)


def test_real_labels_at_random_cuts_are_those_known_by_then(real_bars):
    snapshots = make_snapshots(real_bars, PatternConfig())
    rng = np.random.default_rng(1)
    for day in rng.choice(np.arange(to_day("2011-01-03"), real_bars.last_day), 15, replace=False):
        labels_at_cut(real_bars, snapshots, RACE, int(day))


def test_other_tickers_change_no_label_while_the_end_of_the_data_is_the_same():
    bars = random_bars(9, n_tickers=9)
    snapshots = make_snapshots(bars, SMALL)
    full = label_snapshots(bars, snapshots, RACE)
    for ticker in bars.tickers:
        mine = full["ticker"] == ticker
        alone = label_snapshots(bars.subset([ticker]), snapshots[mine], RACE, data_end=bars.last_day)
        assert_frame_equal(alone, full[mine].reset_index(drop=True), check_exact=True)


@pytest.mark.parametrize("exponent", [-12, 5, 12])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_power_of_two_on_prices_changes_no_label(name, exponent):
    bars = random_bars(10, n_tickers=8)
    scaled = rescaled(bars, 2.0**exponent)
    columns = list(LABEL_COLUMNS)
    plain = label_snapshots(bars, make_snapshots(bars, SMALL), CONFIGS[name])[columns]
    assert_frame_equal(label_snapshots(scaled, make_snapshots(scaled, SMALL), CONFIGS[name])[columns], plain)


def test_a_power_of_two_on_real_prices_changes_no_label(real_bars):
    scaled = rescaled(real_bars, 2.0**-7)
    columns = ["ticker", "snapshot_date", *LABEL_COLUMNS]
    plain = label_snapshots(real_bars, make_snapshots(real_bars, PatternConfig()), RACE)[columns]
    assert_frame_equal(label_snapshots(scaled, make_snapshots(scaled, PatternConfig()), RACE)[columns], plain)
