"""Trades one after the other in one account: equal parts, position limits, daily marks to market."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import TradingConfig
from k4_pipeline.market.bars import Bars, to_dates, to_days

TRADING_DAYS = 252


@dataclass
class Account:
    """What one list made: the trades taken, and the equity at the close of every day."""

    taken: pd.DataFrame
    days: np.ndarray  # (n_days,) int32
    equity: np.ndarray  # (n_days,) multiple of the starting capital
    traded: float  # bought and sold value, in starting capitals
    skipped: int  # orders that were filled but found no free slot or held ticker
    invested: float  # mean share of the equity that was in positions at the close

    @property
    def drawdown(self) -> np.ndarray:
        """Equity below its highest value so far, (n_days,) <= 0."""
        top = np.maximum.accumulate(np.concatenate([[1.0], self.equity]))[1:]
        return self.equity / top - 1.0


def run(trades: pd.DataFrame, bars: Bars, calendar: np.ndarray, config: TradingConfig) -> Account:
    """Take the entered `trades` in order of entry (best `score` first on one day) as far as the limits allow.

    A slot is free again on the bar after an exit. Costs are paid at entry and at exit. `calendar`: the sorted days.
    """
    entered = trades[trades["entry_row"] >= 0]
    order = np.lexsort((-entered["score"].to_numpy(), bars.date[entered["entry_row"].to_numpy()]))
    entered = entered.iloc[order].reset_index(drop=True)
    entry_day, exit_day = (bars.date[entered[c].to_numpy()] for c in ("entry_row", "exit_row"))
    by_day: dict[int, list[int]] = {}
    for i, day in enumerate(entry_day):
        by_day.setdefault(int(day), []).append(i)
    cash, traded, skipped = 1.0, 0.0, 0
    held: dict[int, float] = {}  # trade -> shares, in starting capitals per unit of price
    marks: dict[int, float] = {}  # trade -> last value
    taken: list[int] = []
    equity, invested = np.empty(len(calendar)), np.empty(len(calendar))
    tickers = entered["ticker"].to_numpy(dtype=object)
    entry_price, exit_price = entered["entry_price"].to_numpy(), entered["exit_price"].to_numpy()
    each_way = (entered["cost"] / (1.0 + entered["exit_price"] / entered["entry_price"])).to_numpy()
    limit = config.max_participation * entered["dollar_volume"].to_numpy() / config.capital
    entry_rows = entered["entry_row"].to_numpy()
    for d, day in enumerate(calendar):
        worth = cash + sum(marks.values())
        for i in by_day.get(int(day), []):
            if len(held) >= config.max_positions or any(tickers[j] == tickers[i] for j in held):
                skipped += 1
                continue
            value = min(worth / config.max_positions, cash / (1.0 + each_way[i]), limit[i])
            if value <= 0:
                skipped += 1
                continue
            held[i] = value / entry_price[i]
            cash -= value * (1.0 + each_way[i])
            traded += value
            taken.append(i)
        for i in list(held):
            if exit_day[i] == day:
                value = held.pop(i) * exit_price[i]
                marks.pop(i, None)
                cash += value * (1.0 - each_way[i])
                traded += value
            else:
                row = (
                    entry_rows[i]
                    + int(np.searchsorted(bars.date[entry_rows[i] : entered["exit_row"][i]], day, "right"))
                    - 1
                )
                marks[i] = held[i] * bars.close[row]
        equity[d] = cash + sum(marks.values())
        invested[d] = sum(marks.values()) / equity[d] if equity[d] > 0 else 0.0
    taken_rows = entered.iloc[sorted(taken)].reset_index(drop=True)
    return Account(taken_rows, calendar, equity, traded, skipped, float(invested.mean()))


def calendar_of(trades: pd.DataFrame, bars: Bars) -> np.ndarray:
    """Every day with a bar from the first snapshot to the last exit, sorted."""
    first = int(to_days(trades["snapshot_date"]).min())
    last = max(int(bars.date[trades["exit_row"].to_numpy().clip(0)].max()), int(to_days(trades["snapshot_date"]).max()))
    return np.unique(bars.date[(bars.date >= first) & (bars.date <= last)])


def facts(account: Account) -> dict[str, Any]:
    """Net return, in all and a year, Sharpe and Sortino ratio (of daily returns, without a risk-free rate), drawdown
    and its longest time, best and worst month, share invested, turnover a year; a trade's mean gross, net and cost,
    winners, their mean over that of the losers (payoff), sum won over sum lost (profit factor), break-even cost."""
    t = account.taken
    years = max(len(account.days) / TRADING_DAYS, 1e-9)
    n = len(t)
    nan = float("nan")
    known_months = [m for row in monthly(account) for m in row["months"] if m is not None] if n else []
    won, lost = (t["net"][t["net"] > 0], -t["net"][t["net"] <= 0]) if n else (np.empty(0), np.empty(0))
    daily = np.diff(np.concatenate([[1.0], account.equity])) / np.concatenate([[1.0], account.equity])[:-1]
    spread, falls = float(daily.std()), float(np.sqrt((np.minimum(daily, 0.0) ** 2).mean()))
    return {
        "trades": n,
        "skipped": account.skipped,
        "net_return": float(account.equity[-1] - 1.0),
        "annual_return": float(max(account.equity[-1], 0.0) ** (1.0 / years) - 1.0),
        "annual_volatility": spread * TRADING_DAYS**0.5,
        "sharpe": float(daily.mean() / spread * TRADING_DAYS**0.5) if spread > 0 else nan,
        "sortino": float(daily.mean() / falls * TRADING_DAYS**0.5) if falls > 0 else nan,
        "max_drawdown": float(account.drawdown.min()),
        "longest_drawdown_days": _longest_fall(account),
        "best_month": max(known_months, default=nan),
        "worst_month": min(known_months, default=nan),
        "invested": account.invested,
        "turnover": float(account.traded / years / max(float(account.equity.mean()), 1e-9)),
        "mean_gross": float(t["gross"].mean()) if n else nan,
        "mean_net": float(t["net"].mean()) if n else nan,
        "mean_cost": float(t["cost"].mean()) if n else nan,
        "hit_rate": float((t["net"] > 0).mean()) if n else nan,
        "payoff": float(won.mean() / lost.mean()) if len(won) and lost.sum() > 0 else nan,
        "profit_factor": float(won.sum() / lost.sum()) if len(lost) and lost.sum() > 0 else nan,
        "break_even_cost": float(t["gross"].mean()) if n else nan,
    }


def _longest_fall(account: Account) -> int:
    """Calendar days from a high to the day that reaches it again, or to the end; the longest such time."""
    longest, since = 0, account.days[0]
    for day, fall in zip(account.days, account.drawdown):
        longest = max(longest, int(day - since))
        since = since if fall < 0 else day
    return longest


def curve(name: str, account: Account, points: int = 260) -> dict[str, Any]:
    """Equity and drawdown, thinned to `points` days for a plot; the last day is always there."""
    step = max(len(account.days) // points, 1)
    keep = np.unique(np.append(np.arange(0, len(account.days), step), len(account.days) - 1))
    return {
        "name": name,
        "dates": [str(d)[:10] for d in to_dates(account.days[keep])],
        "equity": [round(float(v), 5) for v in account.equity[keep]],
        "drawdown": [round(float(v), 5) for v in account.drawdown[keep]],
    }


def monthly(account: Account) -> list[dict[str, Any]]:
    """Return of each month and year: [{year, months: 12 values or None, year_return}]."""
    series = pd.Series(account.equity, index=pd.DatetimeIndex(to_dates(account.days)))
    ends = series.groupby(series.index.to_period("M")).last()
    change = ends / np.concatenate([[1.0], ends.to_numpy()[:-1]]) - 1.0
    rows = []
    for year in sorted({period.year for period in change.index}):
        months: list[float | None] = [None] * 12
        for period, value in change[change.index.year == year].items():
            months[period.month - 1] = float(value)
        known = [v for v in months if v is not None]
        rows.append({"year": year, "months": months, "year_return": float(np.prod([1 + v for v in known]) - 1)})
    return rows
