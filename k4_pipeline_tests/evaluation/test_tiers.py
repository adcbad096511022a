"""Certified tiers: they certify what is there, seldom what is not, and count a pattern once."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config.tiers import TierConfig
from k4_pipeline.evaluation.tiers import (
    Certificates,
    assign_tiers,
    certificates,
    certify,
    checked_on_test,
    design_effect,
    one_row_per_pattern,
)

CONFIG = TierConfig()


def _rows(n: int, skill: float, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """`n` patterns of a base rate near 5%; with skill the announced probability is the true one."""
    rng = np.random.default_rng(seed)
    p = np.clip(rng.lognormal(-3.6, 1.1 * skill + 1e-9, n), 0, 0.9)
    y = np.where(rng.random(n) < p, 4, 0)
    rows = pd.DataFrame(
        {
            "pattern_id": [f"p{i}" for i in range(n)],
            "ticker": [f"T{i}" for i in rng.integers(0, 800, n)],
            "snapshot_date": pd.Timestamp("2012-01-01") + pd.to_timedelta(rng.integers(0, 500, n), unit="D"),
            "outcome_class": y,
        }
    )
    return rows, p if skill else rng.random(n)


def _certificates(rows: pd.DataFrame, p: np.ndarray) -> Certificates:
    counts = np.bincount(rows["outcome_class"], minlength=6).tolist()
    return certificates(rows, p, counts, CONFIG, min_train_k4=10)


def test_a_certificate_is_the_same_after_storing_and_says_what_monitoring_reads():
    found = _certificates(*_rows(3000, 1.0, 0))
    stored = json.loads(json.dumps(found.to_dict()))
    assert Certificates.from_dict(stored) == found
    assert [t["precision"] for t in stored["tiers"]] == [c.promised for c in found.tiers]
    assert all(t["certified"] for t in stored["tiers"])


def test_a_model_that_knows_is_certified_and_keeps_its_promise_on_new_rows():
    rows, p = _rows(3000, 1.0, 0)
    found = _certificates(rows, p)
    assert {c.tier for c in found.tiers} >= {"MODERATE", "GOOD"}
    for c in found.tiers:
        assert c.bound >= c.promised == pytest.approx(c.multiple * c.base_rate)
        assert c.hits / c.rows > c.promised
    thresholds = [c.threshold for c in found.tiers]
    assert thresholds == sorted(thresholds, reverse=True)
    new, p_new = _rows(3000, 1.0, 1)
    assert all(row["kept"] is not False for row in checked_on_test(found, new, p_new))


def test_where_nothing_is_known_a_tier_is_certified_no_more_often_than_the_confidence_allows():
    certified = 0
    for seed in range(100):
        rows, p = _rows(1000, 0.0, seed)
        certified += bool(_certificates(rows, p).tiers)
    # 5 of 100 are allowed; 10 are three standard errors more.
    assert certified <= 10


def test_too_few_k4_in_train_or_none_in_calibration_gives_one_plain_line():
    rows, p = _rows(500, 1.0, 0)
    few = certificates(rows, p, [300, 0, 0, 0, 3, 0], CONFIG, min_train_k4=10)
    assert (few.tiers, few.why_none) == ((), "No tier: the model saw 3 K4 rows in training; 10 are needed.")
    none = certificates(rows.assign(outcome_class=0), p, [300, 0, 0, 0, 30, 0], CONFIG, min_train_k4=10)
    assert none.why_none.startswith("No tier: 0 K4 among 500 patterns")


def test_a_lively_calibration_year_certifies_nothing_by_itself():
    is_k4 = np.arange(1000) % 5 == 0  # 20% everywhere, 2% in train
    assert certify(np.linspace(1, 0, 1000), is_k4, 0.02, 1.0, CONFIG) == ()


def test_a_pattern_counts_once_whatever_its_classes_and_scores():
    rows, _ = _rows(30, 1.0, 0)
    twice = pd.concat([rows, rows.assign(snapshot_date=rows["snapshot_date"] + pd.Timedelta(days=3))])
    twice = twice.reset_index(drop=True)
    chosen = one_row_per_pattern(twice)
    assert chosen["pattern_id"].is_unique
    assert len(chosen) == 30
    other = one_row_per_pattern(twice.assign(outcome_class=5))
    assert (other["snapshot_date"] == chosen["snapshot_date"]).all()


def test_clustered_hits_have_a_larger_design_effect_than_scattered_ones():
    dates = np.datetime64("2012-01-01") + np.arange(400)
    tickers = np.arange(400) // 20
    clustered, scattered = tickers == 3, np.arange(400) % 20 == 0
    assert design_effect(clustered, tickers, dates) > 10
    assert design_effect(scattered, tickers, dates) < 1.5
    assert certify(np.linspace(1, 0, 400), np.arange(400) < 40, 0.05, 40.0, CONFIG) == ()


def test_the_best_certified_tier_is_given():
    rows, p = _rows(3000, 1.0, 0)
    found = _certificates(rows, p).tiers
    best = found[0]
    given = assign_tiers(np.array([best.threshold, best.threshold - 1e-9, 0.0]), found)
    assert given[0] == best.tier
    assert given[1] != best.tier
    assert given[2] == "AVOID"
