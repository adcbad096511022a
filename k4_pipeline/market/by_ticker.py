"""The summary of a source ticker by ticker: what was sent, kept and refused of each, and what is odd about it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.market import calendar
from k4_pipeline.market.bars import to_day
from k4_pipeline.market.cleaning import CleanResult
from k4_pipeline.market.quality import duplicates_of
from k4_pipeline.market.series import original_ticker
from k4_pipeline.market.sources import RawBars

Row = dict[str, Any]


def by_ticker(
    raw: RawBars, result: CleanResult, complete: pd.DataFrame, now: dt.datetime, default_exchange: str
) -> dict[str, Row]:
    """Listing -> rows_read, rows_refused and refused (by reason) of its ticker, bars, prices (adjusted or raw), first,
    last, sessions_behind the clock, missing_sessions, longest_gap_sessions, off_session_share, jumps, duplicate_of.

    A ticker of which nothing was kept stands there too, with 0 bars.
    """
    refused = refused_by_ticker(result.rejects)
    prices, duplicates = _prices(raw), duplicates_of(result.bars)
    today = to_day(now.date())
    out: dict[str, Row] = {}
    for row in complete.to_dict("records"):
        name = str(row["ticker"])
        sent = original_ticker(name)
        sent = sent if sent in result.read_by_ticker else name
        reasons = refused.get(sent, {})
        last = to_day(row["last_date"])
        exchange = calendar.exchange_of(name, default_exchange)
        out[name] = {
            "rows_read": int(result.read_by_ticker.get(sent, row["bars"])),
            "rows_refused": sum(reasons.values()),
            "refused": reasons,
            "bars": int(row["bars"]),
            "prices": prices.get(sent, "raw"),
            "first": str(row["first_date"].date()),
            "last": str(row["last_date"].date()),
            "sessions_behind": max(0, int(calendar.sessions_between(exchange, last, today - 1))),
            "missing_sessions": int(row["missing_sessions"]),
            "longest_gap_sessions": int(row["longest_gap_sessions"]),
            "off_session_share": round(row["off_session_bars"] / max(1, row["bars"]), 4),
            "jumps": int(row["suspicious_jumps"]),
            "duplicate_of": duplicates.get(name, ""),
        }
    kept = {original_ticker(name) for name in out} | out.keys()
    return out | {name: nothing_kept(reasons) for name, reasons in refused.items() if name not in kept}


def refused_by_ticker(rejects: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Ticker as sent -> reason -> rows, commonest first."""
    out: dict[str, dict[str, int]] = {}
    counts = rejects.groupby("ticker", sort=False)["reason"].value_counts().reset_index(name="count")
    for row in counts.to_dict("records"):
        out.setdefault(str(row["ticker"]).strip(), {})[str(row["reason"])] = int(row["count"])
    return out


def nothing_kept(reasons: dict[str, int]) -> Row:
    """The row of a ticker of which nothing was kept."""
    n = sum(reasons.values())
    return {"rows_read": n, "rows_refused": n, "refused": reasons, "bars": 0}


def _prices(raw: RawBars) -> dict[str, str]:
    """Ticker -> the set of prices used, by the file of its first row."""
    codes, names = pd.factorize(raw.frame["ticker"])
    _, first = np.unique(codes[codes >= 0], return_index=True)
    files = raw.frame["source"].iloc[np.flatnonzero(codes >= 0)[first]].astype(str)
    used = (str(raw.dialects.get(file, {}).get("prices", "raw")) for file in files)
    return {str(name).strip(): prices for name, prices in zip(names, used)}
