"""Quarter starts, the default as-of date, and the average uniqueness against its definition."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import SplitConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.splits.as_of import default_as_of, quarter_starts
from k4_pipeline.splits.uniqueness import average_uniqueness, normalised
from k4_pipeline.splits.walk_forward import split_snapshots
from k4_pipeline_tests.splits.tables import labeled_table, weekly_table


def test_quarter_starts_include_both_ends() -> None:
    expected = [dt.date(2019, 1, 1), dt.date(2019, 4, 1), dt.date(2019, 7, 1)]
    assert quarter_starts("2019-01-01", "2019-07-01") == expected
    assert quarter_starts("2019-01-02", "2019-06-30") == expected[1:2]
    assert quarter_starts("2019-01-02", "2019-02-01") == []


def test_the_default_as_of_is_the_newest_quarter_with_a_fully_labelled_test_span() -> None:
    table = weekly_table()  # snapshots to 2018-01-17, labels known for snapshots to 2017-08-28
    as_of = default_as_of(table, SplitConfig())
    assert as_of == dt.date(2017, 4, 1)
    split, _ = split_snapshots(table, as_of, SplitConfig())
    assert split.loc[split["split"] == "test", "outcome_class"].notna().all()
    # July 2017 has labelled rows but not all of them, so it must not have been taken.
    later, _ = split_snapshots(table, dt.date(2017, 7, 1), SplitConfig())
    assert later.loc[later["split"] == "test", "outcome_class"].isna().sum() > 0


def test_the_default_as_of_does_not_move_when_newer_unlabelled_snapshots_arrive() -> None:
    table = weekly_table()
    newest = table["snapshot_date"].max()
    extra = [("NEW", "2018-01-02", str((newest + pd.Timedelta(days=d)).date()), None, None) for d in range(1, 20)]
    more = labeled_table([*table.drop(columns="pattern_id").itertuples(index=False, name=None), *extra])
    assert default_as_of(more, SplitConfig()) == default_as_of(table, SplitConfig())


def test_the_default_as_of_falls_back_to_labelled_rows_and_refuses_none() -> None:
    table = weekly_table(weeks=60)
    config = SplitConfig(validation_months=3, min_train_rows=1, min_validation_rows=1)
    assert default_as_of(table, config) in quarter_starts("2010-01-01", "2011-04-01")
    unlabelled = table.assign(label_end_date=pd.NaT, outcome_class=pd.array([pd.NA] * len(table), dtype="Int8"))
    unlabelled["label_end_date"] = unlabelled["label_end_date"].astype("datetime64[us]")
    with pytest.raises(BadInputError, match="none of 180 snapshots is labelled"):
        default_as_of(unlabelled, config)


def slow_uniqueness(tickers: list[str], snapshots: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Straight from the definition, over sets of weekdays."""
    windows = [
        {d for d in range(a + 1, b + 1) if (dt.date(1970, 1, 1) + dt.timedelta(days=int(d))).weekday() < 5}
        for a, b in zip(snapshots, ends)
    ]
    out = []
    for i, mine in enumerate(windows):
        shared = [sum(d in w for t, w in zip(tickers, windows) if t == tickers[i]) for d in mine]
        out.append(np.mean([1.0 / c for c in shared]))
    return np.array(out)


def test_average_uniqueness_equals_its_definition() -> None:
    rng = np.random.default_rng(5)
    tickers = [f"T{i}" for i in rng.integers(0, 4, size=40)]
    snapshots = rng.integers(15_000, 15_300, size=40)
    ends = snapshots + rng.integers(5, 150, size=40)
    got = average_uniqueness(pd.Series(tickers), snapshots, ends)
    np.testing.assert_allclose(got, slow_uniqueness(tickers, snapshots, ends), rtol=1e-12)


def test_lone_windows_are_unique_and_twins_share() -> None:
    days = np.array([15_000, 15_000, 15_000, 16_000])
    got = average_uniqueness(pd.Series(["A", "A", "B", "A"]), days, days + 100)
    np.testing.assert_allclose(got, [0.5, 0.5, 1.0, 1.0])
    np.testing.assert_allclose(normalised(got).mean(), 1.0)


def test_weights_have_mean_one_over_train_and_do_not_look_outside_it() -> None:
    config = SplitConfig(weight_by_uniqueness=True)
    table = weekly_table()
    split, _ = split_snapshots(table, "2016-07-01", config)
    train = split["split"] == "train"
    assert split.loc[train, "weight"].mean() == pytest.approx(1.0, abs=1e-12)
    assert split.loc[train, "weight"].nunique() > 1
    assert (split.loc[~train, "weight"] == 1.0).all()
    only_train = split.loc[train]
    expected = normalised(
        average_uniqueness(
            only_train["ticker"],
            only_train["snapshot_date"].to_numpy(dtype="datetime64[D]").astype(np.int64),
            only_train["label_end_date"].to_numpy(dtype="datetime64[D]").astype(np.int64),
        )
    )
    np.testing.assert_array_equal(only_train["weight"].to_numpy(), expected)
