"""`daily_bars`: the cleaned OHLCV table, one row per (ticker, date)."""

from __future__ import annotations

import pandas as pd
import pandera.pandas as pa

from k4_pipeline.config import CleaningConfig
from k4_pipeline.schemas.base import date, number, row_rule, table_schema, text


def daily_bars_schema(range_tolerance: float = CleaningConfig.range_tolerance) -> pa.DataFrameSchema:
    """The schema for bars cleaned with this tolerance (share by which open and close may leave [low, high])."""

    def inside(column: str) -> pa.Check:
        def holds(frame: pd.DataFrame) -> pd.Series:
            low, high = frame["low"] * (1.0 - range_tolerance), frame["high"] * (1.0 + range_tolerance)
            return (frame[column] >= low) & (frame[column] <= high)

        return row_rule(f"{column}_lies_in_the_range_of_the_bar", holds)

    return table_schema(
        "daily_bars",
        {
            "ticker": text("exchange ticker, with its suffix when the vendor uses one"),
            "date": date("session of the bar, in the exchange's own calendar"),
            "open": number("first price of the session", gt=0.0),
            "high": number("highest price", gt=0.0),
            "low": number("lowest price", gt=0.0),
            "close": number("last price", gt=0.0),
            "volume": number("shares traded; 0 is sane", ge=0.0),
        },
        key=("ticker", "date"),
        checks=(
            row_rule("high_is_at_least_low", lambda frame: frame["high"] >= frame["low"]),
            inside("open"),
            inside("close"),
        ),
        description="Cleaned daily bars. Nothing is repaired: a row is as the source sent it, or it is in `rejects`.",
    )


DAILY_BARS = daily_bars_schema()
