"""Alpaca, historical bars: `GET /v2/stocks/<symbol>/bars`; keys in APCA_API_KEY_ID and APCA_API_SECRET_KEY."""

from __future__ import annotations

from urllib.parse import quote

import pandas as pd

from k4_pipeline.market.instants import exchange_zone
from k4_pipeline.market.sources.vendors.http import GetJson, frame_of, get_json, secret

_COLUMNS = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}


class AlpacaClient:
    """Unadjusted bars; `t` is the session's midnight in New York, written in UTC."""

    def __init__(self, get: GetJson = get_json, base: str = "https://data.alpaca.markets") -> None:
        self._get, self._base = get, base
        self._headers = {
            "APCA-API-KEY-ID": secret("APCA_API_KEY_ID"),
            "APCA-API-SECRET-KEY": secret("APCA_API_SECRET_KEY"),
        }

    def history(self, ticker: str, start: str) -> pd.DataFrame:
        """Daily bars since `start` (ISO date), all pages."""
        address = f"{self._base}/v2/stocks/{quote(ticker, safe='')}/bars"
        query = {"timeframe": "1Day", "start": start, "adjustment": "raw", "limit": "10000"}
        rows: list[dict[str, object]] = []
        while True:
            page = self._get(address, query, self._headers)
            rows += page.get("bars") or []
            if not page.get("next_page_token"):
                break
            query = {**query, "page_token": page["next_page_token"]}
        found = frame_of(rows, "t", _COLUMNS)
        if len(found):
            stamps = pd.to_datetime(found.index, utc=True)
            found.index = stamps.tz_convert(exchange_zone("XNYS")).strftime("%Y-%m-%d")
        return found
