"""What today's list leaves out, from past bars alone."""

from __future__ import annotations

import dataclasses

import numpy as np

from k4_pipeline.config import ServingConfig
from k4_pipeline.evaluation.screen import screened
from k4_pipeline.market.bars import Bars

N = 80


def universe(prices: dict[str, float], shares: float = 1e5) -> Bars:
    rng = np.random.default_rng(1)
    close = np.concatenate([p * np.exp(np.cumsum(rng.normal(0, 0.02, N))) for p in prices.values()])
    offsets = np.arange(len(prices) + 1) * N
    days = np.tile(np.arange(N, dtype=np.int32), len(prices))
    tickers = np.array(list(prices), dtype=object)
    return Bars(tickers, offsets, days, close, close, close, close, np.full(len(close), shares))


def test_thin_cheap_excluded_and_unwanted_kinds_are_left_out_with_the_reason():
    bars = universe({"GOOD": 60.0, "LOW": 0.3, "NAMED": 60.0, "PREF_A": 60.0})
    config = ServingConfig(excluded_tickers=("named",), min_dollar_volume=1e4)
    table = screened(bars, list(bars.tickers), config)
    assert [why.split()[0] for why in table["left_out"][[1, 2, 3]]] == ["price", "excluded", "kind:"]
    assert table["left_out"][0] == ""
    thin = screened(bars, ["GOOD"], dataclasses.replace(config, min_dollar_volume=1e9))
    assert thin["left_out"][0].startswith("dollar volume")


def test_the_filters_read_the_last_bars_alone():
    bars, config = universe({"GOOD": 60.0}), ServingConfig()
    last = slice(N - config.lookback_bars, N)
    expected = np.median(bars.close[last] * bars.volume[last])
    bars.volume[: N - config.lookback_bars] = 0.0
    assert screened(bars, ["GOOD"], config)["dollar_volume"][0] == expected
