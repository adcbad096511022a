"""What a chart of a pattern shows: its bars with box, power line and stop, before and after the snapshot."""

from __future__ import annotations

from typing import Any

import numpy as np

from k4_pipeline.config import LabelConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import Bars, DayLike, to_dates, to_day


def pattern_chart(
    bars: Bars, pattern: dict[str, Any], labels: LabelConfig, *, before: int = 40, after: int | None = None
) -> dict[str, Any]:
    """Dates and prices around one pattern, JSON-able.

    `pattern`: ticker, start_date, snapshot_date, upper, lower, power. `before` bars ahead of the start, `after` bars
    behind the snapshot (the label's horizon by default; they were not known then). Raises `BadInputError` when the
    ticker has no bar at the snapshot.
    """
    ticker = str(pattern["ticker"])
    day = to_day(pattern["snapshot_date"])
    if ticker not in set(bars.tickers):
        raise BadInputError(f"there are no bars of {ticker}")
    rows = bars.ticker_slice(ticker)
    date = bars.date[rows]
    at = int(np.searchsorted(date, day))
    if at == len(date) or date[at] != day:
        raise BadInputError(f"{ticker} has no bar on {to_dates(np.array([day]))[0]!s:.10}")
    start = int(np.searchsorted(date, to_day(pattern["start_date"])))
    first = max(start - before, 0)
    last = min(at + 1 + (labels.horizon_bars if after is None else after), len(date))
    part = slice(rows.start + first, rows.start + last)
    return {
        "ticker": ticker,
        "dates": [str(d)[:10] for d in to_dates(bars.date[part])],
        **{name: [float(f"{v:.6g}") for v in getattr(bars, name)[part]] for name in ("open", "high", "low", "close")},
        "start": _iso(pattern["start_date"]),
        "snapshot": _iso(pattern["snapshot_date"]),
        **{name: float(pattern[name]) for name in ("upper", "lower", "power")},
        "stop": float(pattern["lower"]) * (1.0 - labels.stop_loss),
    }


def _iso(day: DayLike) -> str:
    return str(to_dates(np.array([to_day(day)]))[0])[:10]
