"""The five integrity tests: each passes on honest rows, fires on its own leak, and fails without evidence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import CLASS_VALUES, IntegrityConfig
from k4_pipeline.evaluation.integrity import (
    FAILED,
    PASSED,
    TOO_LITTLE,
    by_interval,
    class_drift,
    ev_correlation,
    future_contamination,
    recall_consistency,
    run_integrity_tests,
    temporal_integrity,
)
from k4_pipeline.evaluation.metrics import evaluate
from k4_pipeline.evaluation.scores import Rows, Scores, model_scores
from k4_pipeline.verdict import Verdict, guarded

CONFIG = IntegrityConfig(bootstrap_draws=100)
AS_OF = pd.Timestamp("2015-01-01")
MIX = [0.4, 0.25, 0.08, 0.05, 0.05, 0.17]


def make_split(seed: int = 0) -> pd.DataFrame:
    """An honest split of 900 rows: a pattern a row, labels known 150 days after the snapshot."""
    rng = np.random.default_rng(seed)
    snapshot = pd.Timestamp("2012-01-01") + pd.to_timedelta(np.sort(rng.integers(0, 1400, 900)), unit="D")
    end = snapshot + pd.Timedelta(days=150)
    validation_start = AS_OF - pd.DateOffset(months=18)
    split = np.where(end < validation_start, "train", "excluded")
    split = np.where((snapshot >= validation_start) & (snapshot < AS_OF) & (end < AS_OF), "validation", split)
    split = np.where(snapshot >= AS_OF, "test", split)
    return pd.DataFrame(
        {
            "ticker": [f"T{i % 40}" for i in range(900)],
            "pattern_id": [f"p{i}" for i in range(900)],
            "start_date": snapshot - pd.Timedelta(days=20),
            "snapshot_date": snapshot,
            "label_end_date": end,
            "outcome_class": pd.array(rng.choice(6, 900, p=MIX), dtype="Int8"),
            "split": split,
        }
    )


def make_scored(n: int = 600, skill: float = 0.05, seed: int = 0) -> pd.DataFrame:
    """Predictions of little skill for `n` test rows in date order."""
    rng = np.random.default_rng(seed)
    y = rng.choice(6, size=n, p=MIX)
    p = rng.dirichlet(np.ones(6) * 5, size=n)
    p[np.arange(n), y] += skill
    p /= p.sum(axis=1, keepdims=True)
    frame = pd.DataFrame(p, columns=[f"p_{i}" for i in range(6)])
    frame["snapshot_date"] = AS_OF + pd.to_timedelta(np.sort(rng.integers(0, 365, n)), unit="D")
    frame["ticker"] = [f"T{i}" for i in rng.integers(0, 80, n)]
    frame["ev"] = p @ np.array(CLASS_VALUES)
    frame["volatility"] = rng.random(n)
    return frame.assign(outcome_class=y, signal="GOOD")


def metrics_of(scored: pd.DataFrame) -> dict:
    by_volatility = scored["volatility"].to_numpy()
    methods = {"model": model_scores(scored), "volatility_20": Scores(by_volatility, None, by_volatility)}
    return evaluate(methods, Rows.of(scored), CONFIG)


def test_temporal_integrity_passes_an_honest_split_and_names_the_row_of_a_late_label():
    split = make_split()
    assert temporal_integrity(split, AS_OF).status == PASSED
    row = split.index[split["split"] == "train"][0]
    split.loc[row, "label_end_date"] = AS_OF
    result = temporal_integrity(split, AS_OF)
    assert (result.status, result.value) == (FAILED, 1.0)
    assert split.loc[row, "pattern_id"] in result.explanation


def test_temporal_integrity_of_nothing_is_too_little_evidence():
    assert temporal_integrity(make_split().iloc[:0], AS_OF).status == TOO_LITTLE


def test_future_contamination_fires_when_only_the_early_half_is_known():
    scored = make_scored()
    probabilities = scored[[f"p_{i}" for i in range(6)]].to_numpy()
    dates, y, groups = scored["snapshot_date"].to_numpy(), scored["outcome_class"].to_numpy(), scored["ticker"]
    honest = future_contamination(dates, y, probabilities.argmax(axis=1), groups, CONFIG)
    assert honest.status == PASSED
    known = np.where(np.arange(len(y)) < len(y) // 2, y, probabilities.argmax(axis=1))
    leaky = future_contamination(dates, y, known, groups, CONFIG)
    assert leaky.status == FAILED
    assert leaky.value > 0.5


def test_recall_consistency_fires_when_k4_is_found_in_one_half_only():
    scored = make_scored(seed=4)
    dates, y, groups = scored["snapshot_date"].to_numpy(), scored["outcome_class"].to_numpy(), scored["ticker"]
    early = np.arange(len(y)) < len(y) // 2
    p_k4 = np.where(early & (y == 4), 0.9, np.random.default_rng(0).random(len(y)) * 0.5)
    assert recall_consistency(dates, y, p_k4, groups, CONFIG).status == FAILED
    assert recall_consistency(dates, y, np.where(y == 4, 0.9, 0.1), groups, CONFIG).status == PASSED


def test_recall_consistency_without_k4_rows_is_too_little_evidence():
    scored = make_scored()
    y = np.where(scored["outcome_class"] == 4, 0, scored["outcome_class"])
    result = recall_consistency(scored["snapshot_date"].to_numpy(), y, scored["ev"], scored["ticker"], CONFIG)
    assert result.status == TOO_LITTLE
    assert not result.passed


def test_a_result_too_good_is_suspected_until_the_audit_passes():
    good = metrics_of(make_scored(skill=0.6))
    for audit_passed in (None, False):
        result = ev_correlation(good, CONFIG, audit_passed)
        assert result.status == FAILED
        assert result.explanation.startswith("suspected leakage")
    assert ev_correlation(good, CONFIG, True).status == PASSED


def test_where_the_best_possible_is_known_only_what_exceeds_it_is_too_good():
    def against(best: float, low: float) -> dict:
        found = _ev(0.3, 0.27, 0.33)
        one = {"ev_correlation_pearson": {"value": best, "n": 500}, "k4_average_precision": {"value": 0.5}}
        difference = {"ev_correlation_pearson": {"low": low}, "k4_average_precision": {"low": -0.5}}
        return {**found, "best_possible": one, "differences": {"best_possible": difference}}

    assert ev_correlation(_ev(0.3, 0.27, 0.33), CONFIG, None).status == FAILED
    assert ev_correlation(against(0.34, -0.1), CONFIG, None).status == PASSED
    beyond = ev_correlation(against(0.2, 0.05), CONFIG, None)
    assert beyond.status == FAILED
    assert "above the best possible" in beyond.explanation
    assert ev_correlation(against(0.29, -0.02), CONFIG, None).status == PASSED


def test_an_ev_that_says_nothing_or_the_contrary_does_not_pass_the_correlation_gate():
    nothing = make_scored(skill=0.0, seed=2)
    assert ev_correlation(metrics_of(nothing), CONFIG, True).status == TOO_LITTLE
    wrong = make_scored(skill=0.3)
    assert ev_correlation(metrics_of(wrong.assign(ev=-wrong["ev"])), CONFIG, True).status == FAILED


@pytest.mark.parametrize(
    "low, high, status",
    [
        (0.01, 0.09, PASSED),
        (-0.16, 0.70, TOO_LITTLE),
        (0.2, 0.7, FAILED),
        (-0.3, 0.1, PASSED),
        (np.nan, 0.1, TOO_LITTLE),
    ],
)
def test_a_verdict_follows_from_its_interval_and_not_from_its_point(low, high, status):
    assert by_interval(low, high, -np.inf, 0.15) == status


def _ev(value: float, low: float, high: float, ap: tuple[float, float] = (0.1, 0.05)) -> dict:
    return {
        "model": {
            "ev_correlation_pearson": {"value": value, "low": low, "high": high, "n": 500},
            "k4_average_precision": {"value": ap[0], "low": ap[1]},
        },
        "baselines": {
            "volatility_20": {"k4_average_precision": {"value": 0.032}},
            "logit": {"k4_average_precision": {"value": 0.08}},
        },
    }


@pytest.mark.parametrize(
    "metrics, status, words",
    [
        (_ev(0.1, -0.02, 0.2), TOO_LITTLE, "cannot tell"),
        (_ev(-0.01, -0.05, 0.03), FAILED, "says nothing"),
        (_ev(0.1, 0.03, 0.2), PASSED, "above 0"),
        (_ev(0.3, 0.2, 0.4), PASSED, "point alone"),
        (_ev(0.4, 0.3, 0.5), FAILED, "suspected leakage"),
        # 24 K4 rows: 5.5 times the weakest baseline, but the interval reaches from 0.009 on.
        (_ev(0.1, 0.03, 0.2, ap=(0.177, 0.009)), PASSED, "its interval does not"),
        (_ev(0.1, 0.03, 0.2, ap=(0.3, 0.2)), FAILED, "strongest baseline"),
    ],
)
def test_the_ev_verdict_gives_its_own_reason(metrics, status, words):
    result = ev_correlation(metrics, CONFIG, None)
    assert result.status == status
    assert words in result.explanation


def test_class_drift_passes_the_same_mix_and_fires_on_another():
    rng = np.random.default_rng(0)
    train = rng.choice(6, 2000, p=MIX)
    tickers, dates = np.arange(500) % 100, np.datetime64("2020-01-01") + np.arange(500)

    def status(test: np.ndarray, groups: np.ndarray = tickers) -> str:
        return class_drift(train, test, groups[: len(test)], dates[: len(test)], CONFIG).status

    assert status(rng.choice(6, 500, p=MIX)) == PASSED
    # The mix turned round diverges by 0.53, too near to the limit of 0.5 for 500 rows.
    assert status(rng.choice(6, 500, p=MIX[::-1])) == TOO_LITTLE
    other = rng.choice(6, 500, p=[0.05, 0.05, 0.05, 0.05, 0.3, 0.5])
    assert status(other) == FAILED
    assert status(np.sort(other), np.sort(np.arange(500) % 4)) == TOO_LITTLE  # four tickers, each of a class or two
    assert status(train[:10]) == TOO_LITTLE


def test_the_five_tests_come_in_the_order_of_the_report():
    scored = make_scored()
    results = run_integrity_tests(make_split(), AS_OF, scored, metrics_of(scored), CONFIG)
    assert [r.name for r in results] == [
        "temporal integrity",
        "future contamination",
        "K4 recall consistency",
        "EV correlation",
        "class distribution drift",
    ]


def test_a_verdict_without_cases_fails():
    assert not Verdict.of("x", 0, []).passed
    assert Verdict.of("x", 1, []).passed
    assert not Verdict.of("x", 5, ["found"]).passed


def test_a_check_that_raises_becomes_a_failed_verdict_that_carries_the_error():
    def broken() -> Verdict:
        raise KeyError("no such column")

    verdict = guarded("holds", broken)
    assert not verdict.passed
    assert "KeyError" in verdict.findings[0]


@pytest.mark.parametrize("n", [25, 400])
def test_many_findings_are_cut_but_counted(n):
    verdict = Verdict.of("x", n, [f"finding {i}" for i in range(n)])
    assert len(verdict.findings) == 21
    assert verdict.detail["n_findings"] == n
