"""Which open patterns a person would not want in a list: too thin, too cheap, excluded by name or by kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from k4_pipeline.config import ServingConfig
from k4_pipeline.market.bars import Bars
from k4_pipeline.market.kinds import kind_of
from k4_pipeline.market.series import original_ticker

SCREEN_COLUMNS = ("left_out", "dollar_volume", "price")


def screened(bars: Bars, tickers: Sequence[str], config: ServingConfig) -> pd.DataFrame:
    """`SCREEN_COLUMNS`, one row per ticker: why it is left out of the list ("" when it is not), and the medians of
    close times volume and of the close over the last `lookback_bars` bars.

    Every bar that is read lies in `bars`, so nothing later than its last day is known.
    """
    unwanted = {t.upper() for t in config.excluded_tickers}
    rows = []
    for ticker in tickers:
        own = bars.ticker_slice(ticker)
        last = slice(max(own.start, own.stop - config.lookback_bars), own.stop)
        price = float(np.median(bars.close[last]))
        money = float(np.median(bars.close[last] * bars.volume[last]))
        rows.append((_why(bars, ticker, money, price, unwanted, config), money, price))
    return pd.DataFrame(rows, columns=list(SCREEN_COLUMNS)).astype(
        {"left_out": "str", "dollar_volume": "float64", "price": "float64"}
    )


def _why(bars: Bars, ticker: str, money: float, price: float, unwanted: set[str], config: ServingConfig) -> str:
    if {ticker.upper(), original_ticker(ticker).upper()} & unwanted:
        return "excluded by name"
    kind = kind_of(bars, ticker)
    if kind in config.excluded_kinds:
        return f"kind: {kind}"
    if money < config.min_dollar_volume:
        return f"dollar volume {money:,.0f} below {config.min_dollar_volume:,.0f}"
    if price < config.min_price:
        return f"price {price:.4g} below {config.min_price:g}"
    return ""
