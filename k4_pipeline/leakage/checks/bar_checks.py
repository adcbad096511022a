"""Checks of the bars: kept rows are rows as sent, and cleaning passes a test of known traps.

That a bar does not depend on later bars is shown by the replays. Two things a replay cannot see are looked at here: a
value that is not the one sent for that day (shifted by a time zone, filled, taken from a later correction), and traps
that the data at hand may not contain.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import CleaningConfig
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison, shown
from k4_pipeline.leakage.oracles.reader import as_sent
from k4_pipeline.market import cleaning
from k4_pipeline.market.bars import PRICE_COLUMNS, Bars, to_dates
from k4_pipeline.market.sources.base import RawBars
from k4_pipeline.verdict import Verdict

VALUES = (*PRICE_COLUMNS, "volume")


def written_date(value: Any) -> str:
    """The calendar date as it is written in a stamp, in the stamp's own time zone; "" when there is none to read."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return ""
    text = value.isoformat() if hasattr(value, "isoformat") else str(value).strip()
    return text[:10] if len(text) >= 10 and text[4] == "-" and text[7] == "-" else ""


def _shifted(bars: Bars, **columns: np.ndarray) -> Bars:
    old = {c: getattr(bars, c) for c in ("tickers", "offsets", "date", *VALUES)}
    return Bars(**{**old, **columns})


def _a_day_later(context: AuditContext) -> AuditContext:
    return context.with_full(bars=_shifted(context.full.bars, date=context.full.bars.date + np.int32(1)))


def _filled(context: AuditContext) -> AuditContext:
    close = context.full.bars.close.copy()
    close[10] = (close[9] + close[11]) / 2 + 0.001
    return context.with_full(bars=_shifted(context.full.bars, close=close))


@check(
    "bars",
    proves="Every kept bar has the date and the numbers of a row that was sent for it, contradicting rows are not "
    "kept, and kept and refused rows add up to what was sent. Nothing is filled, averaged, shifted or invented.",
    misses="What the vendor itself revised; dates in formats other than year-month-day (counted in `unreadable`).",
    needs=("raw",),
    corruptions=(_a_day_later, _filled),
)
def every_bar_is_a_row_as_sent(context: AuditContext) -> Verdict:
    """Look every kept bar up among the raw rows, by ticker and written date."""
    raw, full, out = context.full.raw, context.full, Comparison()
    assert raw is not None
    sent = pd.DataFrame(
        {
            "ticker": raw.frame["ticker"].astype(object).map(lambda t: "" if t is None or t != t else str(t).strip()),
            "date": raw.frame["date"].map(written_date),
            **{c: pd.to_numeric(raw.frame[c], errors="coerce").to_numpy(dtype=np.float64) for c in VALUES},
        }
    )
    unreadable = int((sent["date"] == "").sum())
    kept = full.bars.to_frame()
    kept["date"] = kept["date"].dt.strftime("%Y-%m-%d").astype(object)
    kept["ticker"], sent["ticker"] = as_sent(kept["ticker"]), as_sent(sent["ticker"])
    joined = kept.merge(sent, on=["ticker", "date"], how="left", suffixes=("", "_sent"), indicator=True)
    nowhere = joined["_merge"] == "left_only"
    if unreadable == 0:
        out.add(
            len(kept),
            int(nowhere.sum()),
            (
                f"daily_bars: {r.ticker} {r.date}: no row was sent for this day; it was filled, shifted or invented"
                for r in joined[nowhere].head(10).itertuples()
            ),
        )
    there = joined[~nowhere]
    same = np.ones(len(there), dtype=bool)
    for c in VALUES:
        same &= there[c].to_numpy() == there[f"{c}_sent"].to_numpy()
    per_key = pd.DataFrame({"ticker": there["ticker"], "date": there["date"], "same": same})
    counts = per_key.groupby(["ticker", "date"], sort=False)["same"].agg(["any", "all"])
    other, contradicted = counts[~counts["any"]], counts[counts["any"] & ~counts["all"]]
    # A bar whose other version was refused for its own fault (a missing close, say) has no valid contradiction.
    contradicted = contradicted.loc[
        [_is_sane_contradiction(there, key, context.config.cleaning) for key in contradicted.index]
    ]
    cause = "adjusted, repaired or taken from another day"
    out.add(
        len(counts),
        len(other),
        (f"daily_bars: {t} {d}: values differ from every row sent for it; {cause}" for t, d in other.index[:10]),
    )
    out.add(
        0,
        len(contradicted),
        (
            f"daily_bars: {t} {d}: kept although another valid row for the day says otherwise; a later "
            "correction may have "
            "replaced what was known"
            for t, d in contradicted.index[:10]
        ),
    )
    if full.rejects is not None:
        total = len(full.bars) + len(full.rejects)
        wrong = total != len(raw.frame)
        out.add(1, int(wrong), [f"daily_bars: {len(raw.frame)} rows were sent, {total} are kept or refused"] * wrong)
    if context.today is not None:
        limit = pd.Timestamp(context.today).strftime("%Y-%m-%d")
        strict = context.config.cleaning.todays_bar == "reject"
        late = kept["date"] >= limit if strict else kept["date"] > limit
        out.add(
            len(kept),
            int(late.sum()),
            (
                f"daily_bars: {r.ticker} {r.date}: dated today or later (today is {limit}); it may be partial"
                for r in kept[late].head(5).itertuples()
            ),
        )
    return verdict_of(out, rows_sent=len(sent), unreadable=unreadable)


