"""Membership by dates: the boundary days one by one, and the promises on random tables."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st

from k4_pipeline.config import EXCLUSION_REASONS, SplitConfig
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.splits.manifest import SplitManifest
from k4_pipeline.splits.verify import verify_split
from k4_pipeline.splits.walk_forward import SPLIT_COLUMNS, split_snapshots
from k4_pipeline_tests.splits.tables import SMALL, labeled_table, labeled_tables, weekly_table

# as_of 2016-07-01, validation from 2015-01-01 (18 months), train labels known before 2014-12-25 (7 days), test to
# 2016-10-01. Fillers keep train and validation from being empty.
AS_OF = "2016-07-01"
FILLERS = [
    ("FILL", "2012-01-02", "2012-01-20", "2012-06-01", 0),
    ("FILL", "2015-02-02", "2015-02-20", "2015-07-01", 4),
]


def fate(start: str, snapshot: str, end: str | None, config: SplitConfig = SMALL) -> tuple[str, str]:
    """(split, reason) of one row among the fillers."""
    table = labeled_table([*FILLERS, ("X", start, snapshot, end, None if end is None else 1)])
    split, manifest = split_snapshots(table, AS_OF, config)
    assert verify_split(split, manifest, table) == []
    row = split[split["ticker"] == "X"].iloc[0]
    return row["split"], row["reason"]


@pytest.mark.parametrize(
    ("snapshot", "end", "expected"),
    [
        ("2014-06-02", "2014-12-24", ("train", "")),
        ("2014-06-02", "2014-12-25", ("excluded", "embargo")),
        ("2014-06-02", "2014-12-31", ("excluded", "embargo")),
        ("2014-06-02", "2015-01-01", ("excluded", "label_not_known_before_validation")),
        ("2014-06-02", None, ("excluded", "label_not_known_before_validation")),
        ("2014-12-31", "2015-06-01", ("excluded", "label_not_known_before_validation")),
        ("2015-01-01", "2015-06-01", ("validation", "")),
        ("2016-02-01", "2016-06-30", ("validation", "")),
        ("2016-02-01", "2016-07-01", ("excluded", "label_not_known_at_as_of")),
        ("2016-06-30", "2016-12-01", ("excluded", "label_not_known_at_as_of")),
        ("2016-06-30", None, ("excluded", "label_not_known_at_as_of")),
        ("2016-07-01", "2016-12-01", ("test", "")),
        ("2016-07-01", None, ("test", "")),
        ("2016-09-30", None, ("test", "")),
        ("2016-10-01", "2017-03-01", ("excluded", "after_test")),
    ],
)
def test_every_boundary_day_falls_on_the_documented_side(snapshot: str, end: str | None, expected: tuple) -> None:
    assert fate("2014-05-01", snapshot, end) == expected


def test_an_embargo_of_zero_days_still_purges_strictly() -> None:
    config = dataclasses.replace(SMALL, embargo_days=0)
    assert fate("2014-05-01", "2014-06-02", "2014-12-31", config) == ("train", "")
    assert fate("2014-05-01", "2014-06-02", "2015-01-01", config)[0] == "excluded"


def test_train_years_limits_how_far_train_reaches_back() -> None:
    config = dataclasses.replace(SMALL, train_years=3)
    assert fate("2011-11-01", "2012-01-01", "2012-06-01", config) == ("train", "")
    assert fate("2011-11-01", "2011-12-31", "2012-06-01", config) == ("excluded", "before_train_span")


def test_a_pattern_stays_in_the_earliest_split_it_occurs_in() -> None:
    rows = [
        ("A", "2014-11-03", "2014-11-20", "2014-12-20", 0),  # train
        ("A", "2014-11-03", "2015-01-05", "2015-02-05", 1),  # would be validation
        ("A", "2014-11-03", "2016-07-05", "2016-08-05", 1),  # would be test
        ("B", "2014-11-03", "2014-12-30", "2015-01-30", 0),  # purged: the pattern does not occur in train
        ("B", "2014-11-03", "2015-01-05", "2015-02-05", 1),
        ("C", "2016-05-02", "2016-05-20", "2016-06-20", 1),  # validation
        ("C", "2016-05-02", "2016-07-05", None, None),  # would be test
    ]
    split, manifest = split_snapshots(labeled_table(rows), AS_OF, SMALL)
    assert verify_split(split, manifest) == []
    assert split["split"].tolist() == [
        "train",
        "excluded",
        "excluded",
        "excluded",
        "validation",
        "validation",
        "excluded",
    ]
    assert split["reason"].tolist() == [
        "",
        "pattern_in_earlier_split",
        "pattern_in_earlier_split",
        "label_not_known_before_validation",
        "",
        "",
        "pattern_in_earlier_split",
    ]


def test_the_table_holds_every_row_once_in_the_declared_columns() -> None:
    table = weekly_table()
    split, manifest = split_snapshots(table, AS_OF, SplitConfig())
    assert tuple(split.columns) == SPLIT_COLUMNS
    pd.testing.assert_frame_equal(split[list(SPLIT_COLUMNS[:6])], table)
    assert set(split["reason"]) - {""} <= set(EXCLUSION_REASONS)
    assert sum(manifest.rows.values()) == len(table)
    assert (split["weight"] == 1.0).all()


def test_the_manifest_survives_json_and_counts_what_the_table_holds() -> None:
    split, manifest = split_snapshots(weekly_table(), AS_OF, SplitConfig())
    assert SplitManifest.from_json(manifest.to_json()) == manifest
    assert manifest.split_config() == SplitConfig()
    train = split[split["split"] == "train"]
    assert manifest.rows["train"] == len(train)
    assert manifest.classes["train"]["K4_EXCEPTIONAL"] == int((train["outcome_class"] == 4).sum())
    assert (manifest.validation_start, manifest.train_end, manifest.test_end) == (
        "2015-01-01",
        "2014-12-25",
        "2016-10-01",
    )
    with pytest.raises(BadInputError, match="lacks or has too much: surprise"):
        SplitManifest.from_json(manifest.to_json().replace('"as_of"', '"surprise": 1, "as_of"'))


def test_too_few_rows_name_the_counts_and_the_remedy() -> None:
    table = labeled_table(FILLERS)
    with pytest.raises(BadInputError, match=r"1 train and 1 validation rows.*50 and 10.*another as_of, more tickers"):
        split_snapshots(table, AS_OF, SplitConfig())


def test_a_split_without_k4_is_a_warning_not_an_error() -> None:
    _, manifest = split_snapshots(labeled_table(FILLERS), AS_OF, SMALL)
    assert any(w.startswith("train has no K4_EXCEPTIONAL row among 1") for w in manifest.warnings)
    assert any(w.startswith("test has no labelled row") for w in manifest.warnings)
    assert not any(w.startswith("validation") for w in manifest.warnings)


def test_bad_tables_are_refused_with_the_row_named() -> None:
    table = labeled_table(FILLERS)
    with pytest.raises(BadInputError, match=r"are duplicated, first FILL, 2012-01-02"):
        split_snapshots(pd.concat([table, table[:1]]), AS_OF, SMALL)
    early = table.copy()
    early.loc[0, "label_end_date"] = early.loc[0, "snapshot_date"]
    with pytest.raises(BadInputError, match=r"FILL\|2012-01-02 at 2012-01-20"):
        split_snapshots(early, AS_OF, SMALL)
    with pytest.raises(BadInputError, match="lack the columns label_end_date"):
        split_snapshots(table.drop(columns="label_end_date"), AS_OF, SMALL)
    with pytest.raises(BadInputError, match="no labelled snapshots"):
        split_snapshots(table[:0], AS_OF, SMALL)
    with pytest.raises(ConfigError, match="validation_months is 0"):
        split_snapshots(table, AS_OF, SplitConfig(validation_months=0))


def test_a_class_without_a_label_end_is_never_trained_on_and_is_reported() -> None:
    table = labeled_table([*FILLERS, ("X", "2012-05-01", "2012-06-01", None, 4)])
    split, manifest = split_snapshots(table, AS_OF, SMALL)
    assert split.loc[split["ticker"] == "X", "split"].item() == "excluded"
    assert any("1 rows have a class but no label_end_date" in w for w in manifest.warnings)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(
    table=labeled_tables(),
    as_of_day=st.integers(900, 2100),
    embargo=st.sampled_from([0, 7, 40]),
    validation_months=st.sampled_from([3, 18]),
    weighted=st.booleans(),
)
def test_no_random_table_makes_the_splitter_break_a_promise(
    table: pd.DataFrame, as_of_day: int, embargo: int, validation_months: int, weighted: bool
) -> None:
    config = dataclasses.replace(
        SMALL, embargo_days=embargo, validation_months=validation_months, weight_by_uniqueness=weighted
    )
    as_of = (pd.Timestamp("2012-01-02") + pd.Timedelta(days=as_of_day)).date()
    try:
        split, manifest = split_snapshots(table, as_of, config)
    except BadInputError:
        assume(False)
    assert verify_split(split, manifest, table) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(table=labeled_tables(), as_of_day=st.integers(900, 2100))
def test_labels_that_become_known_later_never_change_what_was_fitted(table: pd.DataFrame, as_of_day: int) -> None:
    """The table as it stood on the as-of date: later snapshots absent, labels not yet known erased."""
    as_of = pd.Timestamp("2012-01-02") + pd.Timedelta(days=as_of_day)
    then = table[table["snapshot_date"] <= as_of].reset_index(drop=True)
    unknown = ~(then["label_end_date"] <= as_of)
    then.loc[unknown, "label_end_date"] = pd.NaT
    then.loc[unknown, "outcome_class"] = pd.NA
    config = dataclasses.replace(SMALL, weight_by_uniqueness=True)
    try:
        full, manifest = split_snapshots(table, as_of, config)
    except BadInputError:
        assume(False)
    replayed, manifest_then = split_snapshots(then, as_of, config)
    assert manifest_then.fit_fingerprint == manifest.fit_fingerprint
    fitted = ["train", "validation"]
    pd.testing.assert_frame_equal(
        replayed[replayed["split"].isin(fitted)].reset_index(drop=True),
        full[full["split"].isin(fitted)].reset_index(drop=True),
    )
