"""The backtest of the report a second time, one order after the other in plain Python, from its stated assumptions.

No code of evaluation/trading is used. Bars of one ticker are lists; a bar that touches stop and target is stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import LabelConfig, TradingConfig
from k4_pipeline.market.bars import Bars, to_days

K4_TARGET = 3  # of the gain thresholds
LIQUIDITY_BARS = 20


@dataclass
class Order:
    """One filled order: rows of the bars, prices, costs each way and the most it may take of the account."""

    ticker: str
    score: float
    entry_row: int
    exit_row: int
    entry: float
    exit: float
    each_way: float
    most: float

    @property
    def net(self) -> float:
        """Return after costs, of the value bought."""
        return self.exit / self.entry * (1.0 - self.each_way) - 1.0 - self.each_way


def chosen_up_to_now(score: np.ndarray, days: np.ndarray, share: float) -> np.ndarray:
    """Rows (n,) bool among the best `share` of everything dated up to their own day."""
    out = np.zeros(len(score), dtype=bool)
    for day in np.unique(days):
        known, today = np.sort(score[days <= day])[::-1], days == day
        out[today] = score[today] >= known[int(np.ceil(share * len(known))) - 1]
    return out


def filled(row: int, end: int, power: float, stop: float, target: float, bars: Bars, days: int, most: int) -> Any:
    """(entry row, exit row, entry price, exit price) of a buy-stop placed after `row`, or None where it never fills."""
    for entry in range(row + 1, min(row + 1 + days, end)):
        if bars.open[entry] > stop and bars.high[entry] >= power:
            break
        if bars.low[entry] <= stop:
            return None
    else:
        return None
    price = max(bars.open[entry], power)
    last = min(row + most, end - 1)
    for at in range(entry, last + 1):
        if bars.low[at] <= stop:
            return entry, at, price, stop if at == entry else min(bars.open[at], stop)
        if bars.high[at] >= target:
            return entry, at, price, max(price if at == entry else bars.open[at], target)
    return entry, last, price, bars.close[last]


def orders_of(
    rows: pd.DataFrame, score: np.ndarray, bars: Bars, labels: LabelConfig, config: TradingConfig
) -> list[Order]:
    """The filled orders of `rows` (ticker, snapshot_date, upper, lower, power) under the exits of the label's race."""
    out, at = [], bars.locate(rows["ticker"], to_days(rows["snapshot_date"]))
    for i, row in enumerate(at.tolist()):
        code = int(np.searchsorted(bars.offsets, row, side="right")) - 1
        first, end = int(bars.offsets[code]), int(bars.offsets[code + 1])
        stop = float(rows["lower"].iloc[i]) * (1.0 - labels.stop_loss)
        target = float(rows["upper"].iloc[i]) * (1.0 + labels.gain_thresholds[K4_TARGET])
        power = float(rows["power"].iloc[i])
        trade = filled(row, end, power, stop, target, bars, config.entry_bars, labels.horizon_bars)
        if trade is None:
            continue
        back = slice(max(first, row - LIQUIDITY_BARS + 1), row + 1)
        dollars = float(np.median(bars.close[back] * bars.volume[back]))
        slip = next(
            (s for limit, s in zip(config.liquidity_limits, config.slippage) if dollars >= limit), config.slippage[-1]
        )
        most = config.max_participation * dollars / config.capital
        ticker, (entry_row, exit_row, entry, exit_) = str(rows["ticker"].iloc[i]), trade
        out.append(Order(ticker, float(score[i]), entry_row, exit_row, entry, exit_, slip + config.commission, most))
    return out


def account(orders: list[Order], bars: Bars, first: int, last: int, config: TradingConfig) -> dict[str, float]:
    """trades, net_return, mean_net, mean_gross and hit_rate of the orders that the limits let in, best score first."""
    queue = sorted(orders, key=lambda o: (int(bars.date[o.entry_row]), -o.score))
    held: list[tuple[Order, float, float]] = []
    cash, taken, worth = 1.0, [], 1.0
    for day in np.unique(bars.date[(bars.date >= first) & (bars.date <= last)]).tolist():
        worth = cash + sum(shares * mark for _, shares, mark in held)
        while queue and int(bars.date[queue[0].entry_row]) == day:
            order = queue.pop(0)
            if len(held) >= config.max_positions or any(o.ticker == order.ticker for o, _, _ in held):
                continue
            value = min(worth / config.max_positions, cash / (1.0 + order.each_way), order.most)
            if value <= 0:
                continue
            cash -= value * (1.0 + order.each_way)
            held.append((order, value / order.entry, order.entry))
            taken.append(order)
        left = []
        for order, shares, _ in held:
            if int(bars.date[order.exit_row]) == day:
                cash += shares * order.exit * (1.0 - order.each_way)
                continue
            span = bars.date[order.entry_row : order.exit_row + 1]
            left.append((order, shares, float(bars.close[order.entry_row + int((span <= day).sum()) - 1])))
        held = left
        worth = cash + sum(shares * mark for _, shares, mark in held)
    gross = [o.exit / o.entry - 1.0 for o in taken]
    net = [o.net for o in taken]
    mean = {k: float(np.mean(v)) if taken else np.nan for k, v in (("mean_gross", gross), ("mean_net", net))}
    return {
        "trades": len(taken),
        "net_return": worth - 1.0,
        "hit_rate": float(np.mean([v > 0 for v in net])) if taken else np.nan,
        **mean,
    }
