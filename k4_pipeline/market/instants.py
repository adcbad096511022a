"""The one rule from a stamp to its session, for bars and snapshot files alike.

A date alone, a time without a zone, and midnight in whatever zone mean the date as written: people store sessions like
that. Any other time with a zone is an instant; its session is the date in the zone of the exchange.
"""

from __future__ import annotations

from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd


@cache
def exchange_zone(exchange: str) -> ZoneInfo | None:
    """The time zone of an exchange; None where the library of calendars cannot tell."""
    import exchange_calendars  # half a second: not at import

    try:
        return ZoneInfo(str(exchange_calendars.get_calendar(exchange).tz))
    except (exchange_calendars.errors.InvalidCalendarName, NotImplementedError, ValueError, ZoneInfoNotFoundError):
        return None


def sessions_of(utc_seconds: np.ndarray, zone: ZoneInfo) -> np.ndarray:
    """Dates of instants in a zone: int32 (n,) days since 1970-01-01."""
    local = pd.DatetimeIndex(utc_seconds.astype("datetime64[s]"), tz="UTC").tz_convert(zone).tz_localize(None)
    return local.to_numpy().astype("datetime64[D]").astype(np.int32)
