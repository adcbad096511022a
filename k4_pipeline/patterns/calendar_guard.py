"""Sessions in the data that the exchange calendar does not know. Label dates of ended tickers count such sessions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.market.bars import Bars, to_dates
from k4_pipeline.market.calendar import exchange_of, sessions


def unknown_sessions(bars: Bars, default_exchange: str = "XNYS") -> pd.DataFrame:
    """Dates with bars that are no session of the ticker's exchange: exchange (str), date, n_bars, n_tickers of it.

    A few are vendor slips. Many mean dates moved by a time zone, the wrong exchange, or a market that never closes; the
    calendar's horizon-th session, from which the label of an ended ticker is known, is then later than that many bars.
    The labels stay as-of exact either way. Empty when every date is a session.
    """
    exchange = np.array([exchange_of(str(t), default_exchange) for t in bars.tickers], dtype=object)
    per_bar = np.repeat(exchange, np.diff(bars.offsets))
    found = []
    for name in sorted(set(exchange)):
        days, counts = np.unique(bars.date[per_bar == name], return_counts=True)
        unknown = ~np.isin(days, sessions(name, int(days[0]), int(days[-1])))
        found.append(
            pd.DataFrame(
                {
                    "exchange": pd.Series([name] * int(unknown.sum()), dtype="str"),
                    "date": to_dates(days[unknown]),
                    "n_bars": counts[unknown].astype(np.int64),
                    "n_tickers": np.full(int(unknown.sum()), int((exchange == name).sum()), dtype=np.int64),
                }
            )
        )
    return pd.concat(found, ignore_index=True)
