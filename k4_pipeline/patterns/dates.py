"""Dates of files made elsewhere: many spellings in, whole days out, and nothing swapped in silence.

Understood: ISO (2015-03-02, 2015/3/2, with or without time and zone), 20150302, month names (2 Mar 2015, Mar 2, 2015),
02.03.2015 (day first, as everywhere where dots are used), and day/month/year or month/day/year. Which of the last two
a column uses is decided once for the whole column, never row by row; where the file does not tell, reading stops with
an error. Two-digit years are refused.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from k4_pipeline.errors import BadInputError

NO_DAY = np.int32(-(2**31))
MISSING_TEXT = frozenset({"", "nan", "nat", "none", "null", "<na>", "na", "n/a"})

_TAIL = r"(?:[T ]\s*(?P<time>\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?))?\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2})?$"
_ISO = re.compile(r"^(\d{4})([-/.])(\d{1,2})\2(\d{1,2})" + _TAIL, re.IGNORECASE)
_COMPACT = re.compile(r"^(\d{4})(\d{2})(\d{2})(?:\.0)?$")
_NUMERIC = re.compile(r"^(\d{1,2})([-/.])(\d{1,2})\2(\d{4})" + _TAIL, re.IGNORECASE)
_SHORT_YEAR = re.compile(r"^\d{1,2}[-/.]\d{1,2}[-/.]\d{2}(\D|$)")
_NAMED = re.compile(
    r"^(?:(?P<d1>\d{1,2})[-/. ]+(?P<m1>[A-Za-z]{3,9})|(?P<m2>[A-Za-z]{3,9})[-/. ]+(?P<d2>\d{1,2}))"
    r"(?:st|nd|rd|th)?[-/., ]+(?P<y>\d{4})" + _TAIL,
    re.IGNORECASE,
)
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@dataclass
class _Column:
    """One column while it is being read: written dates, and the numeric ones that still need an order."""

    day: np.ndarray  # (n,) int32
    problem: np.ndarray  # (n,) object
    numeric: dict[int, tuple[int, int, int, str]] = field(default_factory=dict)  # row -> first, second, year, tail
    order: bool | None = None  # True: day first


@dataclass(frozen=True, eq=False)
class ParsedDates:
    """`day` int32 (n,) since 1970-01-01, `NO_DAY` where there is none; `problem` object (n,), "" where all is well.

    A missing value has `NO_DAY` and no problem: whether it may be missing is for the caller to say.
    """

    day: np.ndarray
    problem: np.ndarray


def _session_day(year: int, month: int, day: int, time: str, zone: str, exchange_zone: ZoneInfo | None) -> int:
    """The session a written instant belongs to, in days since 1970-01-01.

    A date alone, a time without a zone, and midnight in whatever zone mean the date as written: people store sessions
    like that. Another time with a zone is an instant: its date in the exchange's own zone (2015-03-01 16:00Z is the
    session of 2 March in Kuala Lumpur).
    """
    written = dt.date(year, month, day)
    parts = [float(p.replace(",", ".")) for p in time.split(":")] if time else []
    if not zone or not any(parts) or exchange_zone is None:
        return (written - dt.date(1970, 1, 1)).days
    if zone.upper() in ("Z", "UTC", "GMT"):
        offset = dt.timedelta(0)
    else:
        sign = -1 if zone[0] == "-" else 1
        digits = zone[1:].replace(":", "").ljust(4, "0")
        offset = sign * dt.timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]))
    seconds = parts[0] * 3600 + parts[1] * 60 + (parts[2] if len(parts) > 2 else 0.0)
    instant = dt.datetime(year, month, day, tzinfo=dt.timezone(offset)) + dt.timedelta(seconds=seconds)
    return (instant.astimezone(exchange_zone).date() - dt.date(1970, 1, 1)).days


def _timestamp_day(value: dt.datetime, zone: ZoneInfo | None) -> int:
    if value.tzinfo is not None and zone is not None and value.time() != dt.time(0):
        value = value.astimezone(zone)
    return (value.date() - dt.date(1970, 1, 1)).days


def _read_value(column: _Column, row: int, value: object, zone_of_row: Callable[[int], ZoneInfo | None]) -> None:
    """Put one value as sent into `column`: a day, a problem, or a numeric date that waits for the column's order."""
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, dt.datetime):
        column.day[row] = _timestamp_day(value, zone_of_row(row))
        return
    if isinstance(value, dt.date):
        column.day[row] = (value - dt.date(1970, 1, 1)).days
        return
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    if text.lower() in MISSING_TEXT:
        return
    try:
        if m := _ISO.match(text):
            ymd = int(m[1]), int(m[3]), int(m[4])
            column.day[row] = _session_day(*ymd, m["time"] or "", m["zone"] or "", zone_of_row(row))
        elif m := _COMPACT.match(text):
            column.day[row] = _session_day(int(m[1]), int(m[2]), int(m[3]), "", "", None)
        elif (m := _NUMERIC.match(text)) and m[2] == ".":
            ymd = int(m[4]), int(m[3]), int(m[1])
            column.day[row] = _session_day(*ymd, m["time"] or "", m["zone"] or "", zone_of_row(row))
        elif m:
            column.numeric[row] = int(m[1]), int(m[3]), int(m[4]), f"{m['time'] or ''}|{m['zone'] or ''}"
        elif (m := _NAMED.match(text)) and (m["m1"] or m["m2"]).lower()[:3] in _MONTH_NAMES:
            day, month = int(m["d1"] or m["d2"]), _MONTH_NAMES.index((m["m1"] or m["m2"]).lower()[:3]) + 1
            column.day[row] = _session_day(int(m["y"]), month, day, m["time"] or "", m["zone"] or "", zone_of_row(row))
        elif _SHORT_YEAR.match(text):
            column.problem[row] = f"date {text!r} has a year of two digits; write it with four"
        else:
            column.problem[row] = f"date {text!r} is not understood; write it as YYYY-MM-DD"
    except ValueError as error:
        column.problem[row] = f"date {text!r} does not exist ({error})"


