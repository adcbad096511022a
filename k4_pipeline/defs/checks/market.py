"""Propositions about daily_bars and market_features."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np

from k4_pipeline.defs.checks.factory import Evidence, Proposition, checks_for, schema_proposition
from k4_pipeline.defs.checks.features import FEATURE_PROOFS
from k4_pipeline.defs.staging import bar_chunks, load_bars, load_panel, load_table
from k4_pipeline.verdict import Verdict


def _bars_schema(evidence: Evidence) -> Any:
    from k4_pipeline.schemas.daily_bars import DAILY_BARS

    return DAILY_BARS


def _no_bar_in_the_future(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.propositions import no_bar_lies_in_the_future

    return no_bar_lies_in_the_future(load_bars(evidence.ref), dt.datetime.now(dt.UTC).date())


def _every_rejected_row_has_a_reason(evidence: Evidence) -> Verdict:
    from k4_pipeline.schemas import validate
    from k4_pipeline.schemas.rejects import REJECTS

    rejects = load_table(evidence.ref, "rejects")
    findings = validate(REJECTS, rejects)
    counts = evidence.ref.meta["counts"]
    if counts["read"] != len(evidence.table) + len(rejects):
        findings.append(
            f"{counts['read']} rows were read, but {len(evidence.table)} are kept and {len(rejects)} rejected"
        )
    return Verdict.of("every_row_read_is_kept_or_rejected", counts["read"], findings, rejected=len(rejects))


def _few_rows_were_refused(evidence: Evidence) -> Verdict:
    from k4_pipeline.market.quality import few_rows_were_refused

    read = evidence.json("summary.json")["read_by_ticker"]
    findings = few_rows_were_refused(load_table(evidence.ref, "rejects"), read)
    return Verdict.of("few_rows_were_refused", len(read), findings)


def _refused_rows_have_nothing_in_common(evidence: Evidence) -> Verdict:
    from k4_pipeline.market.quality import refused_rows_have_something_in_common

    bars, rejects = load_bars(evidence.ref), load_table(evidence.ref, "rejects")
    findings = refused_rows_have_something_in_common(rejects, bars)
    return Verdict.of("refused_rows_have_nothing_in_common", len(bars) + len(rejects), findings, refused=len(rejects))


def _bars_are_daily_and_on_sessions(evidence: Evidence) -> Verdict:
    from k4_pipeline.market.quality import series_that_are_not_daily

    complete = load_table(evidence.ref, "completeness")
    findings = series_that_are_not_daily(load_table(evidence.ref, "rejects"), complete)
    return Verdict.of("bars_are_daily_and_on_sessions", len(complete), findings)


def _panel_matches_the_bars(evidence: Evidence) -> Verdict:
    from k4_pipeline.features.spec import feature_list_hash
    from k4_pipeline.market.bars import BarsFingerprint

    panel = load_panel(evidence.ref)
    findings: list[str] = []
    stored, tickers, n_bars = BarsFingerprint(), 0, 0
    for bars in bar_chunks(evidence.input("daily_bars")):
        stored.update(bars)
        rows = slice(n_bars, n_bars + len(bars))
        if not np.array_equal(panel.date[rows], bars.date) or not np.array_equal(panel.close[rows], bars.close):
            findings.append(f"the panel's rows from {n_bars} on are not the bars of {bars.tickers[0]} and after it")
        known = slice(tickers, tickers + bars.n_tickers)
        starts = panel.offsets[1:][known] - n_bars
        if list(panel.tickers[known]) != list(bars.tickers) or not np.array_equal(starts, bars.offsets[1:]):
            findings.append(
                f"the panel's tickers from number {tickers} on are not {bars.tickers[0]} and those after it"
            )
        tickers, n_bars = tickers + bars.n_tickers, n_bars + len(bars)
    if len(panel) != n_bars or len(panel.tickers) != tickers:
        findings.append(
            f"the panel has {len(panel)} rows of {len(panel.tickers)} tickers, the bars {n_bars}, {tickers}"
        )
    if panel.bars_fingerprint != stored.hexdigest():
        findings.append(f"computed from bars {panel.bars_fingerprint[:12]}; stored are {stored.hexdigest()[:12]}")
    if evidence.ref.meta["feature_list_hash"] != feature_list_hash():
        findings.append(f"feature list {evidence.ref.meta['feature_list_hash']}, declared is {feature_list_hash()}")
    return Verdict.of("every_panel_row_is_its_bar", n_bars, findings)


def _panel_values(evidence: Evidence) -> Verdict:
    from k4_pipeline.config import N_MARKET_FEATURES

    panel = load_panel(evidence.ref)
    values, findings, missing = panel.values, [], 0
    if values.ndim != 2 or values.shape[1] != N_MARKET_FEATURES or values.dtype != np.float32:
        findings.append(f"shape {values.shape} {values.dtype}; expected (bars, {N_MARKET_FEATURES}) float32")
    for start, part in panel.blocks():
        infinite = np.argwhere(np.isinf(part))
        findings += [f"row {start + r}, channel {c} is infinite" for r, c in infinite[:5]]
        missing += int(np.isnan(part).sum())
    share = missing / max(values.size, 1)
    return Verdict.of("market_features_match_their_schema", len(values), findings, share_not_available=share)


CHECKS = [
    checks_for(
        "daily_bars",
        [
            schema_proposition("daily_bars", _bars_schema),
            Proposition("no_bar_lies_in_the_future", _no_bar_in_the_future, description="No bar is dated after today."),
            Proposition(
                "every_row_read_is_kept_or_rejected",
                _every_rejected_row_has_a_reason,
                description="Rows read = rows kept + rows rejected, and each reject names its reason.",
            ),
            Proposition(
                "few_rows_were_refused",
                _few_rows_were_refused,
                blocking=False,
                description="No ticker loses more than 2% of its rows.",
            ),
            Proposition(
                "refused_rows_have_nothing_in_common",
                _refused_rows_have_nothing_in_common,
                blocking=False,
                description="Rows are not refused far more often in one month, weekday or price range.",
            ),
            Proposition(
                "bars_are_daily_and_on_sessions",
                _bars_are_daily_and_on_sessions,
                blocking=False,
                description="No ticker is intraday, weekly, or beside the sessions of its exchange.",
            ),
        ],
    ),
    checks_for(
        "market_features",
        [
            Proposition(
                "market_features_match_their_schema",
                _panel_values,
                description="Row-major float32, 55 channels, no infinity; NaN only stands for 'not available'.",
            ),
            Proposition(
                "every_panel_row_is_its_bar",
                _panel_matches_the_bars,
                description="Row i of the panel is row i of the bars, by ticker, date and fingerprint.",
            ),
            *FEATURE_PROOFS,
        ],
    ),
]
