"""Scores of the controls: exact against permutations, and against a reference no leak in the pipeline can lift."""

from __future__ import annotations

import numpy as np

from k4_pipeline.leakage.controls import control_score

LEVEL = 0.01


def _rows(n: int, seed: int):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 6, n)
    tickers = np.array([f"T{i % 20:02d}" for i in range(n)], dtype=object)
    return rng, y, tickers, np.arange(n) // 30


def _scores_of(y: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    p = rng.random((len(y), 6)) + strength * np.eye(6)[y]
    return p / p.sum(axis=1, keepdims=True)


def test_a_score_that_knows_the_labels_lies_above_every_other_deal_and_a_blind_one_does_not():
    rng, y, tickers, stratum = _rows(400, 0)
    classes = control_score.usable_classes(y, tickers)
    assert classes == list(range(6))
    told = control_score.within_date(y, _scores_of(y, rng, 0.3), stratum, classes, LEVEL, 400, 0)
    blind = control_score.within_date(y, _scores_of(y, rng, 0.0), stratum, classes, LEVEL, 400, 0)
    assert told.value > told.high
    assert told.p_value < LEVEL
    assert blind.low <= blind.value <= blind.high


def test_what_a_date_tells_of_its_classes_does_not_count():
    values = []
    for seed in range(40):
        rng, _, tickers, stratum = _rows(300, seed)
        y = np.where(rng.random(300) < 0.8, (stratum % 2) * 4, rng.integers(0, 6, 300))
        p = np.full((300, 6), 0.1) + np.eye(6)[(stratum % 2) * 4] + 0.01 * rng.random((300, 6))
        classes = control_score.usable_classes(y, tickers)
        values.append(control_score.within_date(y, p, stratum, classes, 0.1, 99, seed).p_value)
    assert np.mean(np.array(values) <= 0.1) < 0.25


def test_under_dealt_labels_the_p_value_is_uniform():
    values = []
    for seed in range(60):
        rng, y, tickers, stratum = _rows(150, seed)
        classes = control_score.usable_classes(y, tickers)
        values.append(control_score.within_date(y, _scores_of(y, rng, 0.0), stratum, classes, 0.1, 99, seed).p_value)
    assert 0.35 < np.mean(values) < 0.65
    assert np.mean(np.array(values) <= 0.1) < 0.25


def test_a_reader_is_measured_against_the_better_reference():
    rng, y, tickers, _ = _rows(400, 2)
    weak, strong = _scores_of(y, rng, 0.05), _scores_of(y, rng, 0.3)
    classes = control_score.usable_classes(y, tickers)
    even = control_score.against_reference(y, _scores_of(y, rng, 0.3), [weak, strong], tickers, classes, LEVEL, 200, 0)
    better = control_score.against_reference(
        y, _scores_of(y, rng, 0.9), [weak, strong], tickers, classes, LEVEL, 200, 0
    )
    assert even.low <= even.base_rate <= even.high
    assert better.low > better.base_rate


def test_the_reference_knows_nothing_but_bars_up_to_the_snapshot(context):
    full = context.full
    table = full.labeled.head(200)
    facts = control_score.reference_features(table, full.bars)
    end = full.bars.locate(table["ticker"], table["snapshot_date"].to_numpy("datetime64[D]").astype(np.int64))
    assert np.isfinite(facts).all()
    for i in (0, 57, 199):
        cut = full.bars.until(table["snapshot_date"].iloc[i])
        assert np.array_equal(control_score.reference_features(table.iloc[[i]], cut)[0], facts[i])
    assert (end >= 0).all()
