"""Vendors against answers of the documented form, as their pages show them; nothing leaves this machine."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from k4_pipeline.config import CleaningConfig, SimulationConfig, SourceConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.sources import read_bars
from k4_pipeline.market.sources.vendors.alpaca import AlpacaClient
from k4_pipeline.market.sources.vendors.binance import BinanceClient
from k4_pipeline.market.sources.vendors.polygon import PolygonClient
from k4_pipeline.market.sources.vendors.tiingo import TiingoClient
from k4_pipeline.market.sources.yfinance_source import fetch

NOW = dt.datetime(2013, 6, 1, tzinfo=dt.UTC)
DAYS = pd.bdate_range("2013-02-19", periods=25)
ROWS = [(20.0 + i, 21.0 + i, 19.0 + i, 20.5 + i, 1000.0 + i) for i in range(len(DAYS))]


def new_york_ms(day: pd.Timestamp) -> int:
    return int(day.tz_localize("America/New_York").timestamp() * 1000)


def tiingo(address: str, query: Any, headers: Any) -> Any:
    assert address.endswith("/tiingo/daily/CAR/prices")
    assert headers["Authorization"] == "Token secret"
    names = ("open", "high", "low", "close", "volume")
    return [
        {
            "date": f"{d:%Y-%m-%d}T00:00:00.000Z",
            **dict(zip(names, row)),
            "adjClose": 1.0,
            "divCash": 0.0,
            "splitFactor": 1,
        }
        for d, row in zip(DAYS, ROWS)
        if f"{d:%Y-%m-%d}" >= query["startDate"]
    ]


def polygon(address: str, query: Any, headers: Any) -> Any:
    first = "cursor" not in address
    part = slice(0, 10) if first else slice(10, None)
    results = [{"t": new_york_ms(d), **dict(zip("ohlcv", row)), "n": 3} for d, row in zip(DAYS[part], ROWS[part])]
    more = {"next_url": "https://api.polygon.io/v2/aggs/cursor=abc"} if first else {}
    return {"status": "OK", "results": results, **more}


def alpaca(address: str, query: Any, headers: Any) -> Any:
    assert headers == {"APCA-API-KEY-ID": "secret", "APCA-API-SECRET-KEY": "secret"}
    part = slice(10, None) if "page_token" in query else slice(0, 10)
    stamps = [d.tz_localize("America/New_York").tz_convert("UTC").strftime("%Y-%m-%dT%H:%M:%SZ") for d in DAYS[part]]
    bars = [{"t": t, **dict(zip("ohlcv", row)), "n": 3, "vw": 1.0} for t, row in zip(stamps, ROWS[part])]
    return {"bars": bars, "next_page_token": None if "page_token" in query else "abc"}


def binance(address: str, query: Any, headers: Any) -> Any:
    return [
        [int(d.tz_localize("UTC").timestamp() * 1000), *(str(x) for x in row), 0, "1.0", 5, "1", "1", "0"]
        for d, row in zip(DAYS, ROWS)
        if int(d.tz_localize("UTC").timestamp() * 1000) >= int(query["startTime"])
    ]


@pytest.mark.parametrize(
    "client, answer, ticker",
    [
        (TiingoClient, tiingo, "CAR"),
        (PolygonClient, polygon, "CAR"),
        (AlpacaClient, alpaca, "CAR"),
        (BinanceClient, binance, "BTCUSDT"),
    ],
)
def test_a_vendor_gives_its_bars_on_their_sessions_once(
    client: Callable[..., Any], answer: Any, ticker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TIINGO_API_KEY", "POLYGON_API_KEY", "APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.setenv(name, "secret")
    asked: list[str] = []

    def recorded(address: str, query: Any, headers: Any) -> Any:
        asked.append(address)
        return answer(address, query, headers)

    options: dict[str, Any] = {"start": "2013-01-01", "now": NOW, "sleep": lambda s: None}
    raw = fetch([ticker], tmp_path, client=client(recorded), **options)
    bars = clean_bars(raw, CleaningConfig(), today=NOW.date()).bars.to_frame()
    assert bars["date"].tolist() == DAYS.tolist()
    assert [tuple(r) for r in bars[["open", "high", "low", "close", "volume"]].to_numpy()] == ROWS
    first = len(asked)
    fetch([ticker], tmp_path, client=client(recorded), **options)
    assert len(asked) == first, "bars that are stored and complete are not asked for again"


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TIINGO_API_KEY", raising=False)
    with pytest.raises(BadInputError, match="TIINGO_API_KEY"):
        read_bars(SourceConfig(source="tiingo", tickers=("CAR",)), SimulationConfig(), raw_dir=tmp_path)


class Toy:
    """A user's own source."""

    def bars(self, tickers: tuple[str, ...], start: str) -> pd.DataFrame:
        names = ("open", "high", "low", "close", "volume")
        return pd.DataFrame(
            [{"ticker": t, "date": d, **dict(zip(names, r))} for t in tickers for d, r in zip(DAYS, ROWS)]
        )


def test_a_plug_in_is_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("toy", f"{__name__}:Toy", "k4_pipeline.sources")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if "sources" in group else [])
    raw = read_bars(SourceConfig(source="plugin", path="toy", tickers=("CAR",)), SimulationConfig())
    assert clean_bars(raw, CleaningConfig()).bars.to_frame()["date"].tolist() == DAYS.tolist()
    with pytest.raises(BadInputError, match="there: toy"):
        read_bars(SourceConfig(source="plugin", path="none"), SimulationConfig())
