"""Sessions, offsets and closing times."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import to_day
from k4_pipeline.market.calendar import exchange_of, has_closed, session_offset, sessions, sessions_between
from k4_pipeline.market.exchanges import EXCHANGE_OF_SUFFIX


@pytest.mark.parametrize(
    ("ticker", "exchange"),
    [
        ("AAPL", "XNYS"), ("BRK.B", "XNYS"), ("AAPL.US", "XNYS"), ("VOD.L", "XLON"), ("1155.KL", "XKLS"),
        ("BMW.DE", "XETR"), ("AIR.PA", "XPAR"), ("RY.TO", "XTSE"), ("0005.HK", "XHKG"), ("7203.T", "XTKS"),
        ("BHP.AX", "XASX"), ("vod.l", "XLON"), (".L", "XNYS"), ("", "XNYS"),
    ],
)  # fmt: skip
def test_the_suffix_names_the_exchange(ticker, exchange):
    assert exchange_of(ticker) == exchange


def test_the_default_exchange_is_the_callers():
    assert exchange_of("SAP", "XETR") == "XETR"


def test_every_exchange_of_a_suffix_is_one_the_library_lists():
    import exchange_calendars

    listed = set(exchange_calendars.get_calendar_names())
    assert set(EXCHANGE_OF_SUFFIX.values()) <= listed


def test_new_york_has_its_holidays_from_1990_on():
    days = sessions("XNYS", "1990-01-01", "1990-01-05")
    assert days.dtype == np.int32
    assert days.tolist() == [to_day(f"1990-01-0{d}") for d in (2, 3, 4, 5)]
    assert to_day("2012-10-29") not in sessions("XNYS", "2012-10-26", "2012-10-31")  # hurricane Sandy
    assert len(sessions("XNYS", "2014-01-01", "2014-12-31")) == 252
    assert len(sessions("XNYS", "2014-12-31", "2014-01-01")) == 0


def test_exchanges_differ():
    good_friday = to_day("2015-04-03")
    assert good_friday not in sessions("XNYS", good_friday, good_friday)
    assert good_friday in sessions("XTKS", good_friday, good_friday)


def test_before_the_first_known_year_and_far_ahead_weekdays_count():
    assert len(sessions("XTKS", "1990-01-01", "1990-01-07")) == 5
    assert len(sessions("XNYS", "2090-01-02", "2090-01-08")) == 5


def test_an_unknown_exchange_is_named():
    with pytest.raises(BadInputError, match="XXXX"):
        sessions("XXXX", "2015-01-01", "2015-02-01")


def test_an_offset_counts_sessions_strictly_after_the_day():
    friday, saturday, monday = (to_day(d) for d in ("2015-01-02", "2015-01-03", "2015-01-05"))
    assert session_offset("XNYS", np.array([friday, saturday]), 1).tolist() == [monday, monday]
    assert session_offset("XNYS", np.array([friday, friday]), np.array([1, 2])).tolist() == [monday, monday + 1]
    assert int(session_offset("XNYS", friday, 100)) == to_day("2015-05-28")
    assert session_offset("XNYS", np.array([friday]), 1).dtype == np.int32


@pytest.mark.parametrize("n", [0, -1, 10**7])
def test_an_offset_that_does_not_exist_is_refused(n):
    with pytest.raises(BadInputError, match="session of XNYS after"):
        session_offset("XNYS", to_day("2015-01-02"), n)


@given(st.integers(to_day("1985-01-01"), to_day("2040-01-01")), st.integers(1, 300))
def test_the_count_of_sessions_is_the_inverse_of_the_offset(day, n):
    later = int(session_offset("XNYS", day, n))
    assert int(sessions_between("XNYS", day, later)) == n
    assert int(sessions_between("XNYS", day, later - 1)) == n - 1
    assert int(sessions_between("XNYS", later, day)) == -n
    assert sessions("XNYS", day + 1, later).size == n


def _utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def test_a_session_is_over_at_its_own_closing_time():
    assert not has_closed("XNYS", "2024-07-03", _utc("2024-07-03T16:59"))
    assert has_closed("XNYS", "2024-07-03", _utc("2024-07-03T17:00"))  # an early close
    assert not has_closed("XNYS", "2024-07-05", _utc("2024-07-05T19:59"))
    assert has_closed("XTKS", "2024-07-05", _utc("2024-07-05T08:00"))


def test_a_day_without_session_is_over_when_its_date_is():
    assert not has_closed("XNYS", "2024-07-04", _utc("2024-07-05T03:00"))
    assert has_closed("XNYS", "2024-07-04", _utc("2024-07-05T04:00"))


def test_a_moment_without_zone_is_refused():
    with pytest.raises(BadInputError, match="no time zone"):
        has_closed("XNYS", "2024-07-04", dt.datetime(2024, 7, 4))


@pytest.mark.filterwarnings("ignore:the calendar of ASEX")
def test_a_calendar_the_library_cannot_build_falls_back_to_weekdays():
    assert len(sessions("ASEX", "2015-01-05", "2015-01-11")) == 5


def test_importing_the_calendar_does_not_import_the_library():
    code = "import sys, k4_pipeline.market.calendar; sys.exit('exchange_calendars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
