"""Polygon (Massive): `GET /v2/aggs/ticker/<ticker>/range/1/day/<from>/<to>`; key in POLYGON_API_KEY."""

from __future__ import annotations

import datetime as dt
from urllib.parse import quote

import pandas as pd

from k4_pipeline.market.instants import exchange_zone
from k4_pipeline.market.sources.vendors.http import GetJson, frame_of, get_json, secret
from k4_pipeline.market.sources.yfinance_source import VendorUnavailable

_COLUMNS = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}


class PolygonClient:
    """Unadjusted bars; `t` is the session's midnight in New York, in milliseconds since 1970."""

    def __init__(self, get: GetJson = get_json, base: str = "https://api.polygon.io") -> None:
        self._get, self._base, self._key = get, base, secret("POLYGON_API_KEY")

    def history(self, ticker: str, start: str) -> pd.DataFrame:
        """Daily bars since `start` (ISO date), all pages."""
        until = dt.datetime.now(dt.UTC).date().isoformat()
        address = f"{self._base}/v2/aggs/ticker/{quote(ticker, safe='')}/range/1/day/{start}/{until}"
        query = {"adjusted": "false", "sort": "asc", "limit": "50000"}
        headers = {"Authorization": f"Bearer {self._key}"}
        rows: list[dict[str, float]] = []
        while address:
            page = self._get(address, query, headers)
            if not isinstance(page, dict) or page.get("status") not in ("OK", "DELAYED"):
                raise VendorUnavailable(f"{address} answers without status OK")
            rows += page.get("results") or []
            address, query = page.get("next_url") or "", {}
        found = frame_of(rows, "t", _COLUMNS)
        if len(found):
            stamps = pd.to_datetime(found.index.astype("int64"), unit="ms", utc=True)
            found.index = stamps.tz_convert(exchange_zone("XNYS")).strftime("%Y-%m-%d")
        return found
