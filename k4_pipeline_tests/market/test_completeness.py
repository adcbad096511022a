"""Completeness against the calendar: counts worked out by hand on small cases, then the real bars."""

from __future__ import annotations

import datetime as dt

import pandas as pd

from k4_pipeline.config import CleaningConfig
from k4_pipeline.market.bars import Bars
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.completeness import absent_on_the_last_day, completeness
from k4_pipeline.market.sources.table import read_table


def _bars(dates: dict[str, list[str]]) -> Bars:
    rows = [(ticker, pd.Timestamp(d), 10.0) for ticker, days in sorted(dates.items()) for d in days]
    frame = pd.DataFrame(rows, columns=["ticker", "date", "close"])
    frame["date"] = frame["date"].astype("datetime64[us]")
    for column in ("open", "high", "low"):
        frame[column] = frame["close"]
    return Bars.from_frame(frame.assign(volume=0.0))


def _weekdays(first: str, last: str, without: tuple[str, ...] = ()) -> list[str]:
    return [f"{d:%Y-%m-%d}" for d in pd.bdate_range(first, last) if f"{d:%Y-%m-%d}" not in without]


def test_holidays_are_not_missing_and_gaps_are_counted_in_sessions():
    # January 2015 in New York: the 1st and the 19th are holidays.
    full = _weekdays("2015-01-02", "2015-01-30", without=("2015-01-19",))
    gap = [d for d in full if d not in ("2015-01-08", "2015-01-20", "2015-01-21", "2015-01-22")]
    table = completeness(_bars({"AAA": full, "BBB": gap, "CCC": full[:-3]}), CleaningConfig()).set_index("ticker")
    assert table.loc["AAA", ["expected_sessions", "missing_sessions", "longest_gap_sessions"]].tolist() == [20, 0, 0]
    assert pd.isna(table.loc["AAA", "gap_after"])
    assert table.loc["BBB", ["expected_sessions", "missing_sessions", "longest_gap_sessions"]].tolist() == [20, 4, 3]
    assert table.loc["BBB", "gap_after"] == pd.Timestamp("2015-01-16")
    assert table.loc["BBB", "completeness"] == 0.8
    assert table["sessions_behind"].tolist() == [0, 0, 3]
    assert table["zero_volume_bars"].tolist() == [20, 16, 17]
    assert table["stale_bars"].tolist() == [20, 0, 0]


def test_bars_moved_by_a_day_show_as_off_session():
    moved = [f"{d - pd.Timedelta(days=1):%Y-%m-%d}" for d in pd.bdate_range("2015-02-02", "2015-02-13")]
    row = completeness(_bars({"AAA": moved}), CleaningConfig()).iloc[0]
    assert row["off_session_bars"] == 2  # the two Sundays
    assert row["bars"] == 10
    assert row["missing_sessions"] == 1  # the Friday between them
    assert row["longest_gap_sessions"] == 1
    assert row["gap_after"] == pd.Timestamp("2015-02-05")


def test_each_ticker_is_held_against_its_own_exchange():
    days = _weekdays("2015-04-27", "2015-05-08")  # 2015-05-04: London's early May holiday
    table = completeness(_bars({"AAA": days, "VOD.L": days}), CleaningConfig()).set_index("ticker")
    assert table["exchange"].to_dict() == {"AAA": "XNYS", "VOD.L": "XLON"}
    assert table.loc["AAA", "off_session_bars"] == 0
    assert table.loc["VOD.L", ["off_session_bars", "missing_sessions", "expected_sessions"]].tolist() == [1, 0, 9]


def test_a_single_bar_is_complete():
    row = completeness(_bars({"AAA": ["2015-01-02"]}), CleaningConfig()).iloc[0]
    assert (row["expected_sessions"], row["completeness"]) == (1, 1.0)


def test_a_ticker_with_no_session_at_all_is_reported_and_does_not_fail():
    row = completeness(_bars({"AAA": ["2015-01-03"]}), CleaningConfig()).iloc[0]
    assert (row["expected_sessions"], row["off_session_bars"]) == (0, 1)


def test_the_real_bars_lie_on_sessions_of_new_york(real_data_dir):
    sent = read_table(real_data_dir / "us_daily_bars_small.parquet")
    bars = clean_bars(sent, CleaningConfig(), today=dt.date(2020, 1, 1)).bars
    table = completeness(bars, CleaningConfig())
    assert len(table) == bars.n_tickers
    assert table["bars"].sum() == len(bars)
    assert table["off_session_bars"].sum() == 0
    assert (table["missing_sessions"] == table["expected_sessions"] - table["bars"]).all()
    assert table["completeness"].between(0.0, 1.0).all()
    assert table["completeness"].median() > 0.99


def test_who_has_no_bar_of_the_newest_session():
    # 2015-01-26 was a session in New York and a holiday in Sydney (.AX).
    days = _weekdays("2015-01-20", "2015-01-26")
    bars = _bars({"A": days, "LATE": days[:-1], "GONE": days[:-2], "NEW": days[-1:], "CBA.AX": days[:-1]})
    assert absent_on_the_last_day(bars, CleaningConfig()) == (["LATE"], 2)
    assert absent_on_the_last_day(_bars({"A": days[:1]}), CleaningConfig()) == ([], 0)
