"""Context features: against a plain pandas reference, free of the future to the bit, and declared look-backs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.features.context import CONTEXT_FEATURES, CONTEXT_NAMES, compute_context
from k4_pipeline.market.bars import Bars, to_dates


@pytest.fixture(scope="module")
def bars() -> Bars:
    rng = np.random.default_rng(5)
    frames = []
    for k, (name, first, length) in enumerate([("AA", 0, 400), ("BB", 37, 330), ("CC", 90, 45), ("DD", 0, 400)]):
        close = np.round(20 * np.exp(np.cumsum(rng.normal(0, 0.01 * (k + 1), length))), 2)
        high, low = close * (1 + rng.random(length) / 50), close * (1 - rng.random(length) / 50)
        days = to_dates(np.arange(first, first + length) + 15_000)
        volume = rng.integers(0, 5000, length).astype(float)
        frames.append(pd.DataFrame({"ticker": name, "date": days, "open": close, "high": high, "low": low,
                                    "close": close, "volume": volume}))  # fmt: skip
    return Bars.from_frame(pd.concat(frames, ignore_index=True))


def reference(bars: Bars) -> pd.DataFrame:
    """The formulas of features/context.py in pandas."""
    frame = bars.to_frame()
    parts = []
    for _, t in frame.groupby("ticker", sort=False):
        r = np.log(t["close"]).diff()
        dv = t["close"] * t["volume"]
        out = t[["ticker", "date"]].copy()
        for n in (20, 60, 250):
            out[f"log_volatility_{n}"] = np.log(r.rolling(n).std(ddof=0).clip(lower=1e-4))
        for n in (20, 60, 120, 250):
            out[f"return_{n}"] = np.log(t["close"]).diff(n)
        out["distance_to_high_250"] = np.log(t["close"] / t["high"].rolling(250).max())
        out["distance_to_low_250"] = np.log(t["close"] / t["low"].rolling(250).min())
        out["zero_return_share_60"] = (r == 0).rolling(60).mean().where(r.rolling(60).count() == 60)
        out["log_largest_move_60"] = np.log(r.abs().rolling(60).max().clip(lower=1e-4))
        out["skew_60"] = r.rolling(60).apply(lambda x: ((x - x.mean()) ** 3).mean() / x.std() ** 3, raw=True)
        out["dollar_volume_trend"] = np.log((dv.rolling(20).mean() + 1) / (dv.rolling(250).mean() + 1))
        out["log_illiquidity_60"] = np.log((r.abs().rolling(60).mean() + 1e-5) / (dv.rolling(60).mean() + 1))
        out["log_history"] = np.log(1.0 + np.minimum(np.arange(len(t)) + 1, 1000))
        out["relative_dollar_volume"] = np.log(dv.rolling(20).mean() + 1)
        parts.append(out)
    whole = pd.concat(parts)
    by_date = whole.groupby("date")
    whole["relative_dollar_volume"] -= by_date["relative_dollar_volume"].transform("mean")
    for kind, own in (("volatility", "log_volatility"), ("return", "return")):
        for n in (20, 60):
            whole[f"market_{kind}_{n}"] = by_date[f"{own}_{n}"].transform("mean")
    for spec in CONTEXT_FEATURES:
        if spec.name.startswith("rank_"):
            values = by_date[spec.name.removeprefix("rank_")]
            whole[spec.name] = (values.rank() - 0.5) / values.transform("count")
    return whole[list(CONTEXT_NAMES)]


def test_every_feature_is_what_the_plain_formula_gives(bars):
    expected, made = reference(bars).to_numpy(), compute_context(bars)
    assert made.dtype == np.float32
    assert np.array_equal(np.isnan(made), np.isnan(expected))
    assert np.nanmax(np.abs(made - expected)) < 2e-5


def test_cutting_later_bars_changes_no_bit(bars):
    whole = compute_context(bars)
    for day in (15_050, 15_091, 15_250, 15_366):
        past = bars.date <= day
        assert np.array_equal(whole[past].view(np.int32), compute_context(bars.until(day)).view(np.int32))


def test_replacing_later_bars_changes_no_bit(bars):
    later = bars.date > 15_300
    columns = {c: getattr(bars, c).copy() for c in ("open", "high", "low", "close", "volume")}
    for values in columns.values():
        values[later] *= 7.0
    changed = Bars(tickers=bars.tickers, offsets=bars.offsets, date=bars.date, **columns)
    past = ~later
    assert np.array_equal(compute_context(bars)[past].view(np.int32), compute_context(changed)[past].view(np.int32))


def test_a_feature_of_one_ticker_does_not_see_the_others_and_one_of_the_date_does(bars):
    whole, alone = compute_context(bars), compute_context(bars.subset(["AA"]))
    rows = bars.ticker_slice("AA")
    own = np.array([s.scope == "ticker" for s in CONTEXT_FEATURES])
    assert np.array_equal(whole[rows][:, own], alone[:, own], equal_nan=True)
    assert not np.array_equal(whole[rows][:, ~own], alone[:, ~own], equal_nan=True)


def test_declared_look_backs_are_the_first_value_and_enough(bars):
    made, first = compute_context(bars), bars.ticker_slice("DD").start
    short = bars.subset(["DD"])
    for i, spec in enumerate(CONTEXT_FEATURES):
        if spec.name == "log_history":
            continue
        column = made[first:, i]
        if spec.scope == "ticker":
            assert np.flatnonzero(np.isfinite(column))[0] == spec.lookback_bars - 1, spec.name
            begin = 399 - spec.lookback_bars + 1
            parts = {c: getattr(short, c)[begin:] for c in ("date", "open", "high", "low", "close", "volume")}
            late = Bars(tickers=short.tickers, offsets=np.array([0, spec.lookback_bars]), **parts)
            assert compute_context(late)[-1, i] == pytest.approx(column[-1], abs=1e-6), spec.name


def test_a_split_changes_nothing(bars):
    columns = {c: getattr(bars, c) / 4.0 for c in ("open", "high", "low", "close")}
    split = Bars(tickers=bars.tickers, offsets=bars.offsets, date=bars.date, volume=bars.volume * 4.0, **columns)
    assert np.allclose(compute_context(bars), compute_context(split), atol=1e-6, equal_nan=True)
