"""What stands beside the bars of a file: their period, currency and exchange. They tell rows of another series."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from k4_pipeline.market.files.columns import ticker_column
from k4_pipeline.market.files.table import OTHER_CURRENCY, OTHER_PERIOD, FileBars

_DAILY = {"d", "1d", "d1", "day", "1day", "daily", "days", "1440"}
_OTHER = {
    "w", "1w", "week", "weekly", "m", "1m", "mn", "1mo", "mo", "month", "monthly", "q", "quarterly", "y", "yearly",
    "h", "1h", "hour", "hourly", "4h",
}  # fmt: skip


def refuse_other_series(bars: FileBars, fields: dict[str, pa.Array]) -> None:
    """Refuse rows of another period than a day, and those in another currency than most rows of their ticker; say
    which tickers come from several exchanges."""
    if "period" in fields:
        codes, words = ticker_column(fields["period"])
        named = [w.lower() for w in words]
        if named and all(w in _DAILY or w in _OTHER for w in named):
            other = np.array([w in _OTHER for w in named])[codes]
            bars.fault[other & (bars.fault == 0)] = OTHER_PERIOD
    if "currency" in fields:
        codes, words = ticker_column(fields["currency"])
        seldom, several = _seldom(bars.ticker, codes, len(words))
        bars.fault[seldom & (bars.fault == 0)] = OTHER_CURRENCY
        if len(several):
            bars.notes.append(
                f"{bars.label}: {_who(bars, several[0])} is quoted in {_words(bars, several[0], codes, words)}"
            )
    if "exchange" in fields:
        codes, words = ticker_column(fields["exchange"])
        _, several = _seldom(bars.ticker, codes, len(words))
        if len(several):
            bars.notes.append(
                f"{bars.label}: {len(several)} tickers have rows of several exchanges, e.g. {_who(bars, several[0])} "
                f"of {_words(bars, several[0], codes, words)}"
            )


def _seldom(ticker: np.ndarray, code: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(bool per row: its word is not the commonest of its ticker; the tickers with several words)."""
    if n < 2:
        return np.zeros(len(code), dtype=bool), np.zeros(0, dtype=np.int64)
    row = ticker.astype(np.int64) - ticker.min(initial=0)
    counts = np.zeros((int(row.max(initial=0)) + 1, n), dtype=np.int64)
    np.add.at(counts, (row, code), 1)
    several = np.flatnonzero((counts > 0).sum(axis=1) > 1) + ticker.min(initial=0)
    return code != counts.argmax(axis=1)[row], several


def _who(bars: FileBars, ticker: int) -> str:
    return bars.names[ticker] if bars.names else "it"


def _words(bars: FileBars, ticker: int, codes: np.ndarray, words: list[str]) -> str:
    return " and ".join(words[c] or "nothing" for c in np.unique(codes[bars.ticker == ticker])[:3])
