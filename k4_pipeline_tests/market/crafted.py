"""Small raw tables for the tests of market/: sane by default, one cell spoilt at a time."""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.market.sources.base import RAW_COLUMNS, RawBars


def raw_frame(ticker: str = "AAA", n: int = 30, start: str = "2015-01-05", price: float = 10.0) -> pd.DataFrame:
    """`n` sane weekday bars of one ticker, dates as datetime64[us]."""
    close = price * (1.0 + 0.01 * np.sin(np.arange(n)))
    frame = pd.DataFrame(
        {
            "ticker": pd.Series([ticker] * n, dtype="str"),
            "date": pd.bdate_range(start, periods=n).as_unit("us"),
            "open": close * 0.995,
            "high": close * 1.01,
            "low": close * 0.99,
            "close": close,
            "volume": np.arange(n) * 100.0,
            "source": "crafted",
        }
    )
    return frame[list(RAW_COLUMNS)]


def raw(*frames: pd.DataFrame) -> RawBars:
    return RawBars(pd.concat(frames, ignore_index=True))
