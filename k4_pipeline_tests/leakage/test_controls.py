"""Negative controls destroy what there is to learn, find nothing in it, and notice a leak that survives."""

from __future__ import annotations

import numpy as np
import pytest

from k4_pipeline.leakage import controls
from k4_pipeline.leakage import path as production
from k4_pipeline.leakage.small import SMALL_AS_OF


def test_shuffling_keeps_the_class_mix_of_every_month(context):
    labeled = context.full.labeled
    dealt = controls.shuffled_within_date(labeled, np.random.default_rng(0))
    month = labeled["snapshot_date"].dt.to_period("M")
    for part, rows in labeled.groupby(month):
        before, after = rows["outcome_class"].value_counts(), dealt.loc[rows.index, "outcome_class"].value_counts()
        assert before.sort_index().equals(after.sort_index()), part
    known = labeled["outcome_class"].notna()
    assert (dealt.loc[known, "outcome_class"] != labeled.loc[known, "outcome_class"]).mean() > 0.3
    assert dealt["label_end_date"].equals(labeled["label_end_date"])


def test_shifted_labels_begin_after_the_own_window(context):
    full, horizon = context.full, context.config.labels.horizon_bars
    shifted = controls.shifted_by_one_horizon(full.labeled, full.bars, horizon)
    known = shifted["outcome_class"].notna() & full.labeled["outcome_class"].notna()
    assert known.sum() > 100
    assert (shifted.loc[known, "label_end_date"] > full.labeled.loc[known, "label_end_date"]).mean() > 0.99


def test_reversed_bars_are_bars(context):
    bars = context.full.bars
    turned = controls.time_reversed(bars)
    assert (turned.high >= np.maximum(turned.open, turned.close) * 0.99).all()
    first = bars.ticker_slice(bars.tickers[0])
    assert np.array_equal(turned.close[first], bars.open[first][::-1])
    assert np.array_equal(turned.date, bars.date)


def test_too_little_evidence_is_a_failure(context):
    verdict = controls.judge("x", context.full)
    strict = controls.MIN_K4_TICKERS
    k4 = context.full.scored[context.full.scored["outcome_class"] == 4]
    assert (k4["ticker"].nunique() >= strict) or not verdict.passed


@pytest.mark.slow
def test_every_control_scores_at_base_rate():
    report = controls.run_controls(seed=0)
    assert len(report.verdicts) == 4
    assert report.passed, [(v.name, v.findings, v.detail) for v in report.verdicts if not v.passed]


@pytest.mark.slow
def test_a_leak_that_survives_the_shuffling_is_noticed():
    path = controls.shuffled_labels(0)
    is_k4 = (path.labeled["outcome_class"] == 4).fillna(False).to_numpy(dtype=bool)
    # The geometry tells the class: a prior range ten times as wide, and a long qualification.
    width = path.sequences["upper"] - path.sequences["lower"]
    path.sequences["prior_width"] = width * np.where(is_k4, 10.0, 1.1)
    path.sequences["qualifying_bars"] = np.where(is_k4, 60, 6)
    production.split_at(path, SMALL_AS_OF)
    path.fitted = production.fit(path)
    verdict = controls.judge("shuffled_labels_teach_nothing", production.score(path))
    assert not verdict.passed
    assert "lies above 0.5" in verdict.findings[0]
