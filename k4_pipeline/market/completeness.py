"""How complete each ticker is against its calendar: missing sessions, gaps, odd bars. Listed, never mended."""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.config import CleaningConfig
from k4_pipeline.market import calendar
from k4_pipeline.market.bars import Bars, to_dates
from k4_pipeline.market.listings import stale_runs, suspicious_jumps


def completeness(bars: Bars, config: CleaningConfig) -> pd.DataFrame:
    """One row per ticker: what its calendar expects between its first and last bar, and what is there.

    Columns: ticker, exchange, first_date, last_date, bars (count), expected_sessions, missing_sessions,
    off_session_bars (bars on days without a session: a time zone that moved dates shows here), completeness (share of
    expected sessions that have a bar), longest_gap_sessions (most sessions missing in a row), gap_after (the last bar
    before that gap, NaT without one), zero_volume_bars, stale_bars (bars inside runs of unchanged closes, see
    `CleaningConfig.stale_bars`), suspicious_jumps, sessions_behind (sessions since its last bar until the newest bar of
    the universe). A function of the bars alone: it is a report, and nothing chooses tickers by it.
    """
    n = bars.n_tickers
    start, stop = bars.offsets[:-1], bars.offsets[1:]
    exchanges = [calendar.exchange_of(t, config.default_exchange) for t in bars.tickers]
    first, last = bars.date[start], bars.date[stop - 1]
    expected, off, longest, behind = (np.zeros(n, dtype=np.int64) for _ in range(4))
    gap_row = np.full(n, -1, dtype=np.int64)
    for exchange in sorted(set(exchanges)):
        table = calendar.sessions(exchange, int(bars.date.min()), int(bars.date.max()))
        for i in (i for i, e in enumerate(exchanges) if e == exchange):
            days = bars.date[start[i] : stop[i]]
            position = np.searchsorted(table, days, side="left")  # the bar's session, or the next one
            on = table[np.minimum(position, len(table) - 1)] == days if len(table) else np.zeros(len(days), dtype=bool)
            after = position + on  # sessions up to and including the bar's day
            expected[i] = after[-1] - position[0]
            off[i] = np.count_nonzero(~on)
            behind[i] = len(table) - after[-1]
            if len(days) > 1:
                skipped = position[1:] - after[:-1]
                widest = int(np.argmax(skipped))
                if skipped[widest] > 0:
                    longest[i], gap_row[i] = skipped[widest], start[i] + widest
    present = np.diff(bars.offsets) - off
    share = np.divide(present, expected, out=np.ones(n), where=expected > 0)
    gap_after = np.full(n, np.datetime64("NaT"), dtype="datetime64[us]")
    gap_after[gap_row >= 0] = to_dates(bars.date[gap_row[gap_row >= 0]])
    stale = stale_runs(bars, config.stale_bars).groupby("ticker")["bars"].sum()
    jumps = suspicious_jumps(bars, config.jump_factor).groupby("ticker").size()
    tickers = pd.Series(bars.tickers, dtype="str")
    return pd.DataFrame(
        {
            "ticker": tickers,
            "exchange": pd.Series(exchanges, dtype="str"),
            "first_date": to_dates(first),
            "last_date": to_dates(last),
            "bars": np.diff(bars.offsets),
            "expected_sessions": expected,
            "missing_sessions": expected - present,
            "off_session_bars": off,
            "completeness": share,
            "longest_gap_sessions": longest,
            "gap_after": gap_after,
            "zero_volume_bars": np.add.reduceat((bars.volume == 0).astype(np.int64), start),
            "stale_bars": tickers.map(stale).fillna(0).astype(np.int64),
            "suspicious_jumps": tickers.map(jumps).fillna(0).astype(np.int64),
            "sessions_behind": behind,
        }
    )


def absent_on_the_last_day(bars: Bars, config: CleaningConfig) -> tuple[list[str], int]:
    """Tickers with a bar on the day before the last one and none on the last, where their exchange had a session; and
    how many had a bar on the day before."""
    end = bars.offsets[1:] - 1
    last, before = bars.date[end], bars.date[np.maximum(end - 1, bars.offsets[:-1])]
    latest = np.where(last == bars.last_day, before, last)
    earlier = latest[latest < bars.last_day]
    if not len(earlier):
        return [], 0
    had = np.flatnonzero(latest == earlier.max())
    open_on_it = {
        exchange: len(calendar.sessions(exchange, bars.last_day, bars.last_day)) > 0
        for exchange in {calendar.exchange_of(bars.tickers[i], config.default_exchange) for i in had}
    }
    asked = [i for i in had if open_on_it[calendar.exchange_of(bars.tickers[i], config.default_exchange)]]
    return [str(bars.tickers[i]) for i in asked if last[i] != bars.last_day], len(asked)