def _is_sane_contradiction(there: pd.DataFrame, key: tuple[str, str], config: CleaningConfig) -> bool:
    rows = there[(there["ticker"] == key[0]) & (there["date"] == key[1])]
    v = {c: rows[f"{c}_sent"].to_numpy() for c in VALUES}
    with np.errstate(invalid="ignore"):
        sane = np.logical_and.reduce([np.isfinite(x) for x in v.values()])
        sane &= np.logical_and.reduce([v[c] > 0 for c in PRICE_COLUMNS]) & (v["volume"] >= 0) & (v["high"] >= v["low"])
        for c in ("open", "close"):
            sane &= (v[c] >= v["low"] * (1 - config.range_tolerance)) & (
                v[c] <= v["high"] * (1 + config.range_tolerance)
            )
    return len({tuple(v[c][i] for c in VALUES) for i in np.flatnonzero(sane)}) > 1


TODAY = dt.date(2020, 6, 1)


def trap_rows() -> tuple[pd.DataFrame, dict[tuple[str, str], float | None]]:
    """Raw rows with known traps, and for each trapped (ticker, date) the close that must be kept (None: no bar)."""
    days = pd.bdate_range("2020-04-01", periods=40)
    rows: list[dict[str, Any]] = []

    def add(ticker: str, date: object, close: object, volume: float = 100.0) -> None:
        price = close if isinstance(close, float) and close == close else 10.0
        rows.append(
            {
                "ticker": ticker,
                "date": date,
                "open": price,
                "high": price * 1.02,
                "low": price * 0.98,
                "close": close,
                "volume": volume,
                "source": "traps",
            }
        )

    for i, day in enumerate(days):
        text = day.strftime("%Y-%m-%d")
        if i != 20:
            add("GAP", text, 10.0 + 0.1 * i)  # one session was never sent: nothing may stand there
        add("REVISED", text, 20.0 + 0.1 * i)
        add("MISSING", text, 30.0 + 0.1 * i if i != 15 else float("nan"))
        add("ZONED", f"{text}T22:30:00-05:00", 40.0 + 0.1 * i)  # already the next day in UTC
        add("TODAY", text, 50.0 + 0.1 * i)
    at = {i: days[i].strftime("%Y-%m-%d") for i in range(len(days))}
    add("REVISED", at[10], 99.0)  # sent later, says something else about the past
    add("REVISED", at[12], 20.0 + 0.1 * 12)  # the same again
    today, tomorrow = TODAY.isoformat(), (TODAY + dt.timedelta(days=1)).isoformat()
    add("TODAY", today, 77.0)
    add("TODAY", tomorrow, 78.0)
    expected: dict[tuple[str, str], float | None] = {
        ("GAP", at[20]): None,
        ("GAP", at[19]): 10.0 + 0.1 * 19,
        ("GAP", at[21]): 10.0 + 0.1 * 21,
        ("REVISED", at[10]): None,
        ("REVISED", at[12]): 20.0 + 0.1 * 12,
        ("MISSING", at[15]): None,
        ("MISSING", at[14]): 30.0 + 0.1 * 14,
        ("ZONED", at[5]): 40.0 + 0.1 * 5,
        ("ZONED", at[6]): 40.0 + 0.1 * 6,
        ("TODAY", today): None,
        ("TODAY", tomorrow): None,
        ("TODAY", at[39]): 50.0 + 0.1 * 39,
    }
    return pd.DataFrame(rows), expected


def _keep_the_last(context: AuditContext) -> AuditContext:
    context = context.with_full()
    context.extra = {**context.extra, "trap": ("REVISED", "2020-04-15", 99.0)}
    return context


@check(
    "bars",
    proves="On a crafted universe cleaning keeps no bar of today or later, takes no later correction, fills no gap "
    "from the next day, and dates a bar by the calendar day of its own stamp.",
    misses="Traps that are not among the crafted ones.",
    corruptions=(_keep_the_last,),
)
def cleaning_passes_a_test_of_known_traps(context: AuditContext) -> Verdict:
    """Clean crafted rows whose right answer is known."""
    name = "cleaning_passes_a_test_of_known_traps"
    frame, expected = trap_rows()
    if "trap" in context.extra:  # the self-test asks for a wrong answer
        ticker, date, close = context.extra["trap"]
        expected = {**expected, (ticker, date): close}
    raw = RawBars(frame)
    bars = cleaning.clean_bars(raw, CleaningConfig(), today=TODAY).bars
    code = np.repeat(np.arange(bars.n_tickers), np.diff(bars.offsets))
    dates = [str(d)[:10] for d in to_dates(bars.date)]
    kept = {(str(bars.tickers[c]), d): float(x) for c, d, x in zip(code, dates, bars.close)}
    sent = {(t, written_date(d)) for t, d in zip(frame["ticker"], frame["date"])}
    findings = [
        f"daily_bars: {t} {d}: close is {shown(kept.get((t, d)))}, expected {shown(close)}"
        for (t, d), close in expected.items()
        if kept.get((t, d)) != close
    ]
    findings += [f"daily_bars: {t} {d}: kept, but never sent" for t, d in sorted(set(kept) - sent)]
    return Verdict.of(name, len(expected) + len(kept), findings, traps=len(expected))
