"""A small made-up universe with snapshots of every awkward kind, its panel and its sequence index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import N_MARKET_FEATURES
from k4_pipeline.features.compute import compute_market_features
from k4_pipeline.market.bars import Bars, to_dates
from k4_pipeline.sequences.assemble import SequenceIndex
from k4_pipeline.sequences.windows import index_sequences


@dataclass(frozen=True)
class World:
    """Bars, snapshots on them, the `sequences` table, and the float64 panel."""

    bars: Bars
    snapshots: pd.DataFrame
    sequences: pd.DataFrame
    panel: np.ndarray  # (n_bars, 55) float64

    @property
    def index(self) -> SequenceIndex:
        return SequenceIndex.from_frame(self.sequences, self.bars.close)


def random_bars(lengths: dict[str, int], seed: int = 0) -> Bars:
    """Random walks with weekday dates; some bars without range or volume."""
    rng = np.random.default_rng(seed)
    frames = []
    for ticker, n in sorted(lengths.items()):
        close = 30 * np.exp(np.cumsum(rng.normal(0, 0.02, n)))
        spread = rng.uniform(0, 0.02, (2, n)) * (rng.random(n) > 0.1)
        volume = np.floor(rng.lognormal(10, 1, n)) * (rng.random(n) > 0.05)
        frames.append(
            pd.DataFrame(
                {
                    "ticker": ticker,
                    "date": pd.bdate_range("2015-01-01", periods=n),
                    "open": close,
                    "high": close * (1 + spread[0]),
                    "low": close * (1 - spread[1]),
                    "close": close,
                    "volume": volume,
                }
            )
        )
    return Bars.from_frame(pd.concat(frames, ignore_index=True))


def snapshots_at(bars: Bars, cases: list[tuple[str, int, int, int]]) -> pd.DataFrame:
    """Snapshots from (ticker, start, activation, snapshot) bar numbers inside the ticker."""
    rows = []
    for ticker, start, activation, snapshot in cases:
        first = bars.ticker_slice(ticker).start
        dates = to_dates(bars.date[[first + start, first + activation, first + snapshot]])
        box = slice(first + start, first + activation + 1)
        upper, lower = bars.high[box].max(), bars.low[box].min()
        rows.append(
            {
                "ticker": ticker,
                "pattern_id": f"{ticker}|{pd.Timestamp(dates[0]):%Y-%m-%d}",
                "start_date": dates[0],
                "activation_date": dates[1],
                "snapshot_date": dates[2],
                "upper": upper,
                "lower": lower,
                "power": upper * 1.005,
                "start_price": bars.close[first + start],
                "qualifying_bars": activation - start + 1,
                "bars_active": snapshot - activation,
            }
        )
    frame = pd.DataFrame(rows)
    for column in ("start_date", "activation_date", "snapshot_date"):
        frame[column] = frame[column].astype("datetime64[us]")
    frame[["ticker", "pattern_id"]] = frame[["ticker", "pattern_id"]].astype("str")
    return frame.sort_values(["ticker", "start_date", "snapshot_date"]).reset_index(drop=True)


CASES = [
    ("AAA", 300, 309, 309),
    ("AAA", 300, 309, 330),
    ("AAA", 300, 309, 398),  # the start lies before the window
    ("AAA", 410, 419, 425),
    ("BBB", 30, 39, 45),  # padding in front
    ("BBB", 15, 24, 24),  # fewer than 20 bars before the start bar
    ("BBB", 90, 99, 119),
    ("CCC", 12, 19, 19),  # one valid bar
    ("CCC", 12, 19, 22),
    ("DDD", 500, 509, 599),  # the very last bar of the universe
]
LENGTHS = {"AAA": 430, "BBB": 120, "CCC": 23, "DDD": 600}


def make_world(bars: Bars, snapshots: pd.DataFrame) -> World:
    panel = compute_market_features(bars, dtype=np.float64)
    assert panel.shape == (len(bars), N_MARKET_FEATURES)
    return World(bars, snapshots, index_sequences(bars, snapshots), panel)


@pytest.fixture(scope="session")
def world() -> World:
    bars = random_bars(LENGTHS)
    return make_world(bars, snapshots_at(bars, CASES))
