"""Validation metrics against scikit-learn and the evaluation package, and the order between epochs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from k4_pipeline.config import K4, TrainConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.evaluation.weighted import Ranking
from k4_pipeline.training.monitor import Monitor, average_precision, recall_at_budget, validation_metrics


def scores_with_ties(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.round(rng.random(n), 1 + seed % 3), rng.random(n) < 0.1


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_scikit_learns(seed: int) -> None:
    score, positive = scores_with_ties(seed)
    assert average_precision(score, positive) == pytest.approx(average_precision_score(positive, score), abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_both_rankings_agree_with_the_evaluation_package(seed: int) -> None:
    score, positive = scores_with_ties(seed)
    ranking, ones = Ranking.of(score, positive), np.ones(len(score))
    for budget in (0.05, 0.1, 0.5, 1.0):
        theirs = ranking.recall_in_top(ones, budget)
        assert recall_at_budget(score, positive, budget) == pytest.approx(theirs, abs=1e-12)
    assert average_precision(score, positive) == pytest.approx(ranking.average_precision(ones), abs=1e-12)


def test_recall_within_the_budget_by_hand() -> None:
    score = np.linspace(1, 0, 100)
    positive = np.zeros(100, dtype=bool)
    positive[[0, 3, 50, 99]] = True
    assert recall_at_budget(score, positive, 0.05) == 0.5
    assert recall_at_budget(score, positive, 1.0) == 1.0
    # All scores equal: nothing was ranked, so the budget finds its share and no more.
    assert recall_at_budget(np.zeros(100), positive, 0.05) == pytest.approx(0.05)


def test_the_order_of_the_rows_does_not_matter() -> None:
    score, positive = scores_with_ties(0)
    shuffled = np.random.default_rng(9).permutation(len(score))
    assert recall_at_budget(score, positive, 0.05) == recall_at_budget(score[shuffled], positive[shuffled], 0.05)


def test_calling_everything_k4_has_full_plain_recall_but_not_within_the_budget() -> None:
    y = np.arange(60) % 6
    p = np.full((60, 6), 0.1)
    p[:, K4] = 0.5
    metrics = validation_metrics(p, y, 1.0, 0.05)
    assert metrics["k4_recall"] == 1.0
    assert metrics["k4_recall_at_budget"] == pytest.approx(0.05)


def test_without_k4_the_quantities_are_undefined_and_the_loss_takes_over() -> None:
    metrics = validation_metrics(np.full((6, 6), 1 / 6), np.zeros(6, dtype=np.int64), 1.0, 0.05)
    assert math.isnan(metrics["k4_recall"])
    assert math.isnan(metrics["k4_average_precision"])
    monitor = Monitor.choose(TrainConfig(), 0)
    assert monitor.name == "loss"
    assert monitor.key(metrics) == (-1.0,)


def test_ties_are_broken_by_average_precision_and_then_by_the_loss() -> None:
    monitor = Monitor.choose(TrainConfig(), 50)
    assert monitor.note == ""
    base = {"k4_recall_at_budget": 0.5, "k4_average_precision": 0.2, "loss": 1.0}
    assert monitor.key({**base, "k4_recall_at_budget": 0.6, "loss": 9.0}) > monitor.key(base)
    assert monitor.key({**base, "k4_average_precision": 0.3, "loss": 9.0}) > monitor.key(base)
    assert monitor.key({**base, "loss": 0.9}) > monitor.key(base)
    assert not monitor.key(base) > monitor.key(base)


def test_an_unknown_monitor_is_refused() -> None:
    with pytest.raises(ConfigError, match="monitor 'auc' is unknown"):
        Monitor.choose(TrainConfig(monitor="auc"), 5)  # type: ignore[arg-type]
