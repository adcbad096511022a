"""Binance, daily klines: `GET /api/v3/klines`; no key. A bar is a day in UTC, the coin is traded on all of them."""

from __future__ import annotations

import pandas as pd

from k4_pipeline.market.sources.vendors.http import GetJson, get_json
from k4_pipeline.market.sources.yfinance_source import VendorUnavailable

_PAGE = 1000
_DAY_MS = 86_400_000


class BinanceClient:
    """A kline is a list: open time in ms, open, high, low, close, volume, …; numbers are written as text."""

    def __init__(self, get: GetJson = get_json, base: str = "https://api.binance.com") -> None:
        self._get, self._base = get, base

    def history(self, ticker: str, start: str) -> pd.DataFrame:
        """Daily bars since `start` (ISO date), all pages of 1,000."""
        since, rows = int(pd.Timestamp(start, tz="UTC").timestamp() * 1000), []
        while True:
            query = {"symbol": ticker, "interval": "1d", "startTime": str(since), "limit": str(_PAGE)}
            page = self._get(f"{self._base}/api/v3/klines", query, {})
            if not isinstance(page, list):
                raise VendorUnavailable(f"klines of {ticker}: the answer is no list")
            rows += page
            if len(page) < _PAGE:
                break
            since = int(page[-1][0]) + _DAY_MS
        if not rows:
            return pd.DataFrame()
        days = pd.to_datetime([int(r[0]) for r in rows], unit="ms").strftime("%Y-%m-%d")
        names = ("open", "high", "low", "close", "volume")
        return pd.DataFrame({n: [float(r[i]) for r in rows] for i, n in enumerate(names, start=1)}, index=days)
