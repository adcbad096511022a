"""The schemas of both snapshot tables: what the scanner makes passes, and each corrupted table is refused by rule."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import LabelConfig
from k4_pipeline.patterns.labels import label_snapshots
from k4_pipeline.patterns.snapshots import make_snapshots
from k4_pipeline.schemas.base import validate
from k4_pipeline.schemas.labeled_snapshots import labeled_snapshots_schema
from k4_pipeline.schemas.snapshots import snapshots_schema
from k4_pipeline_tests.patterns.worlds import SMALL, random_bars

LABELS = LabelConfig(horizon_bars=30)


@pytest.fixture(scope="module")
def snapshots() -> pd.DataFrame:
    return make_snapshots(random_bars(40, n_tickers=8), SMALL)


@pytest.fixture(scope="module")
def labeled() -> pd.DataFrame:
    bars = random_bars(40, n_tickers=8)
    return label_snapshots(bars, make_snapshots(bars, SMALL), LABELS)


def test_scanned_and_labelled_tables_satisfy_their_schemas(snapshots, labeled):
    assert validate(snapshots_schema(SMALL), snapshots) == []
    assert validate(labeled_snapshots_schema(SMALL, LABELS), labeled) == []
    assert labeled["outcome_class"].isna().any()
    assert labeled["censored"].any()


def corrupt(column: str, value):
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.copy()
        frame.loc[3, column] = value
        return frame

    return change


SPOILED = {
    "is_finite": corrupt("upper", np.inf),
    "not_nullable": corrupt("lower", np.nan),
    "lower_is_below_upper": lambda f: f.assign(lower=f["upper"]),
    "power_is_upper_times_the_power_factor": corrupt("power", 1e9),
    "start_is_not_after_activation": lambda f: f.assign(start_date=f["snapshot_date"] + pd.Timedelta(days=1)),
    "activation_is_not_after_snapshot": lambda f: f.assign(activation_date=f["snapshot_date"] + pd.Timedelta(days=1)),
    "bars_active_is_zero_on_the_activation_bar_alone": lambda f: f.assign(bars_active=0),
    "pattern_id_names_ticker_and_start": corrupt("pattern_id", "T00|1999-01-01"),
    "is_midnight": lambda f: f.assign(snapshot_date=f["snapshot_date"] + pd.Timedelta(hours=16)),
    "rows_ascend_by": lambda f: f.iloc[::-1].reset_index(drop=True),
    "name_a_row_once": lambda f: pd.concat([f.iloc[[0]], f], ignore_index=True),
    "index_counts_from_zero": lambda f: f.iloc[1:],
    "is_at_most_89": corrupt("bars_active", 90),
    "is_greater_than_0": corrupt("start_price", -1.0),
    "dtypes": lambda f: f.assign(bars_active=f["bars_active"].astype("float64")),
    "has_at_least_1_rows": lambda f: f.iloc[:0],
    "is not declared": lambda f: f.assign(end_date=f["snapshot_date"]),
    "is missing": lambda f: f.drop(columns="power"),
    "boundaries_are_fixed_within_a_pattern": lambda f: f.assign(upper=f["upper"] + f["bars_active"] * 0.01),
}


@pytest.mark.parametrize("rule", SPOILED)
def test_a_spoiled_snapshot_table_is_refused_by_its_rule(snapshots, rule):
    violations = validate(snapshots_schema(SMALL), SPOILED[rule](snapshots))
    assert any(rule in v for v in violations), violations


def test_two_patterns_of_one_ticker_at_a_time_are_refused_when_scanned_and_accepted_from_a_file(snapshots):
    earlier = snapshots["start_date"] - pd.Timedelta(days=300)
    twin = snapshots.assign(start_date=earlier, pattern_id=snapshots["ticker"] + "|" + earlier.dt.strftime("%Y-%m-%d"))
    both = pd.concat([snapshots, twin]).sort_values(["ticker", "start_date", "snapshot_date"], ignore_index=True)
    assert any("one_pattern_at_a_time" in v for v in validate(snapshots_schema(SMALL), both))
    assert validate(snapshots_schema(SMALL, external=True), both) == []


def test_an_external_table_may_set_its_own_power_boundary(snapshots):
    other = snapshots.assign(power=snapshots["upper"] * 1.01)
    assert validate(snapshots_schema(), other) != []
    assert validate(snapshots_schema(external=True), other) == []


def test_todays_open_snapshots_may_be_none(snapshots):
    assert validate(snapshots_schema(SMALL, min_rows=0), snapshots.iloc[:0]) == []


def first_known(frame: pd.DataFrame) -> int:
    return int(np.flatnonzero(frame["outcome_class"].notna())[0])


def at_known(column: str, value):
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.copy()
        frame.loc[first_known(frame), column] = value
        return frame

    return change


def at_unknown(column: str, value):
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.copy()
        frame.loc[np.flatnonzero(frame["outcome_class"].isna())[0], column] = value
        return frame

    return change


SPOILED_LABELS = {
    "is_at_most_5": at_known("outcome_class", 6),
    "class_and_label_end_are_known_together": at_known("label_end_date", pd.NaT),
    "label_ends_after_its_snapshot": lambda f: f.assign(label_end_date=f["snapshot_date"].where(f["label_bars"] > 0)),
    "censored_labels_are_known": at_unknown("censored", True),
    "label_uses_the_horizon_unless_censored": at_known("label_bars", 3),
    "is_at_most_30": at_known("label_bars", 31),
    "dtypes": lambda f: f.assign(outcome_class=f["outcome_class"].astype("float64")),
    "lower_is_below_upper": lambda f: f.assign(lower=f["upper"]),
}


@pytest.mark.parametrize("rule", SPOILED_LABELS)
def test_a_spoiled_labelled_table_is_refused_by_its_rule(labeled, rule):
    violations = validate(labeled_snapshots_schema(SMALL, LABELS), SPOILED_LABELS[rule](labeled))
    assert any(rule in v for v in violations), violations


def test_the_schema_of_another_horizon_refuses_the_table(labeled):
    other = dataclasses.replace(LABELS, horizon_bars=31)
    assert any("label_uses_the_horizon" in v for v in validate(labeled_snapshots_schema(SMALL, other), labeled))
