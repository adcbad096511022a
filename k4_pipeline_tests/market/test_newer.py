"""Bars added night by night are those of a full reading, whatever the source did to its past."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import CleaningConfig, SimulationConfig, SourceConfig
from k4_pipeline.features.context import compute_context, last_day_context
from k4_pipeline.market.bars import Bars
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.newer import FullRunNeededError, newer_bars, overlap_start, with_newer
from k4_pipeline.market.sources import read_bars
from k4_pipeline.market.sources.part import read_part
from k4_pipeline.market.sources.simulated import simulate

COLUMNS = ["ticker", "date", "open", "high", "low", "close", "volume"]
PRICES = ["open", "high", "low", "close"]
CONFIG, NOW = CleaningConfig(), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def market() -> pd.DataFrame:
    return simulate(SimulationConfig(n_tickers=30, n_bars=300, dirty=False)).frame[COLUMNS]


def full(file) -> Bars:
    raw = read_bars(SourceConfig(source="table", path=str(file)), SimulationConfig())
    return clean_bars(raw, CONFIG, today=NOW.date(), now=NOW).bars


def added(base: Bars, file):
    source = SourceConfig(source="table", path=str(file))
    recent = read_part(source, SimulationConfig(), since=overlap_start(base, CONFIG))
    return newer_bars(
        base,
        recent,
        lambda names: read_part(source, SimulationConfig(), tickers=names),
        CONFIG,
        today=NOW.date(),
        now=NOW,
    )


def split_two_for_one(table: pd.DataFrame, last: pd.Timestamp) -> pd.DataFrame:
    own = table["ticker"] == "S0003"
    return table.assign(**{c: table[c].where(~own, table[c] / 2) for c in PRICES})


def a_new_ticker(table: pd.DataFrame, last: pd.Timestamp) -> pd.DataFrame:
    return pd.concat([table, table[table["ticker"] == "S0004"].assign(ticker="NEW")])


def a_ticker_gone(table: pd.DataFrame, last: pd.Timestamp) -> pd.DataFrame:
    return table[table["ticker"] != "S0005"]


def a_back_filled_bar(table: pd.DataFrame, last: pd.Timestamp) -> pd.DataFrame:
    return table[~((table["ticker"] == "S0006") & (table["date"] == table["date"].max()))]


def a_bar_that_is_refused(table: pd.DataFrame, last: pd.Timestamp) -> pd.DataFrame:
    hit = (table["ticker"] == "S0007") & (table["date"] > last)
    return table.assign(high=table["high"].where(~hit, table["low"] / 2))


def nothing(table: pd.DataFrame, last: pd.Timestamp) -> pd.DataFrame:
    return table


CHANGES = [nothing, split_two_for_one, a_new_ticker, a_ticker_gone, a_back_filled_bar, a_bar_that_is_refused]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_what_nights_add_up_to_is_what_a_full_reading_gives(change, suffix, market, tmp_path):
    days = np.sort(market["date"].unique())
    before, after = tmp_path / f"before.{suffix}", tmp_path / f"after.{suffix}"
    write = pd.DataFrame.to_parquet if suffix == "parquet" else pd.DataFrame.to_csv
    write(market[market["date"] <= days[-3]], before, index=False)
    write(change(market, pd.Timestamp(days[-3])), after, index=False)
    base, whole = full(before), full(after)
    found = added(base, after)
    if change in (split_two_for_one, a_new_ticker, a_ticker_gone):
        assert len(found.read_again) == 1
    assert with_newer(base, found).fingerprint() == whole.fingerprint()


def test_a_ticker_that_comes_back_after_a_silence_is_another_listing(market, tmp_path):
    days = np.sort(market["date"].unique())
    file = tmp_path / "bars.parquet"
    silent = (market["ticker"] == "S0001") & (market["date"] > days[-40]) & (market["date"] < days[-1])
    market[~silent & (market["date"] <= days[-2])].to_parquet(file, index=False)
    base = full(file)
    market[~silent].to_parquet(file, index=False)
    grown = with_newer(base, added(base, file))
    assert grown.fingerprint() == full(file).fingerprint()


def test_a_source_that_restates_everything_asks_for_a_full_run(market, tmp_path):
    days = np.sort(market["date"].unique())
    file = tmp_path / "bars.parquet"
    market[market["date"] <= days[-2]].to_parquet(file, index=False)
    base = full(file)
    market.assign(**{c: market[c] * 3 for c in PRICES}).to_parquet(file, index=False)
    with pytest.raises(FullRunNeededError, match="k4 nightly --full"):
        added(base, file)


def test_the_context_of_the_last_day_is_that_of_all_days(market, tmp_path):
    file = tmp_path / "bars.parquet"
    late = market["date"].isin(np.sort(market["date"].unique())[-120:])
    market[(market["ticker"] > "S0009") | late].to_parquet(file, index=False)  # some with too short a history
    bars = full(file)
    names, values = last_day_context(bars)
    rows = [bars.ticker_slice(name).stop - 1 for name in names]
    assert 20 < len(names) <= 30  # some have been delisted
    assert np.array_equal(values, compute_context(bars)[rows], equal_nan=True)
