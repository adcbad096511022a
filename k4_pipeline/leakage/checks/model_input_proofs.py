"""Proofs about what only the models read: context features and training windows, stored against bars cut at dates.

What holds of a context feature: its value dated d is a function of the bars dated <= d of the tickers that have a bar
on d. What they do not catch: a use of the future that leaves every value dated up to the sampled cut-offs unchanged.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS, PipelineConfig
from k4_pipeline.features import context as features_context
from k4_pipeline.features.context import CONTEXT_NAMES
from k4_pipeline.leakage.engine.compare import ROW_NUMBERS, Comparison, compare_arrays, compare_tables, differ
from k4_pipeline.market.bars import Bars, to_dates
from k4_pipeline.pipeline import training_windows
from k4_pipeline.verdict import Verdict

CUTS, TICKERS = 2, 16
WINDOW_COLUMNS: tuple[str, ...] = ("pattern_id", "n_valid", "upper", "lower", "power", "start_price", "prior_width")
WINDOW_COLUMNS += ("close_at_snapshot", "mean_volume", "qualifying_bars", "outcome_class", "label_end_date")


def _cut_days(bars: Bars, count: int, seed: int) -> np.ndarray:
    """`count` days of the second half of the sessions, none the last."""
    days = np.unique(bars.date)
    later = days[len(days) // 2 : -1]
    return np.sort(np.random.default_rng(seed).choice(later, min(count, len(later)), replace=False))


def no_context_feature_changes_when_later_bars_are_cut(bars: Bars, stored: np.ndarray, *, seed: int = 0) -> Verdict:
    """`stored` (n_bars, k) computed again on the whole universe cut at sampled dates: the same bits at and before."""
    out, days = Comparison(), _cut_days(bars, CUTS, seed)
    for day in days.tolist():
        past = bars.date <= day
        made, known = features_context.compute_context(bars.until(day)), np.asarray(stored)[past]
        wrong = differ(known, made)
        out.add(wrong.size, 0)
        if wrong.any():
            bad = wrong.any(axis=1)
            at = np.flatnonzero(past)[bad]
            code = np.searchsorted(bars.offsets, at, side="right") - 1
            keys = pd.DataFrame({"ticker": bars.tickers[code], "date": to_dates(bars.date[at])})
            cause = "the context reads bars after its own date, or tickers that were not listed by then"
            when = f"bars cut at {np.datetime64(day, 'D')}"
            pair = (keys, known[bad], made[bad], CONTEXT_NAMES)
            key = ("ticker", "date")
            out.merge(compare_arrays("context_features", *pair, when=when, cause=cause, key_columns=key))
    name = "no_context_feature_changes_when_later_bars_are_cut"
    return Verdict.of(name, out.cases, out.findings, cuts=len(days), differing=out.differing)


def training_windows_do_not_depend_on_later_bars(
    bars: Bars, stored: pd.DataFrame, config: PipelineConfig, *, seed: int = 0
) -> Verdict:
    """Windows of a few tickers made again on bars cut at sampled dates: those whose label was known then, no more."""
    names = bars.tickers.astype(str)
    some = sorted(np.random.default_rng(seed).choice(names, min(TICKERS, len(names)), replace=False).tolist())
    mine, few, out = stored[stored["ticker"].isin(some)], bars.subset(some), Comparison()
    days = _cut_days(few, CUTS, seed)
    for day in days.tolist():
        stamp = pd.Timestamp(to_dates(np.array([day]))[0])
        known = mine[mine["label_end_date"] <= stamp].reset_index(drop=True)
        made = training_windows.index_windows(few.until(day), config)
        when = f"bars cut at {stamp.date()}"
        cause = "a training window, its geometry or its label depends on later bars, or is said to be known too early"
        columns = [c for c in WINDOW_COLUMNS if c not in ROW_NUMBERS]
        out.merge(compare_tables("training_windows", known, made, KEYS, columns, when=when, cause=cause))
    name = "training_windows_do_not_depend_on_later_bars"
    # Bars too short for a window leave nothing to compare.
    cases = out.cases or int(stored.empty)
    return Verdict.of(name, cases, out.findings, cuts=len(days), tickers=len(some), differing=out.differing)
