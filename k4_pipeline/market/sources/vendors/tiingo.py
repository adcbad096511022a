"""Tiingo, end of day: `GET /tiingo/daily/<ticker>/prices`; key in TIINGO_API_KEY."""

from __future__ import annotations

from urllib.parse import quote

import pandas as pd

from k4_pipeline.market.sources.vendors.http import GetJson, frame_of, get_json, secret

_COLUMNS = {"open": "open", "high": "high", "low": "low", "close": "close", "adj_close": "adjClose", "volume": "volume"}
_COLUMNS |= {"dividends": "divCash", "stock_splits": "splitFactor"}


class TiingoClient:
    """Raw prices with Tiingo's adjusted close beside them; its dates are midnight in UTC and mean the session."""

    def __init__(self, get: GetJson = get_json, base: str = "https://api.tiingo.com") -> None:
        self._get, self._base, self._key = get, base, secret("TIINGO_API_KEY")

    def history(self, ticker: str, start: str) -> pd.DataFrame:
        """Daily bars since `start` (ISO date)."""
        address = f"{self._base}/tiingo/daily/{quote(ticker, safe='')}/prices"
        rows = self._get(address, {"startDate": start, "format": "json"}, {"Authorization": f"Token {self._key}"})
        return frame_of(rows, "date", _COLUMNS)
