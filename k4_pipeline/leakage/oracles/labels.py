"""The label of a snapshot computed a second time, in plain Python from docs/patterns.md, sharing no code with
patterns/labels.py but the exchange calendar. It is what stored labels and label ends are compared with.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np
import pandas as pd

from k4_pipeline.config import K2, K3, K4, K5, LabelConfig
from k4_pipeline.market import calendar
from k4_pipeline.market.bars import Bars, to_day, to_days


@dataclass(frozen=True)
class OracleLabel:
    """Class 0..5 or None, day on which it is known or None, whether the history ended first, bars raced."""

    outcome: int | None
    known_on: int | None
    censored: bool
    bars: int


UNKNOWN = OracleLabel(None, None, False, 0)


@dataclass(frozen=True)
class TickerHistory:
    """One ticker as plain lists."""

    days: list[int]
    gain: list[float]
    loss: list[float]
    sessions: list[int]  # of its exchange, ascending

    @classmethod
    def of(cls, bars: Bars, ticker: str, config: LabelConfig, default_exchange: str) -> TickerHistory:
        """The bars of `ticker`, with the price the race is measured on."""
        rows = bars.ticker_slice(ticker)
        close = config.measured_on == "close"
        days = bars.date[rows].tolist()
        exchange = calendar.exchange_of(ticker, default_exchange)
        far = days[-1] + 4 * (config.horizon_bars + config.delisted_after_sessions) + 60
        return cls(
            days,
            (bars.close if close else bars.high)[rows].tolist(),
            (bars.close if close else bars.low)[rows].tolist(),
            calendar.sessions(exchange, days[0], far).tolist(),
        )

    def session_after(self, day: int, n: int) -> int:
        """The n-th session strictly after `day`."""
        return self.sessions[bisect_right(self.sessions, day) + n - 1]


def race(gain: list[float], loss: list[float], upper: float, lower: float, config: LabelConfig) -> int:
    """The class of the bars after the snapshot, in order."""
    floor = (1.0 - config.stop_loss) * lower
    targets = [(1.0 + share) * upper for share in config.gain_thresholds]

    def reached(prices: list[float]) -> int:
        top = max(prices, default=float("-inf"))
        return sum(1 for target in targets if top >= target)

    if config.labeling == "first_breach":
        for high, low in zip(gain, loss):
            if low <= floor:
                return K5
            if high >= targets[K4 - 1]:
                return K4
            if high >= targets[K3 - 1]:
                return K3
        return min(reached(gain), K2)
    stop = next((i for i, low in enumerate(loss) if low <= floor), None)
    best = reached(gain if stop is None else gain[:stop])
    if stop is None:
        return best
    if best == 0:
        return K5
    if best == K3 and reached(gain[stop:]) == K4:
        return K4
    return best


def oracle_label(
    history: TickerHistory, snapshot_day: int, upper: float, lower: float, config: LabelConfig, data_end: int
) -> OracleLabel:
    """The label of one snapshot as known on `data_end`; its bar must exist."""
    days, h, patience = history.days, config.horizon_bars, config.delisted_after_sessions
    i = bisect_left(days, snapshot_day)
    calendar_end = history.session_after(snapshot_day, h)
    for last in range(i, min(i + h, len(days))):
        following = days[last + 1] if last + 1 < len(days) else None
        if following is not None and following - days[last] <= patience + 1:
            continue  # so many sessions take at least so many days
        ended = history.session_after(days[last], patience + 1)
        if following is not None and following <= ended:
            continue
        known = max(calendar_end, ended)
        if (following is None or known < following) and known <= data_end:
            outcome = race(history.gain[i + 1 : last + 1], history.loss[i + 1 : last + 1], upper, lower, config)
            return OracleLabel(outcome, known, True, last - i)
    end = i + h
    if end < len(days) and days[end] <= data_end:
        outcome = race(history.gain[i + 1 : end + 1], history.loss[i + 1 : end + 1], upper, lower, config)
        return OracleLabel(outcome, days[end], False, h)
    return UNKNOWN


def oracle_labels(
    bars: Bars, rows: pd.DataFrame, config: LabelConfig, default_exchange: str, data_end: int | None = None
) -> list[OracleLabel]:
    """The labels of `rows` (ticker, snapshot_date, upper, lower), in order."""
    end = bars.last_day if data_end is None else to_day(data_end)
    histories: dict[str, TickerHistory] = {}
    out = []
    days = to_days(rows["snapshot_date"])
    columns = (rows["ticker"].astype(object), days, rows["upper"].astype(float), rows["lower"].astype(float))
    for ticker, day, upper, lower in zip(*(np.asarray(c).tolist() for c in columns)):
        if ticker not in histories:
            histories[ticker] = TickerHistory.of(bars, ticker, config, default_exchange)
        out.append(oracle_label(histories[ticker], day, upper, lower, config, end))
    return out
