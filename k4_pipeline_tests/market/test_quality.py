"""Losses a person must hear of: each finding appears on planted data and not on its clean twin."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import CleaningConfig
from k4_pipeline.market import calendar
from k4_pipeline.market.bars import to_dates
from k4_pipeline.market.cleaning import CleanResult, clean_bars
from k4_pipeline.market.completeness import completeness
from k4_pipeline.market.quality import (
    duplicate_series,
    few_rows_were_refused,
    refused_rows_have_something_in_common,
    series_that_are_not_daily,
)
from k4_pipeline.market.revisions import restated, revision_log
from k4_pipeline.market.sources import RawBars

DAYS = to_dates(calendar.sessions("XNYS", "2010-01-04", "2012-12-31"))


def frame(ticker: str = "CAR", first: float = 20.0) -> pd.DataFrame:
    n = len(DAYS)
    close = first * np.exp(np.cumsum(np.random.default_rng(len(ticker)).normal(0, 0.01, n)))
    prices = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close}
    return pd.DataFrame({"ticker": ticker, "date": DAYS, **prices, "volume": 1000.0, "source": "x.csv"})


def cleaned(raw: pd.DataFrame) -> CleanResult:
    return clean_bars(RawBars(raw), CleaningConfig())


def spoilt(rows: np.ndarray) -> CleanResult:
    raw = pd.concat([frame(), frame("LTS", 900.0)], ignore_index=True)
    raw.loc[rows, "close"] = np.nan
    return cleaned(raw)


def test_a_ticker_that_loses_three_percent_of_its_rows_is_named() -> None:
    n = len(DAYS)
    result = spoilt(np.arange(0, n, 33))
    (finding,) = few_rows_were_refused(result.rejects, result.read_by_ticker)
    assert finding.startswith(f"CAR loses {len(range(0, n, 33))} of {n} rows")
    result = spoilt(np.arange(0, n, 100))
    assert few_rows_were_refused(result.rejects, result.read_by_ticker) == []


@pytest.mark.parametrize("what", ["month", "weekday", "price"])
def test_rows_refused_for_a_common_cause_are_noticed(what: str) -> None:
    date = pd.DatetimeIndex(np.tile(DAYS, 2))
    close = pd.concat([frame(), frame("LTS", 900.0)])["close"].to_numpy()
    hit = {"month": date.month == 3, "weekday": date.day_of_week == 4, "price": close >= 1000}[what]
    rows = np.flatnonzero(hit)[::2][:60]
    result = spoilt(rows)
    said = {"month": "in month 3", "weekday": "on Fridays", "price": "at prices from 1000"}[what]
    assert any(said in text for text in refused_rows_have_something_in_common(result.rejects, result.bars))


def test_rows_refused_by_chance_have_nothing_in_common() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        result = spoilt(rng.choice(2 * len(DAYS), 60, replace=False))
        assert refused_rows_have_something_in_common(result.rejects, result.bars) == []


def test_an_intraday_ticker_among_daily_ones_is_no_daily_series() -> None:
    hourly = frame("HOUR").iloc[:100]
    hourly = hourly.loc[hourly.index.repeat(4)].reset_index(drop=True)
    hourly["volume"] += np.arange(len(hourly))
    config = CleaningConfig()
    result = cleaned(pd.concat([frame(), hourly], ignore_index=True))
    (finding,) = series_that_are_not_daily(result.rejects, completeness(result.bars, config))
    assert "HOUR" in finding
    result = cleaned(frame())
    assert series_that_are_not_daily(result.rejects, completeness(result.bars, config)) == []


def test_one_company_under_two_names_is_found() -> None:
    twin = frame().assign(ticker="CAR.OLD")
    assert duplicate_series(cleaned(pd.concat([frame(), twin])).bars) == ["CAR.OLD has the very bars of CAR"]


def test_restated_bars_are_told_in_one_sentence() -> None:
    old = frame().drop(columns="source")
    new = old.copy()
    new.loc[5, "close"] *= 1.001
    now = pd.Timestamp("2026-01-05", tz="UTC").to_pydatetime()
    (said,) = restated(revision_log(None, old, new, now), now)
    assert "1 bars of 1 tickers" in said
    assert "CAR of 2010-01-11: close" in said
    assert restated(revision_log(None, old, old, now), now) == []
