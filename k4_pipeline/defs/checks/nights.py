"""Propositions about night_bars, and that tonight's signals equal a full computation; on a sample every night."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.defs.checks.factory import Evidence, Proposition, checks_for
from k4_pipeline.verdict import Verdict

MOST_ABSENT = 0.2  # of the tickers, on the last day
SAMPLE = 8  # tickers read again with their whole history, others every night


def sample_of(names: list[str], night: str, n: int = SAMPLE) -> list[str]:
    """`n` of the names, by the hash of name and night."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{night}|{name}".encode()).hexdigest())[:n]


def read_whole(evidence: Evidence, tickers: list[str], ingested_at: str) -> Any:
    """The cleaned bars of `tickers` from their whole history in the source, as a full run would have them."""
    from k4_pipeline.market.newer import clean_part
    from k4_pipeline.market.series import original_ticker
    from k4_pipeline.market.sources.part import read_part

    config, now = evidence.config, dt.datetime.fromisoformat(ingested_at)
    raw = read_part(
        config.source,
        config.simulation,
        tickers=sorted({original_ticker(t) for t in tickers}),
        raw_dir=evidence.raw_dir,
        default_exchange=config.cleaning.default_exchange,
    )
    return clean_part(raw, config.cleaning, now.date(), now, config.cleaning.min_bars)[0]


def _sample_equals_the_source(evidence: Evidence) -> Verdict:
    from k4_pipeline.market.newer import COLUMNS
    from k4_pipeline.market.series import original_ticker
    from k4_pipeline.pipeline.stored_bars import bars_of, stored_newer

    name = "a_sample_equals_its_whole_history_read_again"
    bars, newer = bars_of(evidence.input("daily_bars"), evidence.ref), stored_newer(evidence.ref)
    grown = [str(t) for t in newer.added.tickers] or [str(t) for t in bars.tickers]
    tickers = sample_of(grown, evidence.ref.meta["last_date"])
    whole = read_whole(evidence, tickers, evidence.ref.meta["ingested_at"])
    originals = {original_ticker(t) for t in tickers}
    mine = {str(t) for t in bars.tickers if original_ticker(str(t)) in originals}
    findings = [
        f"{t}: the source has {'no' if t in mine else 'a'} history of it now" for t in mine ^ set(whole.tickers)
    ]
    for ticker in sorted(mine & set(whole.tickers)):
        a, b = bars.ticker_slice(ticker), whole.ticker_slice(ticker)
        for column in COLUMNS:
            x, y = getattr(bars, column)[a], getattr(whole, column)[b]
            if not np.array_equal(x, y):
                findings.append(f"{ticker}: {column} differs ({len(x)} bars added night by night, {len(y)} read whole)")
                break
    return Verdict.of(name, len(tickers), findings, tickers=", ".join(tickers))


def signals_equal_a_full_computation(evidence: Evidence) -> Verdict:
    """Probabilities of a sample of open patterns from the source read whole, compared to the last digit; of all open
    patterns where the bars are those of a full run."""
    from k4_pipeline.features.compute import compute_market_features
    from k4_pipeline.features.panel import FeaturePanel
    from k4_pipeline.patterns.snapshots import active_snapshots
    from k4_pipeline.pipeline.model_files import score_snapshots
    from k4_pipeline.pipeline.night import champion_too_old
    from k4_pipeline.pipeline.second_process import apart
    from k4_pipeline.pipeline.stored_bars import bars_of
    from k4_pipeline.sequences.windows import index_sequences

    name, table = "signals_equal_a_full_computation", evidence.table
    added = evidence.input("night_bars") if "night_bars" in evidence.ref.inputs else None
    daily = evidence.input("daily_bars")
    bars = bars_of(daily, added)
    if why := evidence.ref.meta.get("none_because"):
        as_of, night = evidence.ref.meta["champion"], evidence.ref.meta["night"]
        holds = champion_too_old(as_of, night, evidence.config) == why and not len(table)
        return Verdict.of(name, 1, [] if holds else [f"no signals were given, but it does not hold that {why}"])
    if not len(table):
        found = active_snapshots(bars, evidence.config.patterns)
        return Verdict.of(name, bars.n_tickers, [f"{t} is open and has no signal" for t in found["ticker"]])
    tickers = sorted(table["ticker"].tolist())
    part = bars.subset(tickers)
    if added is not None:  # else the bars were read whole a moment ago
        tickers = sample_of(tickers, evidence.ref.meta["night"])
        part = read_whole(evidence, tickers, added.meta["ingested_at"]).subset(tickers)
    open_now = active_snapshots(part, evidence.config.patterns)
    if sorted(open_now["ticker"]) != sorted(tickers):
        missing = sorted(set(tickers) - set(open_now["ticker"]))
        return Verdict.of(name, len(tickers), [f"{t}: no pattern is open in its history read whole" for t in missing])
    sequences = index_sequences(part, open_now)
    values = _context_of(bars, open_now["ticker"])
    context = np.full((len(part), values.shape[1]), np.nan, dtype=np.float32)
    context[sequences["end_row"].to_numpy()] = values
    scored = apart(
        score_snapshots,
        evidence.input("champion_model").dir,
        wanted=open_now.assign(split="open"),
        sequences=sequences,
        panel=FeaturePanel(
            compute_market_features(part), part.tickers, part.offsets, part.date, part.close, part.fingerprint()
        ),
        context=context,
        config=evidence.config,
    )
    columns = [c for c in table.columns if c.startswith("p_") and c in scored]
    both = scored.merge(table, on="ticker", suffixes=("", "_stored"), validate="1:1")
    findings = []
    for row in both.to_dict("records"):
        off = [c for c in columns if row[c] != row[f"{c}_stored"]]
        findings += (
            [f"{row['ticker']}: {off[0]} is {row[off[0] + '_stored']}, computed whole {row[off[0]]}"] if off else []
        )
    return Verdict.of(name, len(both), findings)


