"""Dates, tickers and numbers as vendors spell them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from k4_pipeline.market.bars import to_day
from k4_pipeline.market.parsing import AMBIGUOUS_DAY, NO_DAY, days, numbers, ticker_codes

DAY = to_day("2015-01-02")


def _days(values, source=None, **series) -> list[int]:
    column = values if isinstance(values, pd.Series) else pd.Series(values, **series)
    return days(column, pd.Series(source if source is not None else ["f"] * len(column))).tolist()


@pytest.mark.parametrize(
    "text",
    [
        "2015-01-02", "2015-1-2", "2015/01/02", "2015.01.02", "20150102", " 2015-01-02 ", "2015-01-02 00:00:00",
        "2015-01-02T23:59:59Z", "2015-01-02 00:00:00-05:00", "2015-01-02T00:00:00+09:00", "20150102 000000",
        "02.01.2015", "2.1.2015", "Jan 2, 2015", "2 January 2015", "02-Jan-2015", "Fri Jan 2 2015", '"2015-01-02"',
    ],
)  # fmt: skip
def test_every_usual_spelling_of_one_day_is_that_day(text):
    assert _days([text]) == [DAY]
    assert _days([text, dt.date(2015, 1, 2)], dtype=object) == [DAY, DAY]


@pytest.mark.parametrize("text", ["", "soon", "2015-13-01", "2015-02-30", "201512", "12:30", "2015"])
def test_what_is_no_date_is_not_guessed(text):
    assert _days([text]) == [NO_DAY]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "Pacific/Kiritimati", "UTC", "Asia/Kuala_Lumpur"])
def test_a_stamp_keeps_the_date_of_its_own_zone(zone):
    midnight, evening = pd.Timestamp("2015-01-02", tz=zone), pd.Timestamp("2015-01-02 23:30", tz=zone)
    assert _days(pd.Series([midnight, evening])) == [DAY, DAY]  # one column of one zone
    assert _days(pd.Series([midnight, "2015-01-02"], dtype=object)) == [DAY, DAY]
    assert _days(pd.Series([midnight]).astype(pd.ArrowDtype(pa.timestamp("us", tz=zone)))) == [DAY]


def test_an_instant_belongs_to_the_session_of_its_exchange_however_it_is_written():
    new_york, tokyo = (
        pd.Timestamp("2015-01-02 12:00", tz="America/New_York"),
        pd.Timestamp("2015-01-03 02:00", tz="Asia/Tokyo"),
    )
    assert new_york == tokyo
    assert _days(pd.Series([new_york, tokyo], dtype=object)) == [DAY, DAY]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([np.datetime64("2015-01-02"), np.datetime64("NaT")]),
        pd.Series(np.array(["2015-01-02T15:00", "NaT"], dtype="datetime64[ns]")),
        pd.Series([dt.date(2015, 1, 2), None], dtype=object),
        pd.Series([20150102.0, np.nan]),
        pd.Series([20150102, pd.NA], dtype="Int64"),
        pd.Series(["2015-01-02", None], dtype="str"),
        pd.Series(["2015-01-02", None], dtype="category"),
        pd.Series([dt.date(2015, 1, 2), None], dtype=pd.ArrowDtype(pa.date32())),
        pd.Series([20150102, dt.datetime(2015, 1, 2, tzinfo=dt.UTC), float("nan")], dtype=object).iloc[[0, 2]],
    ],
    ids=lambda c: str(c.dtype),
)
def test_every_dtype_of_dates_is_read_and_missing_ones_are_marked(column):
    assert _days(column) == [DAY, NO_DAY]


def test_seconds_and_milliseconds_since_1970_are_read():
    assert _days([1420156800]) == [DAY]
    assert _days([1420156800000]) == [DAY]


class TestDayOrMonthFirst:
    def test_a_file_decides_by_its_clear_rows(self):
        assert _days(["25/01/2015", "02/01/2015"]) == [DAY + 23, DAY]
        assert _days(["01/26/2015", "01/02/2015"]) == [DAY + 24, DAY]

    def test_each_file_decides_for_itself(self):
        values = ["25/01/2015", "02/01/2015", "01/26/2015", "01/02/2015"]
        assert _days(values, ["a", "a", "b", "b"]) == [DAY + 23, DAY, DAY + 24, DAY]

    def test_a_file_without_a_clear_row_follows_the_others_when_they_agree(self):
        assert _days(["25/01/2015", "02/01/2015"], ["a", "b"]) == [DAY + 23, DAY]

    def test_what_nothing_decides_stays_ambiguous(self):
        assert _days(["03/04/2015"]) == [AMBIGUOUS_DAY]
        assert _days(["25/01/2015", "01/26/2015", "03/04/2015"]) == [AMBIGUOUS_DAY] * 3  # a file has one order
        assert _days(["03/03/2015"]) == [to_day("2015-03-03")]


def test_tickers_are_stripped_and_numbered_in_ascending_order():
    codes, names = ticker_codes(pd.Series(["b", " a ", None, "b", 5, "5", "NA"], dtype=object))
    assert names.tolist() == ["", "5", "NA", "a", "b"]
    assert codes.tolist() == [4, 3, 0, 4, 1, 1, 2]
    assert ticker_codes(pd.Series(["b", "a", None], dtype="category"))[0].tolist() == [2, 1, 0]
    assert ticker_codes(pd.Series(["b", "a", None], dtype="str"))[1].tolist() == ["", "a", "b"]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1.5, np.nan]),
        pd.Series(np.array([1.5, np.nan], dtype=np.float32)),
        pd.Series(["1.5", "x"], dtype="str"),
        pd.Series(["1.5", None], dtype=object),
        pd.Series([Decimal("1.5"), None], dtype=object),
        pd.Series([1.5, None], dtype="Float64"),
        pd.Series([1.5, [2]], dtype=object),
        pd.Series([1.5, None], dtype=pd.ArrowDtype(pa.float32())),
        pd.Series(["1.5", None], dtype="category"),
    ],
    ids=lambda c: str(c.dtype),
)
def test_every_dtype_of_numbers_becomes_float64_and_the_rest_nan(column):
    found = numbers(column)
    assert found.dtype == np.float64
    assert found[0] == 1.5
    assert np.isnan(found[1])


def test_dates_and_truth_values_are_no_prices():
    assert np.isnan(numbers(pd.Series([True, False]))).all()
    assert np.isnan(numbers(pd.Series(pd.to_datetime(["2015-01-02"])))).all()
