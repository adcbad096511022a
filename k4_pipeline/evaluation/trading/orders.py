"""One trade per snapshot: a buy-stop at the power line from the next bar on, then the exit rule, on daily bars.

Within a bar the order of prices is unknown, so the worse one is taken: a bar that touches stop and target is stopped,
also the bar of the entry. A gap is filled at the open, for better or worse.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline._numba import njit
from k4_pipeline.config import LabelConfig, TradingConfig
from k4_pipeline.market.bars import Bars, to_days

RACE, TRAILING, TIME = 0, 1, 2
# name -> (kind, index of the gain threshold that takes profit, or -1)
EXITS = {
    "label race (K4 target or stop)": (RACE, 3),
    "take profit at K3": (RACE, 2),
    "take profit at K2": (RACE, 1),
    "trailing stop": (TRAILING, -1),
    "stop or end of horizon": (TIME, -1),
}
LABEL_RACE = next(iter(EXITS))
REASONS = ("target", "stop", "end of horizon", "bars end")
LIQUIDITY_BARS = 20


@njit
def _trade(row, end, power, stop, target, entry_bars, horizon, kind, trail, o, h, lo, c):
    """(entry row or -1, exit row, entry price, exit price, reason) of one order placed after the close of `row`."""
    entry = -1
    price = 0.0
    for t in range(row + 1, min(row + 1 + entry_bars, end)):
        if o[t] > stop and h[t] >= power:
            entry, price = t, max(o[t], power)
            break
        if lo[t] <= stop:
            break  # the pattern failed before it broke out
    if entry < 0:
        return -1, -1, 0.0, 0.0, -1
    last = min(row + horizon, end - 1)
    level = stop
    top = price
    for t in range(entry, last + 1):
        if lo[t] <= level:
            return entry, t, price, (level if t == entry else min(o[t], level)), 1
        if kind == 0 and h[t] >= target:
            return entry, t, price, max(o[t] if t > entry else price, target), 0
        if kind == 1:
            top = max(top, c[t])
            level = max(stop, top * (1.0 - trail))
    return entry, last, price, c[last], 2 if last == row + horizon else 3


@njit
def _trades(rows, ends, power, stop, target, entry_bars, horizon, kind, trail, o, h, lo, c, where, prices, reason):
    for i in range(len(rows)):
        a, b, p, q, r = _trade(
            rows[i], ends[i], power[i], stop[i], target[i], entry_bars, horizon, kind, trail, o, h, lo, c
        )
        where[i, 0], where[i, 1], prices[i, 0], prices[i, 1], reason[i] = a, b, p, q, r


def dollar_volume(bars: Bars, rows: np.ndarray) -> np.ndarray:
    """Median close times volume of the 20 bars up to each row, (n,): what was known when the order was placed."""
    first = bars.offsets[np.searchsorted(bars.offsets, rows, side="right") - 1]
    out = np.empty(len(rows))
    for i, (a, b) in enumerate(zip(np.maximum(first, rows - LIQUIDITY_BARS + 1), rows + 1, strict=True)):
        out[i] = np.median(bars.close[a:b] * bars.volume[a:b])
    return out


def slippage(volume: np.ndarray, config: TradingConfig) -> np.ndarray:
    """Each way, as a share of the price, by dollar volume (n,)."""
    out = np.full(len(volume), config.slippage[-1])
    for limit, share in reversed(list(zip(config.liquidity_limits, config.slippage))):
        out[volume >= limit] = share
    return out


def simulate(
    snapshots: pd.DataFrame, bars: Bars, exits: str, labels: LabelConfig, config: TradingConfig
) -> pd.DataFrame:
    """`snapshots` (ticker, snapshot_date, upper, lower, power) with the trade of each.

    Adds entry_row and exit_row (rows of `bars`, -1 without an entry), entry_price, exit_price, reason, gross (return
    before costs), cost (both ways, as a share of the entry), net, dollar_volume.
    """
    table = snapshots.reset_index(drop=True)
    rows = bars.locate(table["ticker"], to_days(table["snapshot_date"]))
    table, rows = table[rows >= 0].reset_index(drop=True), rows[rows >= 0]
    kind, threshold = EXITS[exits]
    power = table["power"].to_numpy(dtype=np.float64)
    stop = table["lower"].to_numpy(dtype=np.float64) * (1.0 - labels.stop_loss)
    factor = 1.0 + labels.gain_thresholds[threshold]
    target = table["upper"].to_numpy(dtype=np.float64) * factor
    ends = bars.offsets[np.searchsorted(bars.offsets, rows, side="right")]
    n = len(table)
    where, prices, reason = np.full((n, 2), -1, np.int64), np.zeros((n, 2)), np.full(n, -1, np.int64)
    _trades(
        rows, ends, power, stop, target, config.entry_bars, labels.horizon_bars, kind, config.trailing_stop,
        bars.open, bars.high, bars.low, bars.close, where, prices, reason,
    )  # fmt: skip
    entered = where[:, 0] >= 0
    volume = dollar_volume(bars, rows)
    each_way = slippage(volume, config) + config.commission
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(entered, prices[:, 1] / np.where(entered, prices[:, 0], 1.0), np.nan)
    return table.assign(
        entry_row=where[:, 0],
        exit_row=where[:, 1],
        entry_price=prices[:, 0],
        exit_price=prices[:, 1],
        reason=reason,
        gross=ratio - 1.0,
        cost=np.where(entered, each_way * (1.0 + ratio), np.nan),
        net=np.where(entered, ratio * (1.0 - each_way) - 1.0 - each_way, np.nan),
        dollar_volume=volume,
    )
