"""Small universes for these tests: random walks with quiet stretches on real sessions, and the real bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import PatternConfig
from k4_pipeline.market.bars import Bars, to_dates
from k4_pipeline.market.calendar import sessions
from k4_pipeline.patterns.consolidation import END_REASONS, ScannedPatterns, find_patterns

# A more generous rule than the default, so that universes of a few hundred bars hold many patterns.
SMALL = PatternConfig(
    min_history_bars=140, qualifying_bars=6, bbw_percentile_max=0.4, volume_ratio_max=1.2, range_ratio_max=1.2
)


def random_walk(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """OHLCV of n bars; volatility and volume change every few weeks; prices in cents, so that ties occur."""
    quiet = np.repeat(rng.random(n // 15 + 1) < 0.5, 15)[:n]
    sigma = np.where(quiet, 0.006, 0.03)
    close = 20.0 * np.exp(np.cumsum(rng.normal(0.0003, 1.0, n) * sigma))
    spread = close * sigma * rng.uniform(0.3, 1.5, n)
    high = close + spread * rng.random(n)
    low = close - spread * rng.random(n)
    open_ = low + (high - low) * rng.random(n)
    cents = {"open": open_, "high": high, "low": low, "close": close}
    volume = np.round(1e5 * np.exp(rng.normal(0, 0.5, n)) * np.where(quiet, 0.7, 1.3))
    return {**{k: np.round(v, 2) for k, v in cents.items()}, "volume": volume}


def random_bars(seed: int, n_tickers: int = 6, n_bars: int = 420, *, ragged: bool = True) -> Bars:
    """A universe on New York sessions from 2010; when `ragged`, some start late, end early or pause for a while."""
    rng = np.random.default_rng(seed)
    days = sessions("XNYS", "2010-01-04", "2016-12-30")[:n_bars]
    frames = []
    for i in range(n_tickers):
        keep = np.ones(n_bars, dtype=bool)
        kind = i % 4 if ragged else 0
        if kind == 1:
            keep[: rng.integers(0, n_bars // 4)] = False
        elif kind == 2:
            keep[n_bars - rng.integers(1, n_bars // 2) :] = False
        elif kind == 3:
            for _ in range(3):
                start = rng.integers(n_bars // 3, n_bars)
                keep[start : start + rng.integers(2, 60)] = False
        mine = days[keep]
        walk = random_walk(rng, len(mine))
        frames.append(pd.DataFrame({"ticker": f"T{i:02d}", "date": to_dates(mine), **walk}))
    return Bars.from_frame(pd.concat(frames, ignore_index=True))


def clean_real_bars(folder: Path, name: str = "us_daily_bars_small.parquet") -> Bars:
    """The real bars without the rows no pattern rule is meant for (prices not positive, high below low)."""
    frame = pd.read_parquet(folder / name)
    prices = frame[["open", "high", "low", "close"]]
    sane = (prices > 0).all(axis=1) & (frame["high"] >= prices.max(axis=1)) & (frame["low"] <= prices.min(axis=1))
    return Bars.from_frame(frame[sane])


def rescaled(bars: Bars, factor: float) -> Bars:
    """Prices times `factor`, volumes divided by it."""
    return Bars(
        bars.tickers,
        bars.offsets,
        bars.date,
        *(getattr(bars, c) * factor for c in ("open", "high", "low", "close")),
        bars.volume / factor,
    )


def ticker_lists(bars: Bars, ticker: str) -> dict[str, list]:
    """One ticker as plain Python lists, for the oracle."""
    rows = bars.ticker_slice(ticker)
    return {c: getattr(bars, c)[rows].tolist() for c in ("date", "open", "high", "low", "close", "volume")}


def patterns_frame(bars: Bars, patterns: ScannedPatterns) -> pd.DataFrame:
    """One row per pattern that became ACTIVE, sorted by (ticker, start_date); end_date is NaT while it is open."""
    closed = patterns.end_row >= 0
    end_date = np.full(len(patterns), np.datetime64("NaT", "us"), dtype="datetime64[us]")
    end_date[closed] = to_dates(bars.date[patterns.end_row[closed]])
    reasons = np.array(END_REASONS, dtype=object)
    return pd.DataFrame(
        {
            "ticker": pd.Series(bars.tickers[patterns.ticker_code], dtype="str"),
            "start_date": to_dates(bars.date[patterns.start_row]),
            "activation_date": to_dates(bars.date[patterns.activation_row]),
            "end_date": end_date,
            "end_reason": pd.Series(reasons[patterns.end_reason], dtype="str"),
            "upper": patterns.upper,
            "lower": patterns.lower,
            "power": patterns.power,
            "start_price": bars.close[patterns.start_row],
            "start_row": patterns.start_row,
            "activation_row": patterns.activation_row,
            "end_row": patterns.end_row,
        }
    )


def scan_patterns(bars: Bars, config: PatternConfig, **options: Any) -> pd.DataFrame:
    """The patterns of `bars` as a table."""
    return patterns_frame(bars, find_patterns(bars, config, **options))
