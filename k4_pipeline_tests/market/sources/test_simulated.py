"""The simulated market as a source: determinism, isolation, clean rows, splits, listings, dirty rows, returns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import CleaningConfig, SimulationConfig
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.market.bars import Bars
from k4_pipeline.market.calendar import sessions
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.sources.base import RAW_COLUMNS
from k4_pipeline.market.sources.simulated import session_days, simulate, simulate_with_truth
from k4_pipeline.market.sources.simulation.dirt import DIRTY_KINDS, FUTURE_DATE
from k4_pipeline.market.sources.simulation.process import CONSOLIDATION, LOG_PRICE, LOUD, REGIME, SQUEEZE
from k4_pipeline.market.sources.simulation.truth import SimulationTruth

CLEAN = SimulationConfig(n_tickers=60, n_bars=1500, dirty=False)
PRICES = ["open", "high", "low", "close"]


@pytest.fixture(scope="module", params=["squeeze", "null"])
def world(request: pytest.FixtureRequest) -> tuple[pd.DataFrame, SimulationTruth]:
    raw, truth = simulate_with_truth(dataclasses.replace(CLEAN, world=request.param))
    return raw.frame, truth


def _within_ticker(truth: SimulationTruth) -> np.ndarray:
    """True for every bar but the first of its ticker."""
    later = np.ones(len(truth.date), dtype=bool)
    later[truth.offsets[:-1]] = False
    return later


def test_the_same_config_gives_the_same_bars_and_another_seed_gives_others() -> None:
    config = SimulationConfig(n_tickers=8, n_bars=400)
    pd.testing.assert_frame_equal(simulate(config).frame, simulate(config).frame, check_exact=True)
    other = simulate(dataclasses.replace(config, seed=8)).frame
    assert len(set(simulate(config).frame["close"]) & set(other["close"])) < 0.5 * len(other)


@pytest.mark.parametrize("dirty", [False, True])
def test_a_ticker_does_not_depend_on_the_rest_of_the_universe(dirty: bool) -> None:
    small = simulate(SimulationConfig(n_tickers=9, n_bars=500, dirty=dirty)).frame
    large = simulate(SimulationConfig(n_tickers=40, n_bars=500, dirty=dirty)).frame
    same = large[large["ticker"].isin(small["ticker"])].reset_index(drop=True)
    assert large["ticker"].nunique() > small["ticker"].nunique() > 5
    pd.testing.assert_frame_equal(small, same, check_exact=True)


def test_a_longer_simulation_begins_with_the_shorter_one_up_to_later_splits() -> None:
    short_config = SimulationConfig(n_tickers=40, n_bars=900, end_date="2020-12-31", dirty=False)
    more = len(sessions("XNYS", "2021-01-01", "2022-12-30"))
    long_config = dataclasses.replace(short_config, n_bars=900 + more, end_date="2022-12-30")
    assert session_days(short_config)[0] == session_days(long_config)[0]
    short, short_truth = simulate_with_truth(short_config)
    long, long_truth = simulate_with_truth(long_config)
    keys = ["ticker", "date"]
    both = short.frame.assign(adjustment=short_truth.adjustment).merge(
        long.frame.assign(adjustment=long_truth.adjustment), on=keys, how="left", validate="one_to_one"
    )
    assert both["close_y"].notna().all()
    later_splits = both["adjustment_y"] / both["adjustment_x"]
    assert (later_splits != 1).any()
    for column in PRICES:
        np.testing.assert_allclose(both[f"{column}_x"], both[f"{column}_y"] * later_splits, rtol=1e-12)
    np.testing.assert_allclose(both["volume_x"], both["volume_y"] / later_splits, rtol=1e-12)


def test_the_frame_has_the_columns_of_raw_bars_and_lies_on_sessions(world: tuple) -> None:
    frame, truth = world
    assert tuple(frame.columns) == RAW_COLUMNS
    assert str(frame["ticker"].dtype) == "str"
    assert frame["date"].dtype == "datetime64[us]"
    assert set(frame["source"]) == {"simulated"}
    days = session_days(truth.config)
    assert len(days) == truth.config.n_bars
    np.testing.assert_array_equal(days, sessions("XNYS", int(days[0]), "2024-12-31"))
    assert set(truth.date) <= set(days)
    # A ticker has every session from its first bar to its last.
    position = np.searchsorted(days, truth.date)
    assert (np.diff(position)[_within_ticker(truth)[1:]] == 1).all()


def test_clean_rows_are_consistent_bars_quoted_in_cents_and_whole_shares(world: tuple) -> None:
    frame, truth = world
    assert np.isfinite(frame[[*PRICES, "volume"]].to_numpy()).all()
    assert (frame["low"] > 0).all()
    assert (frame["volume"] > 0).all()
    assert (frame["high"] >= frame[["open", "close", "low"]].max(axis=1)).all()
    assert (frame["low"] <= frame[["open", "close", "high"]].min(axis=1)).all()
    quoted = frame[PRICES].to_numpy() * truth.adjustment[:, None]
    np.testing.assert_allclose(quoted * 100, np.round(quoted * 100), atol=1e-6)
    shares = frame["volume"].to_numpy() / truth.adjustment
    np.testing.assert_allclose(shares, np.round(shares), rtol=1e-9)
    assert (np.diff(frame["close"].to_numpy())[_within_ticker(truth)[1:]] == 0).any()  # cents make ties


def test_every_clean_row_passes_the_cleaning_and_becomes_a_bar() -> None:
    raw, truth = simulate_with_truth(dataclasses.replace(CLEAN, n_tickers=10))
    result = clean_bars(raw, CleaningConfig())
    assert len(result.rejects) == 0
    assert len(result.bars) == len(truth.date)
    np.testing.assert_array_equal(truth.locate(raw.frame["ticker"], truth.date), np.arange(len(truth.date)))


def test_splits_are_there_and_leave_no_step_in_the_adjusted_history(world: tuple) -> None:
    frame, truth = world
    assert (truth.splits["ratio"] > 1).sum() >= 3
    assert (truth.splits["ratio"] < 1).sum() >= 1
    rows = truth.locate(truth.splits["ticker"], truth.splits["date"].to_numpy().astype("datetime64[D]").astype(int))
    np.testing.assert_allclose(truth.adjustment[rows - 1] / truth.adjustment[rows], truth.splits["ratio"], rtol=1e-12)
    step = np.diff(np.log(frame["close"].to_numpy()), prepend=np.nan)
    unadjusted = np.diff(np.log(frame["close"].to_numpy() * truth.adjustment), prepend=np.nan)
    assert np.median(np.abs(step[rows])) < 0.1
    assert (np.abs(unadjusted[rows]) > 0.3).mean() > 0.9
    assert (truth.adjustment[truth.offsets[1:] - 1] == 1).all()


def test_some_tickers_are_listed_late_and_some_delisted(world: tuple) -> None:
    _, truth = world
    listings = truth.listings
    last = listings["last_date"].max()
    assert listings["listed_late"].sum() >= 4
    assert listings["delisted"].sum() >= 2
    # A delisting on the very last bar would also end on the last date.
    assert (listings.loc[~listings["delisted"], "last_date"] == last).all()
    assert (listings.loc[listings["delisted"], "last_date"] < last).any()
    assert (listings.loc[listings["listed_late"], "first_date"] > listings["first_date"].min()).all()


def test_the_dirty_rows_are_exactly_those_listed() -> None:
    config = SimulationConfig(n_tickers=70, n_bars=600)
    clean = simulate(dataclasses.replace(config, dirty=False)).frame
    raw, truth = simulate_with_truth(config)
    listed = truth.dirty_rows
    assert set(listed["kind"]) == set(DIRTY_KINDS)
    assert 10 <= len(listed) <= 20
    added = listed["kind"].isin(["duplicate", "future_date"])
    assert len(raw.frame) == len(clean) + added.sum()
    # Every row that is not in the clean frame, by all its values, is listed; so is every row that is duplicated.
    columns = ["ticker", "date", *PRICES, "volume"]
    merged = raw.frame.merge(clean[columns].drop_duplicates(), on=columns, how="left", indicator=True)
    odd = (merged["_merge"] == "left_only").to_numpy() | raw.frame.duplicated().to_numpy()
    found = raw.frame.loc[odd, ["ticker", "date"]].reset_index(drop=True)
    expected = listed[["ticker", "date"]].sort_values(["ticker", "date"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected)
    assert (listed.loc[listed["kind"] == "future_date", "date"] == FUTURE_DATE).all()


def test_cleaning_rejects_every_dirty_row_and_no_other() -> None:
    raw, truth = simulate_with_truth(SimulationConfig(n_tickers=70, n_bars=600))
    result = clean_bars(raw, CleaningConfig(), today=pd.Timestamp("2025-01-15").date())
    rejected = result.rejects[["ticker", "date"]].sort_values(["ticker", "date"]).reset_index(drop=True)
    expected = truth.dirty_rows[["ticker", "date"]].sort_values(["ticker", "date"]).reset_index(drop=True)
    expected["date"] = expected["date"].dt.strftime("%Y-%m-%d").astype("str")
    pd.testing.assert_frame_equal(rejected, expected)


def test_the_null_world_is_a_martingale() -> None:
    _, truth = simulate_with_truth(SimulationConfig(world="null", n_tickers=200, n_bars=1500, dirty=False))
    later = _within_ticker(truth)
    log_price = truth.states[:, LOG_PRICE] - np.log(truth.adjustment)
    simple = np.expm1(np.diff(log_price, prepend=np.nan))[later]
    # Tickers share the market's shock, so the sessions are the independent observations.
    per_session = pd.Series(simple).groupby(truth.date[later]).agg(["sum", "count"])
    mean = per_session["sum"].sum() / per_session["count"].sum()
    residual = per_session["sum"] - mean * per_session["count"]
    error = float(np.sqrt((residual**2).sum())) / per_session["count"].sum()
    assert error < 1e-4
    assert abs(mean) < 3 * error
    # Nor is there a drift inside any regime known the day before, the decoy squeezes among them.
    before = truth.states[np.flatnonzero(later) - 1, REGIME]
    for regime in (LOUD, CONSOLIDATION, SQUEEZE):
        mine = simple[before == regime]
        assert abs(mine.mean()) < 4 * mine.std() / np.sqrt(len(mine))


def test_the_squeeze_world_drifts_up_in_squeezes_and_their_volume_rises_on_rising_bars() -> None:
    raw, truth = simulate_with_truth(SimulationConfig(world="squeeze", n_tickers=200, n_bars=1500, dirty=False))
    later = np.flatnonzero(_within_ticker(truth))
    log_return = np.diff(np.log(raw.frame["close"].to_numpy()), prepend=np.nan)[later]
    log_volume = np.log(raw.frame["volume"].to_numpy())[later]
    before, now = truth.states[later - 1, REGIME], truth.states[later, REGIME]
    squeezed = np.expm1(log_return[before == SQUEEZE])
    assert squeezed.mean() > 4 * squeezed.std() / np.sqrt(len(squeezed))
    ticker_mean = pd.Series(log_volume).groupby(truth.ticker_code(later)).transform("mean").to_numpy()
    excess = log_volume - ticker_mean
    up, down = log_return > 0, log_return < 0
    trace = excess[(now == SQUEEZE) & up].mean() - excess[(now == SQUEEZE) & down].mean()
    plain = excess[(now == CONSOLIDATION) & up].mean() - excess[(now == CONSOLIDATION) & down].mean()
    assert trace > 0.5
    assert abs(plain) < 0.1


def test_returns_have_fat_tails_and_clustered_volatility_but_no_autocorrelation(world: tuple) -> None:
    frame, truth = world
    kurtosis, clustering, signed = [], [], []
    for i in range(len(truth.tickers)):
        close = frame["close"].to_numpy()[truth.offsets[i] : truth.offsets[i + 1]]
        r = np.clip(np.diff(np.log(close)), -0.15, 0.15)  # without the jumps, which would only add to the tails
        if len(r) < 500:
            continue
        z = (r - r.mean()) / r.std()
        kurtosis.append((z**4).mean())
        clustering.append(np.corrcoef(np.abs(z[1:]), np.abs(z[:-1]))[0, 1])
        signed.append(np.corrcoef(z[1:], z[:-1])[0, 1])
    assert np.median(kurtosis) > 4
    assert np.median(clustering) > 0.15
    assert abs(np.median(signed)) < 0.03


def test_volatility_differs_between_tickers_in_the_squeeze_world_alone() -> None:
    _, squeeze = simulate_with_truth(dataclasses.replace(CLEAN, world="squeeze", n_bars=100))
    _, null = simulate_with_truth(dataclasses.replace(CLEAN, world="null", n_bars=100))
    assert np.std([p.log_vol for p in squeeze.params]) > 0.25
    assert len({p._replace(log_volume=0.0) for p in null.params}) == 1


def test_the_clean_bars_are_ready_for_the_pipeline_and_progress_counts_tickers() -> None:
    seen: list[tuple[int, int]] = []
    raw = simulate(SimulationConfig(n_tickers=5, n_bars=700, dirty=False), progress=lambda d, t: seen.append((d, t)))
    assert seen == [(i, 5) for i in range(1, 6)]
    assert Bars.from_frame(raw.frame).n_tickers == 5


@pytest.mark.parametrize(
    "config",
    [SimulationConfig(world="bull"), SimulationConfig(n_tickers=0), SimulationConfig(n_bars=3)],  # type: ignore[arg-type]
)
def test_impossible_settings_are_refused_with_the_name_of_the_setting(config: SimulationConfig) -> None:
    with pytest.raises(ConfigError, match=r"simulation\."):
        simulate(config)


def test_the_truth_refuses_bars_of_another_market() -> None:
    _, truth = simulate_with_truth(SimulationConfig(n_tickers=3, n_bars=100))
    with pytest.raises(BadInputError, match="XYZ"):
        truth.locate(np.array(["XYZ"], dtype=object), truth.date[:1])
