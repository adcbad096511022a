"""The few dirty rows of the simulated market, so that the rejects table is never empty by design.

Every fourth ticker (S0001, S0005, ...) gets one, the kinds taking turns, inside its first 300 bars: no label window of
a scanned pattern (500 bars of history) ever contains one. Kinds that corrupt a row replace it; a duplicate and a
future-dated row are added after it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.market.sources.simulation.parameters import stream

DIRTY_KINDS = (
    "nan_close",
    "zero_open",
    "negative_low",
    "high_below_low",
    "duplicate",
    "future_date",
    "infinite_high",
    "negative_volume",
)
FUTURE_DATE = pd.Timestamp("2099-01-02")
_EVERY, _FIRST_BAR, _LAST_BAR = 4, 40, 300


def plan_dirt(seed: int, ticker: str, n_bars: int) -> tuple[int, str] | None:
    """Bar number and kind of the ticker's dirty row, or None. Depends on the ticker alone, not on the universe."""
    number = int(ticker[1:])
    if number % _EVERY != 1:
        return None
    bar = int(stream(seed, ticker, "dirt").integers(_FIRST_BAR, _LAST_BAR))
    return (bar, DIRTY_KINDS[(number // _EVERY) % len(DIRTY_KINDS)]) if bar < n_bars else None


def corrupt(frame: pd.DataFrame, rows: np.ndarray, kinds: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The frame with row `rows[k]` corrupted as `kinds[k]` says, and the list (ticker, date, kind) of what was done."""
    frame = frame.copy()
    column = {name: frame.columns.get_loc(name) for name in frame.columns}
    added: list[pd.DataFrame] = []
    done: list[tuple[str, pd.Timestamp, str]] = []
    for row, kind in zip(rows, kinds):
        date = frame["date"].iloc[row]
        if kind == "nan_close":
            frame.iloc[row, column["close"]] = np.nan
        elif kind == "zero_open":
            frame.iloc[row, column["open"]] = 0.0
        elif kind == "negative_low":
            frame.iloc[row, column["low"]] = -frame["low"].iloc[row]
        elif kind == "high_below_low":
            frame.iloc[row, column["high"]] = 0.9 * frame["low"].iloc[row]
        elif kind == "infinite_high":
            frame.iloc[row, column["high"]] = np.inf
        elif kind == "negative_volume":
            frame.iloc[row, column["volume"]] = -frame["volume"].iloc[row]
        else:
            extra = frame.iloc[[row]].copy()
            if kind == "future_date":
                date = FUTURE_DATE
                extra["date"] = np.array([date], dtype="datetime64[us]")
            added.append(extra)
        done.append((str(frame["ticker"].iloc[row]), date, kind))
    listed = pd.DataFrame(done, columns=["ticker", "date", "kind"]).astype(
        {"ticker": "str", "date": "datetime64[us]", "kind": "str"}
    )
    if added:
        # Stable: the duplicate follows its original, the future-dated row ends its ticker.
        frame = pd.concat([frame, *added]).sort_values(["ticker", "date"], kind="stable").reset_index(drop=True)
    return frame, listed
