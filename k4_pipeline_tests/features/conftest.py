"""Bars for the feature tests: a slice of the real universe, and small made-up tickers with the awkward cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.market.bars import Bars


def bars_of(tickers: dict[str, dict[str, np.ndarray]]) -> Bars:
    """`Bars` from {ticker: {"high", "low", "close", "volume"}}; dates are consecutive days, open is the close."""
    frames = [
        pd.DataFrame(
            {
                "ticker": name,
                "date": pd.date_range("2010-01-01", periods=len(c["close"])),
                "open": c["close"],
                **{key: c[key] for key in ("high", "low", "close", "volume")},
            }
        )
        for name, c in sorted(tickers.items())
    ]
    return Bars.from_frame(pd.concat(frames, ignore_index=True))


def random_ticker(seed: int, n_bars: int, *, tick: float = 0.0, quiet: float = 0.0) -> dict[str, np.ndarray]:
    """A random walk; `tick` quantises prices, `quiet` is the share of bars that repeat the bar before (with ties)."""
    rng = np.random.default_rng(seed)
    move = rng.normal(0, 0.02, n_bars) * (rng.random(n_bars) >= quiet)
    close = 20.0 * np.exp(np.cumsum(move))
    high = close * (1 + rng.uniform(0, 0.02, n_bars))
    low = close * (1 - rng.uniform(0, 0.02, n_bars))
    volume = np.floor(rng.lognormal(11, 0.8, n_bars))
    volume[rng.random(n_bars) < quiet / 4] = 0.0
    if tick:
        close, high, low = (np.round(x / tick) * tick for x in (close, high, low))
        high, low = np.maximum(high, close), np.maximum(np.minimum(low, close), tick)
    return {"high": high, "low": low, "close": close, "volume": volume}


@pytest.fixture(scope="session")
def made_up_bars() -> Bars:
    """Tickers with ties, flat stretches, zero volumes, one bar only, and very short histories."""
    tickers = {f"WALK{i}": random_ticker(i, 620 + 37 * i) for i in range(3)}
    tickers["COARSE"] = random_ticker(11, 700, tick=0.25, quiet=0.4)
    tickers["PENNY"] = random_ticker(12, 650, tick=0.5, quiet=0.8)
    flat = random_ticker(13, 520, tick=0.01)
    for key in ("high", "low", "close"):
        flat[key][200:330] = 17.3
    flat["volume"][260:300] = 0.0
    tickers["FLAT"] = flat
    tickers["ONE"] = random_ticker(14, 1)
    tickers["SHORT"] = random_ticker(15, 23)
    return bars_of(tickers)


@pytest.fixture(scope="session")
def real_bars(real_data_dir: Path) -> Bars:
    """All bars of us_daily_bars_small.parquet."""
    frame = pd.read_parquet(real_data_dir / "us_daily_bars_small.parquet")
    frame["date"] = pd.to_datetime(frame["date"])
    return Bars.from_frame(frame)