def _own_order(name: str, column: _Column) -> bool | None:
    """Day first (True), month first (False) or not decided (None) by the column's own values."""
    day_first = next((r for r, (a, b, *_) in column.numeric.items() if a > 12 >= b), None)
    month_first = next((r for r, (a, b, *_) in column.numeric.items() if b > 12 >= a), None)
    if day_first is not None and month_first is not None:
        a, b, year, _ = column.numeric[day_first]
        c, d, other, _ = column.numeric[month_first]
        raise BadInputError(
            f"column {name} writes some dates day first (row {day_first + 1}: {a}/{b}/{year}) and some month first "
            f"(row {month_first + 1}: {c}/{d}/{other}); the others cannot be told apart. Write the dates as YYYY-MM-DD"
        )
    return None if day_first is None and month_first is None else day_first is not None


def _days(column: _Column, order: bool, zone_of_row: Callable[[int], ZoneInfo | None]) -> dict[int, int]:
    """The numeric dates of a column read in one order; rows whose date does not exist are left out."""
    out = {}
    for row, (a, b, year, tail) in column.numeric.items():
        time, zone = tail.split("|")
        try:
            out[row] = _session_day(year, *((b, a) if order else (a, b)), time, zone, zone_of_row(row))
        except ValueError:
            continue
    return out


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
    if all(a == b for a, b, *_ in column.numeric.values()):
        return True
    if is_session is not None:
        fits = [
            len(days := _days(column, order, zone_of_row)) == len(column.numeric)
            and all(is_session(row, day) for row, day in days.items())
            for order in (True, False)
        ]
        if fits[0] != fits[1]:
            return fits[0]
    row, (a, b, year, _) = next(item for item in column.numeric.items() if item[1][0] != item[1][1])
    raise BadInputError(
        f"column {name} does not tell day/month from month/day: {len(column.numeric)} dates like {a}/{b}/{year} "
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
    read: dict[str, _Column] = {}
    for name, values in columns.items():
        n = len(values)
        column = read[name] = _Column(np.full(n, NO_DAY, dtype=np.int32), np.full(n, "", dtype=object))
        for row, value in enumerate(values.tolist()):
            _read_value(column, row, value, zone_of_row)
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
        for row, (a, b, year, _) in column.numeric.items():
            if row in days:
                column.day[row] = days[row]
            else:
                column.problem[row] = f"date '{a}/{b}/{year}' does not exist ({'day' if order else 'month'} first)"
    return {name: ParsedDates(column.day, column.problem) for name, column in read.items()}
