"""Dates of files made elsewhere: many spellings in, whole days out, and nothing swapped in silence.

One written date is read as a file of bars has it read (`market/dialect/dates.py`). Whether a column writes day/month or
month/day is decided once for the whole column, never row by row; where the file does not tell, reading stops with an
error.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.dialect.dates import Written, in_one_language, read_date
from k4_pipeline.market.instants import sessions_of

NO_DAY = np.int32(-(2**31))
MISSING_TEXT = frozenset({"", "nan", "nat", "none", "null", "<na>", "na", "n/a"})
_CAUSES = {
    "": "does not exist",
    "year of two digits": "has a year of two digits; write it with four",
    "not understood": "is not understood; write it as YYYY-MM-DD",
    "time": "has a time that does not exist",
}


@dataclass
class _Column:
    """One column while it is being read: written dates, and the numeric ones that still need an order."""

    day: np.ndarray  # (n,) int32
    problem: np.ndarray  # (n,) object
    numeric: dict[int, tuple[str, Written]] = field(default_factory=dict)  # row -> text and its readings
    order: bool | None = None  # True: day first


@dataclass(frozen=True, eq=False)
class ParsedDates:
    """`day` int32 (n,) since 1970-01-01, `NO_DAY` where there is none; `problem` object (n,), "" where all is well.

    A missing value has `NO_DAY` and no problem: whether it may be missing is for the caller to say.
    """

    day: np.ndarray
    problem: np.ndarray


def _session(day: int, written: Written, zone: ZoneInfo | None) -> int:
    """The session of a written date; of an instant, its date in the zone of the exchange."""
    if day == NO_DAY or written.offset is None or zone is None:
        return day
    return int(sessions_of(np.array([day * 86_400 + written.wall - written.offset * 60]), zone)[0])


def _timestamp_day(value: dt.datetime, zone: ZoneInfo | None) -> int:
    if value.tzinfo is not None and zone is not None and value.time() != dt.time(0):
        value = value.astimezone(zone)
    return (value.date() - dt.date(1970, 1, 1)).days


def _as_sent(value: object) -> object:
    """None where missing; dates as they are; anything else as text."""
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, dt.date):
        return value
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    return None if text.lower() in MISSING_TEXT else text


def _read_column(values: list[object], zone_of_row: Callable[[int], ZoneInfo | None]) -> _Column:
    """Every value as a day, a problem, or a numeric date that waits for the column's order."""
    n = len(values)
    column = _Column(np.full(n, NO_DAY, dtype=np.int32), np.full(n, "", dtype=object))
    sent = [_as_sent(value) for value in values]
    texts = sorted({value for value in sent if isinstance(value, str)})
    in_words = dict(zip(texts, in_one_language(texts)))
    serials: list[int] = []
    for row, value in enumerate(sent):
        if isinstance(value, dt.datetime):
            column.day[row] = _timestamp_day(value, zone_of_row(row))
        elif isinstance(value, dt.date):
            column.day[row] = (value - dt.date(1970, 1, 1)).days
        elif isinstance(value, str):
            written = read_date(in_words[value])
            if written.serial:
                serials.append(row)
            if written.numeric:
                column.numeric[row] = value, written
            elif written.first == NO_DAY:
                column.problem[row] = f"date {value!r} {_CAUSES[written.cause]}"
            else:
                column.day[row] = _session(written.first, written, zone_of_row(row))
    if serials and column.numeric:
        for row in (*serials, *column.numeric):
            column.problem[row] = f"date {sent[row]!r}: a spreadsheet rewrote others; day and month may be swapped"
        column.day[serials] = NO_DAY
        column.numeric.clear()
    return column


def _own_order(name: str, column: _Column) -> bool | None:
    """Day first (True), month first (False) or not decided (None) by the column's own values."""
    day_first = next((r for r, (_, w) in column.numeric.items() if w.second == NO_DAY != w.first), None)
    month_first = next((r for r, (_, w) in column.numeric.items() if w.first == NO_DAY != w.second), None)
    if day_first is not None and month_first is not None:
        raise BadInputError(
            f"column {name} writes some dates day first (row {day_first + 1}: {column.numeric[day_first][0]}) and some "
            f"month first (row {month_first + 1}: {column.numeric[month_first][0]}); the others cannot be told apart. "
            "Write the dates as YYYY-MM-DD"
        )
    return None if day_first is None and month_first is None else day_first is not None


def _days(column: _Column, order: bool, zone_of_row: Callable[[int], ZoneInfo | None]) -> dict[int, int]:
    """The numeric dates of a column read in one order; rows whose date does not exist are left out."""
    days = {r: _session(w.first if order else w.second, w, zone_of_row(r)) for r, (_, w) in column.numeric.items()}
    return {row: day for row, day in days.items() if day != NO_DAY}


def _decide(
    name: str,
    columns: Mapping[str, _Column],
    zone_of_row: Callable[[int], ZoneInfo | None],
    is_session: Callable[[int, int], bool] | None,
) -> bool:
    """The order of a column whose own values leave it open: the file's other columns, the sessions, or an error."""
    column = columns[name]
    borrowed = {c.order for c in columns.values() if c.order is not None}
    if len(borrowed) == 1:
        return borrowed.pop()
    if all(w.first == w.second for _, w in column.numeric.values()):
        return True
    if is_session is not None:
        fits = [
            len(days := _days(column, order, zone_of_row)) == len(column.numeric)
            and all(is_session(row, day) for row, day in days.items())
            for order in (True, False)
        ]
        if fits[0] != fits[1]:
            return fits[0]
    row, (text, _) = next(item for item in column.numeric.items() if item[1][1].first != item[1][1].second)
    raise BadInputError(
        f"column {name} does not tell day/month from month/day: {len(column.numeric)} dates like {text} "
        f"(row {row + 1}) and none with a number above 12. Write them as YYYY-MM-DD, or state the order (day_first)"
    )


def parse_date_columns(
    columns: Mapping[str, pd.Series],
    *,
    day_first: bool | None = None,
    zone_of_row: Callable[[int], ZoneInfo | None] = lambda row: None,
    is_session: Callable[[int, int], bool] | None = None,
) -> dict[str, ParsedDates]:
    """Read the date columns of one file, each (n,) values as sent.

    The order of numeric dates is taken, for a whole column, from the first of these that tells: `day_first`; a number
    above 12 in the column; the other columns of the file; `is_session(row, day)`, when all dates of the column are
    sessions in one order and not all in the other. `zone_of_row(row)` is the time zone of the row's exchange. Raises
    `BadInputError` when a column contradicts itself or `day_first`, or when nothing tells; a single unreadable value is
    a problem of its row.
    """
    read = {name: _read_column(values.tolist(), zone_of_row) for name, values in columns.items()}
    for name, column in read.items():
        column.order = _own_order(name, column)
        if day_first is not None and column.order not in (None, day_first):
            raise BadInputError(
                f"column {name} holds dates that contradict day_first={day_first}; correct the setting or leave it out"
            )
    orders = {
        name: day_first
        if day_first is not None
        else column.order
        if column.order is not None
        else _decide(name, read, zone_of_row, is_session)
        for name, column in read.items()
        if column.numeric
    }
    for name, order in orders.items():
        column = read[name]
        days = _days(column, order, zone_of_row)
        for row, (text, _) in column.numeric.items():
            if row in days:
                column.day[row] = days[row]
            else:
                column.problem[row] = f"date {text!r} does not exist ({'day' if order else 'month'} first)"
    return {name: ParsedDates(column.day, column.problem) for name, column in read.items()}
