"""Sessions of an exchange as arrays of days: offsets, counts, and whether a session has closed.

The sessions come from exchange_calendars, from 1990 (or the first year it knows) to a year from today; before and after
that a session is any day of the exchange's usual week (Monday to Friday mostly), holidays unknown. Days are whole days
since 1970-01-01, int32, as in `Bars`. The library is imported on first use (half a second) and each calendar is built
once per process.
"""

from __future__ import annotations

import datetime as dt
import warnings
from functools import cache
from typing import Any

import numpy as np

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import DayLike, to_day
from k4_pipeline.market.exchanges import exchange_of

__all__ = ["exchange_of", "has_closed", "known_range", "session_offset", "sessions", "sessions_between"]

# The tables reach this far by plain weeks.
_TABLE_FIRST, _TABLE_LAST = np.datetime64("1900-01-01"), np.datetime64("2100-01-01")


@cache
def _library_calendar(exchange: str) -> tuple[Any, np.datetime64, np.datetime64] | None:
    """The calendar object with the first and last day it knows; None where the library fails to build one it lists."""
    import exchange_calendars  # half a second: not at import
    from exchange_calendars.errors import InvalidCalendarName

    try:
        start, end = dt.date(1990, 1, 1), dt.date.today() + dt.timedelta(days=365)
        try:
            built = exchange_calendars.get_calendar(exchange, start=start.isoformat(), end=end.isoformat())
        except ValueError:  # few exchanges are known for less; to build a calendar only to ask costs as much again
            plain = exchange_calendars.get_calendar(exchange)
            earliest, latest = plain.bound_min(), plain.bound_max()
            start = start if earliest is None else max(start, earliest.date())
            end = end if latest is None else min(end, latest.date())
            built = exchange_calendars.get_calendar(exchange, start=start.isoformat(), end=end.isoformat())
    except InvalidCalendarName as problem:
        raise BadInputError(
            f"exchange {exchange!r} has no calendar in exchange_calendars; use a market identifier such as XNYS or XLON"
        ) from problem
    except (NotImplementedError, ValueError) as problem:
        # With pandas 3.1 two of the library's calendars break: Athens' Easter rule and Tel Aviv's special closes.
        reason = str(problem)[:80]
        warnings.warn(f"the calendar of {exchange} cannot be built ({reason}): plain weeks are used", stacklevel=2)
        return None
    return built, np.datetime64(start, "D"), np.datetime64(end, "D")


@cache
def _table(exchange: str) -> np.ndarray:
    """All sessions from 1900 to 2099, int32 ascending; read-only."""
    known = _library_calendar(exchange)
    every = np.arange(_TABLE_FIRST, _TABLE_LAST)  # datetime64[D]
    if known is None:
        week = "1111001" if exchange == "XTAE" else "1111100"
        dates = every[np.is_busday(every, weekmask=week)]
    else:
        calendar, start, end = known
        weekdays = every[np.is_busday(every, weekmask=calendar.weekmask)]
        inside = calendar.sessions.to_numpy(dtype="datetime64[D]")
        dates = np.concatenate([weekdays[weekdays < start], inside, weekdays[weekdays > end]])
    days = dates.astype(np.int32)
    days.flags.writeable = False
    return days


def known_range(exchange: str) -> tuple[int, int] | None:
    """First and last day on which holidays are known, days since 1970-01-01; None when none are."""
    known = _library_calendar(exchange)
    return None if known is None else (to_day(known[1]), to_day(known[2]))


def sessions(exchange: str, first_day: DayLike, last_day: DayLike) -> np.ndarray:
    """Sessions from `first_day` to `last_day`, both included: int32 (n,) days since 1970-01-01, ascending."""
    table = _table(exchange)
    start, stop = np.searchsorted(table, to_day(first_day), "left"), np.searchsorted(table, to_day(last_day), "right")
    return table[start:stop]


def session_offset(exchange: str, days: np.ndarray | int, n: np.ndarray | int) -> np.ndarray:
    """The n-th session strictly after each day (n >= 1), int32, shape of `days` and `n` broadcast.

    `days` need not be sessions. Raises `BadInputError` beyond the year 2099.
    """
    table = _table(exchange)
    at = np.searchsorted(table, np.asarray(days), side="right") + np.asarray(n) - 1
    if np.any(np.asarray(n) < 1) or np.any(at >= len(table)):
        raise BadInputError(
            f"no {np.max(n)}-th session of {exchange} after the given days; n counts from 1, up to 2099"
        )
    return table[at]


def sessions_between(exchange: str, after: np.ndarray | int, until: np.ndarray | int) -> np.ndarray:
    """How many sessions d have after < d <= until, int64, broadcast; negative when `until` lies before `after`.

    So `sessions_between(x, day, session_offset(x, day, n)) == n`.
    """
    table = _table(exchange)
    return np.asarray(
        np.searchsorted(table, np.asarray(until), side="right")
        - np.searchsorted(table, np.asarray(after), side="right")
    )


def has_closed(exchange: str, day: DayLike, moment: dt.datetime) -> bool:
    """Whether the session of `day` is over at `moment` (time-zone-aware); off-session days end with the date itself."""
    if moment.tzinfo is None:
        raise BadInputError(f"the moment {moment} has no time zone; use datetime.now(UTC)")
    known = _library_calendar(exchange)
    date = dt.date(1970, 1, 1) + dt.timedelta(days=to_day(day))
    if known is None:
        return moment.astimezone(dt.UTC).date() > date
    calendar, start, end = known
    if start <= np.datetime64(date) <= end and calendar.is_session(date.isoformat()):
        return bool(moment >= calendar.session_close(date.isoformat()))
    return moment.astimezone(calendar.tz).date() > date
