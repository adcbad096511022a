"""Versions of one history: nothing is overwritten, every change is listed."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from k4_pipeline.market.revisions import (
    LOG_COLUMNS,
    as_known,
    compare_history,
    record_versions,
    revision_log,
)
from k4_pipeline_tests.market.crafted import raw_frame

T1, T2, T3 = (dt.datetime(2015, 3, day, 22, 0, tzinfo=dt.UTC) for day in (2, 3, 4))


def _bars(n: int = 10) -> pd.DataFrame:
    return raw_frame(n=n).drop(columns="source")


def test_new_dates_are_added_and_equal_ones_are_not_repeated():
    versions = record_versions(record_versions(None, _bars(10), T1), _bars(12), T2)
    assert len(versions) == 12
    assert versions["ingested_at"].value_counts().tolist() == [10, 2]


def test_a_change_keeps_both_versions_and_is_listed():
    changed = _bars(10)
    changed.loc[4, "close"] *= 1.01
    changed.loc[7, "volume"] = 5.0
    versions = record_versions(record_versions(None, _bars(10), T1), changed, T2)
    assert len(versions) == 12
    report = compare_history(as_known(versions, T1), as_known(versions))["changed"]
    assert report["column"].tolist() == ["close", "volume"]
    assert report["date"].tolist() == [changed.loc[4, "date"], changed.loc[7, "date"]]
    assert report["old"].tolist() == [_bars().loc[4, "close"], _bars().loc[7, "volume"]]
    assert report["new"].tolist() == [changed.loc[4, "close"], 5.0]


def test_the_history_as_known_at_a_moment_does_not_change_later():
    first, second = _bars(10), _bars(11).assign(close=lambda f: f["close"] * 2.0)
    versions = record_versions(record_versions(None, first, T1), second, T2)
    pd.testing.assert_frame_equal(as_known(versions, T1), first)
    pd.testing.assert_frame_equal(as_known(versions, T2), second)
    pd.testing.assert_frame_equal(as_known(versions), second)
    assert len(as_known(versions, T1 - dt.timedelta(seconds=1))) == 0


def test_a_value_that_returns_to_what_it_was_is_a_change_again():
    other = _bars().assign(close=lambda f: f["close"] * 1.01)
    versions = record_versions(record_versions(record_versions(None, _bars(), T1), other, T2), _bars(), T3)
    assert len(versions) == 30
    pd.testing.assert_frame_equal(as_known(versions), _bars())


def test_rounding_noise_of_the_vendor_is_no_revision():
    noisy = _bars().assign(close=lambda f: f["close"] * (1 + 1e-8))
    assert len(record_versions(record_versions(None, _bars(), T1), noisy, T2)) == 10


def test_the_moment_is_stored_in_utc():
    new_york = dt.timezone(dt.timedelta(hours=-5))
    versions = record_versions(None, _bars(1), dt.datetime(2015, 3, 2, 17, 0, tzinfo=new_york))
    assert versions["ingested_at"].tolist() == [pd.Timestamp("2015-03-02 22:00")]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=1, max_size=6), min_size=1, max_size=5))
def test_every_state_that_was_ever_sent_can_be_read_back(histories):
    versions, moments, expected = None, [], []
    known: dict[int, float] = {}
    for i, closes in enumerate(histories):
        moment = T1 + dt.timedelta(days=i)
        sent = _bars(len(closes)).assign(close=closes)
        versions = record_versions(versions, sent, moment)
        known |= dict(enumerate(closes))
        moments.append(moment)
        expected.append([known[k] for k in sorted(known)])
    for moment, closes in zip(moments, expected, strict=True):
        assert as_known(versions, moment)["close"].tolist() == closes


def test_two_cleaned_tables_are_compared_over_the_dates_of_the_old_one():
    old = (
        pd.concat([_bars(10), _bars(10).assign(ticker="BBB")], ignore_index=True)
        .drop(index=[13])
        .reset_index(drop=True)
    )
    new = pd.concat([_bars(12), _bars(10).assign(ticker="BBB"), _bars(5).assign(ticker="CCC")], ignore_index=True)
    new.loc[2, "high"] = 11.0
    new = new.drop(index=[5]).reset_index(drop=True)
    found = compare_history(old, new)
    assert found["changed"][["ticker", "date", "column", "new"]].values.tolist() == [
        ["AAA", _bars().loc[2, "date"], "high", 11.0]
    ]
    assert found["removed"].values.tolist() == [["AAA", _bars().loc[5, "date"]]]
    assert found["inserted"].values.tolist() == [["BBB", _bars().loc[3, "date"]]]


def test_equal_tables_have_no_differences():
    assert all(len(table) == 0 for table in compare_history(_bars(), _bars()).values())


def test_a_table_with_a_repeated_key_is_refused():
    with pytest.raises(pd.errors.MergeError):
        compare_history(pd.concat([_bars(), _bars()]), _bars())


def test_the_revision_log_keeps_both_values_of_every_change_and_grows_over_time():
    def bars(close: float, days: list[str]) -> pd.DataFrame:
        frame = pd.DataFrame({"ticker": "A", "date": pd.to_datetime(days).astype("datetime64[us]")})
        return frame.assign(open=1.0, high=9.0, low=1.0, close=close, volume=5.0)

    first, second = dt.datetime(2024, 1, 9, tzinfo=dt.UTC), dt.datetime(2024, 2, 9, tzinfo=dt.UTC)
    none = revision_log(None, None, bars(2.0, ["2024-01-02"]), first)
    assert len(none) == 0
    assert list(none.columns) == list(LOG_COLUMNS)
    same = revision_log(none, bars(2.0, ["2024-01-02"]), bars(2.0, ["2024-01-02", "2024-01-03"]), first)
    assert len(same) == 0
    changed = revision_log(same, bars(2.0, ["2024-01-02", "2024-01-03"]), bars(4.0, ["2024-01-02"]), first)
    assert changed[["kind", "column", "old", "new", "ratio"]].iloc[0].tolist() == ["changed", "close", 2.0, 4.0, 2.0]
    assert changed["kind"].tolist() == ["changed", "removed"]
    again = revision_log(changed, bars(4.0, ["2024-01-02"]), bars(5.0, ["2024-01-02"]), second, first)
    assert len(again) == 3
    assert again["known_from"].tolist() == [pd.NaT, pd.NaT, pd.Timestamp("2024-01-09")]
    assert again["revised_at"].is_monotonic_increasing
    assert again.dtypes.equals(none.dtypes)