def _context_of(bars: Any, tickers: pd.Series) -> np.ndarray:
    """The context of the last bar of `tickers`, by the function that computes every bar, on the tail of each history
    that its longest look-back needs."""
    from k4_pipeline.features.context import HISTORY_BARS, compute_context
    from k4_pipeline.market.bars import Bars

    ends = bars.offsets[1:]
    kept = np.flatnonzero(bars.date[ends - 1] == bars.last_day)
    # Of the others only what is compared within the date is read, which needs no more than their last year.
    asked = np.isin(bars.tickers[kept].astype(str), tickers.to_numpy(dtype=str))
    lengths = np.minimum(np.diff(bars.offsets)[kept], np.where(asked, HISTORY_BARS, 260))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = np.repeat(ends[kept] - offsets[1:], lengths) + np.arange(int(offsets[-1]))
    columns = {c: getattr(bars, c)[rows] for c in ("date", "open", "high", "low", "close", "volume")}
    recent = Bars(bars.tickers[kept], offsets, **columns)
    values = compute_context(recent)
    return values[[recent.ticker_slice(t).stop - 1 for t in tickers]]


def _new_rows_follow_the_last_day(evidence: Evidence) -> Verdict:
    last = pd.Timestamp(evidence.input("daily_bars").meta["last_date"])
    table = evidence.table
    early = table[table["date"] <= last]
    findings = [f"{row.ticker}: {row.date.date()} was known before" for row in early.itertuples()]
    return Verdict.of("every_new_bar_follows_the_last_known_day", max(len(table), 1), findings)


def _newest_session_is_complete(evidence: Evidence) -> Verdict:
    from k4_pipeline.market.completeness import absent_on_the_last_day
    from k4_pipeline.pipeline.stored_bars import bars_of, night_of

    bars = bars_of(evidence.input("daily_bars"), evidence.ref)
    absent, n = absent_on_the_last_day(bars, evidence.config.cleaning)
    findings = []
    if len(absent) > MOST_ABSENT * n:
        findings.append(
            f"{len(absent)} of {n} tickers that had a bar the session before have none on {night_of(bars)} "
            f"({', '.join(absent[:5])}, ...): their open patterns are not scored, and ranks of that date compare the "
            "others alone. Start `k4 nightly` again when the source has them"
        )
    return Verdict.of("the_newest_session_is_complete", max(n, 1), findings)


CHECKS = [
    checks_for(
        "night_bars",
        [
            Proposition(
                "every_new_bar_follows_the_last_known_day",
                _new_rows_follow_the_last_day,
                description="What is added lies after the last day of daily_bars.",
            ),
            Proposition(
                "a_sample_equals_its_whole_history_read_again",
                _sample_equals_the_source,
                description=f"{SAMPLE} tickers, others every night: their whole history, read and cleaned again, is "
                "what the nights added up to, to the last digit. A correction of the past that the overlap did not "
                "show fails here; a full run takes it in.",
            ),
            Proposition(
                "the_newest_session_is_complete",
                _newest_session_is_complete,
                blocking=False,
                description=f"No more than {MOST_ABSENT:.0%} of the tickers that had a bar the session before have "
                "none on the last day: a source that lags for a part of them would leave their patterns out.",
            ),
        ],
    ),
]
