"""What looks odd in cleaned bars and stays as it is: one-bar jumps, prices that stand still. Listed, never mended."""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.market.bars import Bars, to_dates


def _names(bars: Bars, rows: np.ndarray) -> pd.Series:
    code = np.searchsorted(bars.offsets, rows, side="right") - 1
    return pd.Series(bars.tickers[code], dtype="str")


def suspicious_jumps(bars: Bars, jump_factor: float) -> pd.DataFrame:
    """Closes at least `jump_factor` times the close of the bar before, or at most 1 / `jump_factor` of it.

    Columns ticker, date, previous_date, previous_close, close, factor (close / previous close); by (ticker, date).
    """
    factors = np.ones(len(bars))
    np.divide(bars.close[1:], bars.close[:-1], out=factors[1:])
    factors[bars.offsets[:-1]] = 1.0
    rows = np.flatnonzero((factors >= jump_factor) | (factors <= 1.0 / jump_factor))
    factor = factors[rows]
    return pd.DataFrame(
        {
            "ticker": _names(bars, rows),
            "date": to_dates(bars.date[rows]),
            "previous_date": to_dates(bars.date[rows - 1]),
            "previous_close": bars.close[rows - 1],
            "close": bars.close[rows],
            "factor": factor,
        }
    )


def stale_runs(bars: Bars, min_bars: int) -> pd.DataFrame:
    """Runs of at least `min_bars` bars in a row with one and the same close.

    Columns ticker, first_date, last_date, bars, close; by (ticker, first_date).
    """
    new_run = np.ones(len(bars), dtype=bool)
    new_run[1:] = bars.close[1:] != bars.close[:-1]
    new_run[bars.offsets[:-1]] = True
    first = np.flatnonzero(new_run)
    length = np.diff(np.append(first, len(bars)))
    long = length >= min_bars
    first, length = first[long], length[long]
    return pd.DataFrame(
        {
            "ticker": _names(bars, first),
            "first_date": to_dates(bars.date[first]),
            "last_date": to_dates(bars.date[first + length - 1]),
            "bars": length.astype(np.int64),
            "close": bars.close[first],
        }
    )
