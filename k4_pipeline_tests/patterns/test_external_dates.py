"""Dates of snapshot files: formats, zones, the order of day and month."""

from __future__ import annotations

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import Bars
from k4_pipeline_tests.patterns.snapshot_files import original_form, read
from k4_pipeline_tests.patterns.worlds import random_bars

MIXED = [
    "{:%Y-%m-%d}",
    "{:%Y/%m/%d}",
    "{:%Y%m%d}",
    "{:%Y-%m-%d} 00:00:00",
    "{:%Y-%m-%dT}00:00:00-05:00",
    "{:%Y-%m-%d} 00:00:00+00:00",
    "{:%Y-%m-%dT}21:00:00Z",
    "{:%Y-%m-%d} 16:00:00.000-0500",
    "{:%d.%m.%Y}",
    "{:%d %b %Y}",
    "{:%d-%b-%Y}",
    "{:%B %d, %Y}",
    "{:%d/%m/%Y}",
]


def test_mixed_date_formats_with_and_without_zones_all_give_the_day_that_was_meant(tmp_path, bars, labeled):
    frame = original_form(labeled).iloc[: 5 * len(MIXED)].copy()
    assert len(frame) == 5 * len(MIXED)
    want = read(tmp_path, frame, bars).snapshots
    for column, shift in (("start_date", 0), ("snapshot_date", 3)):
        days = pd.to_datetime(frame[column])
        frame[column] = [MIXED[(i + shift) % len(MIXED)].format(d) for i, d in enumerate(days)]
    assert_frame_equal(read(tmp_path, frame, bars).snapshots, want)


def test_typed_dates_in_parquet_are_read_in_the_zone_of_the_exchange(tmp_path, bars, labeled):
    frame = original_form(labeled)
    want = read(tmp_path, frame, bars).snapshots
    starts, snaps = pd.to_datetime(frame["start_date"]), pd.to_datetime(frame["snapshot_date"])
    local = frame.assign(
        start_date=starts.dt.tz_localize("America/New_York"), snapshot_date=snaps.dt.tz_localize("UTC")
    )
    assert_frame_equal(read(tmp_path, local, bars, "parquet").snapshots, want)
    instants = local.assign(
        start_date=local["start_date"].dt.tz_convert("UTC"),  # New York's midnight, 4 or 5 in the morning
        snapshot_date=(snaps + pd.Timedelta(hours=16)).dt.tz_localize("America/New_York").dt.tz_convert("Asia/Tokyo"),
    )
    assert_frame_equal(read(tmp_path, instants, bars, "parquet").snapshots, want)
    dates = frame.assign(start_date=starts.dt.date, snapshot_date=snaps)
    assert_frame_equal(read(tmp_path, dates, bars, "parquet").snapshots, want)


def test_a_midnight_in_kuala_lumpur_written_in_utc_is_the_local_session(tmp_path):
    frame = random_bars(30, n_tickers=1, n_bars=60, ragged=False).to_frame()
    bars = Bars.from_frame(frame.assign(ticker=pd.Series(["1155.KL"] * len(frame), dtype="str")))
    utc = frame["date"].dt.tz_localize("Asia/Kuala_Lumpur").dt.tz_convert("UTC").astype("str")
    found = read(
        tmp_path, pd.DataFrame({"ticker": ["1155.KL"], "start_date": [utc[30]], "snapshot_date": [utc[40]]}), bars
    )
    assert found.snapshots["snapshot_date"].tolist() == [frame["date"][40]]


def slashed(frame: pd.DataFrame, pattern: str) -> pd.DataFrame:
    return frame.assign(**{c: pd.to_datetime(frame[c]).dt.strftime(pattern) for c in ("start_date", "snapshot_date")})


def only_small_days(labeled: pd.DataFrame) -> pd.DataFrame:
    """Rows whose dates could be read both ways."""
    frame = original_form(labeled)
    small = (pd.to_datetime(frame["start_date"]).dt.day <= 12) & (pd.to_datetime(frame["snapshot_date"]).dt.day <= 12)
    return frame[small].reset_index(drop=True)


@pytest.mark.parametrize("pattern", ["%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y"])
def test_the_order_of_day_and_month_is_taken_from_the_rows_that_show_it(tmp_path, bars, labeled, pattern):
    frame = original_form(labeled)
    assert_frame_equal(
        read(tmp_path, slashed(frame, pattern), bars).snapshots, read(tmp_path, frame, bars).snapshots, check_exact=True
    )


def test_an_open_column_takes_the_order_of_the_other_one(tmp_path, bars, labeled):
    frame = original_form(labeled)
    days = pd.to_datetime(frame["start_date"]).dt.day, pd.to_datetime(frame["snapshot_date"]).dt.day
    chosen = frame[(days[0] <= 12) & (days[1] > 12)].reset_index(drop=True)
    assert len(chosen) > 3
    found = read(tmp_path, slashed(chosen, "%d/%m/%Y"), bars)
    assert_frame_equal(found.snapshots, read(tmp_path, chosen, bars).snapshots)


@pytest.mark.parametrize("pattern", ["%d/%m/%Y", "%m/%d/%Y"])
def test_where_no_row_shows_the_order_the_sessions_decide(tmp_path, bars, labeled, pattern):
    frame = only_small_days(labeled)
    assert len(frame) > 10
    found = read(tmp_path, slashed(frame, pattern), bars)
    assert_frame_equal(found.snapshots, read(tmp_path, frame, bars).snapshots)


def both_ways(tmp_path) -> tuple[Bars, pd.DataFrame]:
    bars = random_bars(30, n_tickers=1, n_bars=400, ragged=False)
    frame = pd.DataFrame({"ticker": ["T00"], "start_date": ["03/05/2010"], "snapshot_date": ["01/06/2011"]})
    return bars, frame  # 3 May or 5 March, 1 June or 6 January: sessions all of them


def test_a_file_that_nothing_decides_is_refused_and_the_setting_settles_it(tmp_path):
    bars, frame = both_ways(tmp_path)
    with pytest.raises(BadInputError, match=r"start_date does not tell day/month .* 03/05/2010 \(row 1\)"):
        read(tmp_path, frame, bars)
    day_first = read(tmp_path, frame, bars, day_first=True).snapshots
    assert day_first["start_date"].tolist() == [pd.Timestamp("2010-05-03")]
    assert day_first["snapshot_date"].tolist() == [pd.Timestamp("2011-06-01")]
    month_first = read(tmp_path, frame, bars, day_first=False).snapshots
    assert month_first["start_date"].tolist() == [pd.Timestamp("2010-03-05")]


def test_a_column_that_contradicts_itself_or_the_setting_is_refused_with_both_rows(tmp_path, bars, labeled):
    frame = original_form(labeled)
    late = frame[pd.to_datetime(frame["start_date"]).dt.day > 12].iloc[:2].copy()
    days = pd.to_datetime(late["start_date"])
    late["start_date"] = [f"{days.iloc[0]:%d/%m/%Y}", f"{days.iloc[1]:%m/%d/%Y}"]
    with pytest.raises(BadInputError, match=r"day first \(row 1: .*month first \(row 2: "):
        read(tmp_path, late, bars)
    late["start_date"] = [f"{d:%d/%m/%Y}" for d in days]
    with pytest.raises(BadInputError, match="contradict day_first=False"):
        read(tmp_path, late, bars, day_first=False)
