"""The sessions that labels and embargoes are counted in, against the bars themselves and against plain counting."""

from __future__ import annotations

import numpy as np

from k4_pipeline.leakage.engine.audit import AuditContext, check, day_text, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison
from k4_pipeline.market import calendar
from k4_pipeline.market.bars import Bars
from k4_pipeline.verdict import Verdict

ENOUGH_TICKERS = 5
ODD_SHARE = 0.02  # of the days: a holiday that a vendor filled, a special closing that no calendar knows


def majority_days(bars: Bars, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Days on which most of the listed tickers `codes` have a bar, and days on which some have and most have not."""
    days = np.unique(np.concatenate([bars.date[bars.offsets[c] : bars.offsets[c + 1]] for c in codes]))
    traded, listed = np.zeros(len(days), dtype=int), np.zeros(len(days), dtype=int)
    for c in codes:
        own = bars.date[bars.offsets[c] : bars.offsets[c + 1]]
        traded[np.searchsorted(days, own)] += 1
        listed[np.searchsorted(days, own[0]) : np.searchsorted(days, own[-1]) + 1] += 1
    enough = listed >= ENOUGH_TICKERS
    return days[enough & (2 * traded > listed)], days[enough & (2 * traded <= listed)]


def _some_missing(context: AuditContext) -> AuditContext:
    return AuditContext(context.full, context.sample, context.today, {**context.extra, "calendar": "some missing"})


def _one_too_few(context: AuditContext) -> AuditContext:
    return AuditContext(context.full, context.sample, context.today, {**context.extra, "calendar": "one too few"})


@check(
    "labels",
    proves="The days on which most tickers of an exchange trade are its sessions, its sessions are days on which they "
    "trade, and the n-th session after a day is found by counting: no label is known a session too early.",
    misses="Exchanges with fewer than five listed tickers; single days that a vendor left out for everybody.",
    corruptions=(_some_missing, _one_too_few),
)
def sessions_are_the_days_on_which_tickers_trade(context: AuditContext) -> Verdict:
    """Count with the bars."""
    bars, out = context.full.bars, Comparison()
    fault = context.extra.get("calendar", "")
    exchanges = [calendar.exchange_of(str(t), context.config.cleaning.default_exchange) for t in bars.tickers]
    for exchange in sorted(set(exchanges)):
        codes = np.flatnonzero(np.array(exchanges) == exchange)
        first, last = int(bars.date[bars.offsets[codes]].min()), int(bars.date[bars.offsets[codes + 1] - 1].max())
        sessions = calendar.sessions(exchange, first, last).astype(np.int64)
        if fault == "some missing":
            sessions = np.delete(sessions, slice(None, None, 20))
        out.merge(_counted(context, exchange, sessions, one_less=fault == "one too few"))
        if len(codes) < ENOUGH_TICKERS:
            continue
        most, few = majority_days(bars, codes)
        inside = sessions[(sessions >= most.min(initial=last)) & (sessions <= most.max(initial=first))]
        for odd, what in (
            (np.setdiff1d(most, sessions), f"most tickers traded, and {exchange} has no session"),
            (np.setdiff1d(inside, [*most, *few]), f"{exchange} has a session, and no ticker traded"),
        ):
            wrong = len(odd) > max(2, ODD_SHARE * len(most))
            out.add(len(most), len(odd) * wrong, (f"calendar: {day_text(int(d))}: {what}" for d in odd[: 5 * wrong]))
    return verdict_of(out, exchanges=len(set(exchanges)))


def _counted(context: AuditContext, exchange: str, sessions: np.ndarray, *, one_less: bool) -> Comparison:
    """`session_offset` and `sessions_between` on sampled days, by counting through the list of sessions."""
    out, config = Comparison(), context.config.labels
    steps = sorted({1, 2, config.delisted_after_sessions + 1, config.horizon_bars})
    steps = [n for n in steps if n < len(sessions) - 1]
    days = context.rng(31).choice(sessions, min(20, len(sessions)), replace=False) if len(sessions) else sessions
    for day in map(int, days):
        later = sessions[sessions > day].tolist()
        for n in (n for n in steps if n <= len(later)):
            wanted = later[n - 1] - one_less
            got = int(calendar.session_offset(exchange, day, n)), int(calendar.sessions_between(exchange, day, wanted))
            wrong = got != (wanted, n)
            right = f"session {n} of {exchange} after {day_text(day)} is {day_text(wanted)}"
            text = f"calendar: {right}, not {day_text(got[0])}"
            out.add(1, int(wrong), [text] * wrong)
    return out
