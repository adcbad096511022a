"""Orders, accounts and lists of the backtest on crafted bars, where every price is known by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import LabelConfig, PipelineConfig, TradingConfig
from k4_pipeline.evaluation.trading import orders, portfolio, section
from k4_pipeline.market.bars import Bars

FREE = TradingConfig(commission=0.0, slippage=(0.0,) * 5, max_participation=1e9)
LABELS = LabelConfig(horizon_bars=10)
DAYS = pd.bdate_range("2020-01-01", periods=16)
# Box 9 to 10, power line 10.05, stop 8.1, K2 target 11.5, K3 13.5, K4 17.5; the snapshot is bar 2.
SNAPSHOT = {"upper": 10.0, "lower": 9.0, "power": 10.05}


def bars_of(paths: dict[str, list[tuple[float, float, float, float]]]) -> Bars:
    """Three quiet bars at 9.5, then (open, high, low, close) of each ticker; volume 1e6."""
    frames = []
    for ticker, path in sorted(paths.items()):
        rows = [(9.5, 9.6, 9.4, 9.5)] * 3 + path
        frame = pd.DataFrame(rows, columns=["open", "high", "low", "close"])
        frames.append(frame.assign(ticker=ticker, date=DAYS[: len(rows)], volume=1e6))
    return Bars.from_frame(pd.concat(frames, ignore_index=True))


def snapshots(*tickers: str) -> pd.DataFrame:
    day = DAYS[2]
    return pd.DataFrame([{"ticker": t, "start_date": DAYS[0], "snapshot_date": day, **SNAPSHOT} for t in tickers])


def trade(path: list[tuple[float, float, float, float]], exits: str = orders.LABEL_RACE, config=FREE) -> pd.Series:
    return orders.simulate(snapshots("A"), bars_of({"A": path}), exits, LABELS, config).iloc[0]


QUIET = (9.5, 9.6, 9.4, 9.5)
BREAKS = (9.8, 10.2, 9.7, 10.1)


@pytest.mark.parametrize(
    "path, entry, leave, reason",
    [
        ([BREAKS, (10, 18, 10, 17)], 10.05, 17.5, "target"),
        ([(11, 11.2, 10.9, 11), (19, 19, 18, 18)], 11.0, 19.0, "target"),  # both gaps are filled at the open
        ([BREAKS, (10, 10.1, 8, 8.5)], 10.05, 8.1, "stop"),
        ([BREAKS, (7, 7.5, 6.5, 7)], 10.05, 7.0, "stop"),  # gapped below the stop
        ([BREAKS, (10, 18, 8, 12)], 10.05, 8.1, "stop"),  # touches both: the worse counts
        ([(9.8, 10.2, 8.0, 10.1)], 10.05, 8.1, "stop"),  # on the bar of the entry
        ([QUIET, BREAKS, QUIET], 10.05, 9.5, "bars end"),
        ([BREAKS, *[(10, 10.2, 9.9, 10)] * 12], 10.05, 10.0, "end of horizon"),
    ],
)
def test_prices_and_reasons_by_hand(path, entry, leave, reason):
    row = trade(path)
    assert (row["entry_price"], row["exit_price"]) == (entry, leave)
    assert orders.REASONS[row["reason"]] == reason
    assert row["net"] == row["gross"] == pytest.approx(leave / entry - 1)


@pytest.mark.parametrize(
    "path",
    [
        [QUIET] * 8,  # never breaks out
        [(9.5, 9.6, 8.0, 9.0), BREAKS],  # fails first
        [*[QUIET] * 5, BREAKS],  # the order has lapsed
    ],
)
def test_orders_that_are_not_filled(path):
    assert trade(path)["entry_row"] == -1


def test_alternative_exits_take_profit_earlier_or_trail():
    path = [BREAKS, (11, 13.6, 11, 13.5), (13.5, 14, 9.9, 10)]
    assert trade(path, "take profit at K2")["exit_price"] == 11.5
    assert trade(path, "take profit at K3")["exit_price"] == 13.5
    assert trade(path, "trailing stop")["exit_price"] == pytest.approx(13.5 * 0.75)


def test_costs_grow_where_less_money_is_traded():
    dear = trade([BREAKS, (10, 18, 10, 17)], config=TradingConfig(liquidity_limits=(1e9, 1e8, 5e7, 2e7)))
    cheap = trade([BREAKS, (10, 18, 10, 17)], config=TradingConfig())
    assert dear["cost"] > cheap["cost"] > 0
    assert dear["net"] == pytest.approx(dear["gross"] - dear["cost"])


def test_the_account_adds_up_and_keeps_its_limits():
    up, down = [BREAKS, (10, 18, 10, 17)], [BREAKS, (10, 10.1, 8, 8.5)]
    bars = bars_of({"A": up, "B": down, "C": up})
    config = dataclasses.replace(FREE, max_positions=2)
    trades = orders.simulate(snapshots("A", "B", "C"), bars, orders.LABEL_RACE, LABELS, config)
    account = portfolio.run(trades.assign(score=[3.0, 2.0, 1.0]), bars, portfolio.calendar_of(trades, bars), config)
    assert list(account.taken["ticker"]) == ["A", "B"]
    assert account.skipped == 1
    assert account.equity[-1] == pytest.approx(1 + 0.5 * (17.5 / 10.05 - 1) + 0.5 * (8.1 / 10.05 - 1))
    assert account.drawdown.max() <= 0


def test_a_position_is_no_larger_than_its_share_of_the_dollar_volume():
    bars = bars_of({"A": [BREAKS, (10, 18, 10, 17)]})
    config = dataclasses.replace(FREE, max_participation=0.001, capital=1e6)
    trades = orders.simulate(snapshots("A"), bars, orders.LABEL_RACE, LABELS, config).assign(score=1.0)
    account = portfolio.run(trades, bars, portfolio.calendar_of(trades, bars), config)
    assert account.equity[-1] - 1 == pytest.approx(0.001 * 9.5e6 / 1e6 * (17.5 / 10.05 - 1))


def test_what_is_bought_on_a_day_does_not_depend_on_later_rows():
    rng = np.random.default_rng(0)
    dates = np.sort(rng.choice(DAYS.to_numpy(), 200))
    score = rng.random(200)
    full = section.best_so_far(score, dates, 0.05)
    for cut in (20, 90, 150):
        last = dates[:cut].max()
        part = dates <= last
        assert (section.best_so_far(score[part], dates[part], 0.05) == full[part]).all()
    assert 0.04 < full.mean() < 0.3


def test_a_losing_list_says_that_it_lost_money():
    down = [BREAKS, (10, 10.1, 8, 8.5)]
    rows = snapshots("A", "B", "C").assign(volatility=1.0, ev=1.0, signal="STRONG", p_4=[0.1, 0.2, 0.3])
    made = section.backtest(rows, bars_of({t: down for t in "ABC"}), PipelineConfig(labels=LABELS))
    assert "lost money after costs" in made["in_words"][0]
    assert {"buy all", "volatility, top 5%", section.RANDOM} <= {r["rule"] for r in made["results"]}
    assert len({r["exits"] for r in made["results"]}) == len(orders.EXITS)
    main = made["results"][0]
    assert main["profit_factor"] == 0
    assert main["worst_month"] < 0 < main["longest_drawdown_days"]
    assert 0 < main["invested"] < 1
    assert section.backtest(rows.head(0), bars_of({"A": down}), PipelineConfig())["left_out"]


@pytest.mark.parametrize(
    "low, high, said",
    [
        (-0.02, 0.03, "holds zero: these trades do not show an edge"),
        (0.01, 0.03, "lies above zero"),
        (-0.03, -0.01, "loses money after costs"),
        (np.nan, np.nan, "Fewer than 10 trades give no interval"),
    ],
)
def test_what_is_said_of_the_mean_trade_follows_from_its_interval(low, high, said):
    main = {"rule": "list", "exits": "race", "net_return": 0.1, "trades": 9 if np.isnan(low) else 90, "mean_net": 0.02}
    lines = section.in_words([{**main, "max_drawdown": -0.1, "low": low, "high": high}])
    assert said in lines[1]


def test_a_few_trades_get_no_interval_and_a_list_without_trades_says_so():
    """Four winners at one target would seem certain: their bootstrap knows no other outcome."""
    up = [BREAKS, (10, 18, 10, 17)]
    rows = snapshots(*"ABCD").assign(volatility=1.0, ev=1.0, signal="STRONG", p_4=[0.4, 0.3, 0.2, 0.1])
    everything = PipelineConfig(labels=LABELS, trading=dataclasses.replace(FREE, list_frac=1.0, random_draws=5))
    made = section.backtest(rows, bars_of({t: up for t in "ABCD"}), everything)
    assert made["results"][0]["trades"] == 4
    assert np.isnan(made["results"][0]["low"])
    assert "show nothing" in made["in_words"][1]
    idle = section.backtest(rows, bars_of({t: [QUIET] * 8 for t in "ABCD"}), everything)
    assert idle["in_words"] == ["model, top 100% by P(K4): no order was filled, so there is nothing to judge."]
    assert idle["results"][0]["net_return"] == 0.0


def test_random_draws_show_the_middle_list_not_one_of_extremes():
    """A profit factor has no sensible mean: one list without a loser would decide it."""
    rng = np.random.default_rng(3)
    paths = {
        f"T{i:02}": [BREAKS, (10, 10.2, 9.9, 10), (10, 18, 8.2, c) if c > 10 else (8, 8.2, 7.5, c)]
        for i, c in enumerate(np.where(rng.random(30) < 0.4, 17.0, 8.0))
    }
    rows = snapshots(*paths).assign(volatility=1.0, ev=1.0, signal="AVOID", p_4=rng.random(30))
    config = PipelineConfig(labels=LABELS, trading=dataclasses.replace(FREE, list_frac=0.5, max_positions=30))
    drawn = next(r for r in section.backtest(rows, bars_of(paths), config)["results"] if r["rule"] == section.RANDOM)
    assert drawn["low"] <= drawn["mean_net"] <= drawn["high"]
    assert drawn["trades"] == drawn["candidates"] == 15


def test_snapshots_without_bars_are_left_out_and_counted():
    rows = snapshots("A", "GONE").assign(volatility=1.0, ev=1.0, signal="AVOID", p_4=[0.1, 0.2])
    bars = bars_of({"A": [BREAKS, (10, 18, 10, 17)]})
    made = section.backtest(rows, bars, PipelineConfig(labels=LABELS))
    assert made["in_words"][-1] == "1 of 2 snapshots have no bar here and are left out."
    assert next(r for r in made["results"] if r["rule"] == "buy all")["candidates"] == 1
    assert "another market" in section.backtest(rows[1:], bars, PipelineConfig(labels=LABELS))["left_out"]
