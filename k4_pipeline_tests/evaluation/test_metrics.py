"""Metrics against scikit-learn and by hand; intervals that cover; base rates."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from k4_pipeline.config import IntegrityConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.evaluation.bootstrap import cluster_weights, interval
from k4_pipeline.evaluation.metrics import evaluate, statistics_of
from k4_pipeline.evaluation.scores import Rows, Scores
from k4_pipeline.evaluation.tables import by_label
from k4_pipeline.evaluation.weighted import Ranking, mid_ranks, pearson, within_groups

CONFIG = IntegrityConfig(bootstrap_draws=200)


@pytest.mark.parametrize("levels", [0, 7])
def test_auc_and_average_precision_equal_scikit_learn_with_and_without_ties(levels):
    rng = np.random.default_rng(3)
    score = rng.normal(size=500) if levels == 0 else rng.integers(0, levels, 500).astype(float)
    positive = rng.random(500) < 0.1
    weights = rng.integers(0, 4, 500).astype(float)
    ranking = Ranking.of(score, positive)
    assert ranking.auc(np.ones(500)) == pytest.approx(roc_auc_score(positive, score), abs=1e-12)
    assert ranking.average_precision(np.ones(500)) == pytest.approx(average_precision_score(positive, score), abs=1e-12)
    assert ranking.auc(weights) == pytest.approx(roc_auc_score(positive, score, sample_weight=weights), abs=1e-12)
    assert ranking.average_precision(weights) == pytest.approx(
        average_precision_score(positive, score, sample_weight=weights), abs=1e-12
    )


def test_recall_in_the_top_counts_by_hand_and_shares_ties_fairly():
    positive = np.array([1, 0, 1, 0, 0, 0, 0, 0, 0, 0], bool)
    assert Ranking.of(-np.arange(10.0), positive).recall_in_top(np.ones(10), 0.2) == 0.5
    assert Ranking.of(-np.arange(10.0), positive).recall_in_top(np.ones(10), 0.3) == 1.0
    assert Ranking.of(np.zeros(10), positive).recall_in_top(np.ones(10), 0.2) == pytest.approx(0.2)


def test_a_score_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        Ranking.of(np.array([1.0, np.nan]), np.array([True, False]))


def test_pearson_on_mid_ranks_equals_scipy_spearman():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, 300), rng.integers(0, 5, 300)
    assert pearson(mid_ranks(x), mid_ranks(y), np.ones(300)) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def test_the_bootstrap_draws_whole_groups():
    groups = np.repeat(np.arange(20), 5)
    for draw in cluster_weights(groups, 30, 0):
        assert all(len(set(draw[groups == g])) == 1 for g in range(20))
        assert draw.sum() == 100


def test_the_bootstrap_draws_whole_months_as_well():
    dates = np.datetime64("2020-01-15") + np.arange(0, 300, 3)
    month = dates.astype("datetime64[M]")
    for draw in cluster_weights(np.zeros(100), 20, 0, dates):
        assert all(len(set(draw[month == m])) == 1 for m in np.unique(month))
    shared = np.random.default_rng(0).normal(size=11)[(month - month[0]).astype(int)]
    width = {}
    for name, when in (("tickers", None), ("tickers and months", dates)):
        low, high = interval(lambda w: float(w @ shared / w.sum()), cluster_weights(np.arange(100), 300, 0, when), 0.95)
        width[name] = high - low
    # A shock shared by a month is 10 draws, not 100: the interval must be about three times as wide.
    assert width["tickers and months"] > 2 * width["tickers"]


def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(100):
        x = rng.normal(size=80)
        low, high = interval(lambda w, x=x: float(w @ x / w.sum()), cluster_weights(np.arange(80), 200, trial), 0.95)
        covered += low <= 0.0 <= high
    assert 86 <= covered <= 100


def _sample(n: int, informative: bool, seed: int = 0) -> tuple[dict[str, Scores], Rows]:
    rng = np.random.default_rng(seed)
    y = rng.choice(6, size=n, p=[0.4, 0.25, 0.08, 0.05, 0.05, 0.17])
    p = rng.dirichlet(np.ones(6) * 3, size=n)
    if informative:
        p[np.arange(n), y] += 0.5
        p /= p.sum(axis=1, keepdims=True)
    dates = np.datetime64("2020-01-01") + rng.integers(0, 360, n)
    mix = np.tile(np.bincount(y, minlength=6) / n, (n, 1))
    rows = Rows(y, rng.integers(0, 60, n), dates, rng.integers(0, n // 2, n), rng.random(n), np.full(n, "GOOD"))
    return {"model": Scores.of(p), "class_mix": Scores.of(mix)}, rows


@pytest.mark.parametrize("informative", [True, False])
def test_an_informative_model_beats_every_base_rate_and_noise_beats_none(informative):
    methods, rows = _sample(1500, informative)
    result = evaluate(methods, rows, CONFIG)
    for name in (
        "k4_auc",
        "k4_lift",
        "k4_recall_top_5pct",
        "k4_recall_top_10pct_monthly",
        "k4_pattern_recall_top_10pct_monthly",
        "k4_auc_inside_volatility",
        "ev_correlation_pearson",
        "ev_correlation_given_volatility",
    ):
        metric = result["model"][name]
        assert metric["low"] <= metric["value"] <= metric["high"]
        if "pattern" not in name:
            assert (metric["low"] > metric["base_rate"]) is informative, name
    difference = result["differences"]["class_mix"]["log_loss"]
    assert (difference["high"] < 0) is informative
    assert result["headline"][0].startswith("Probabilities better" if informative else "Worse than the class mix")
    assert sum(result["class_counts"].values()) == 1500
    assert np.array(result["confusion"]).sum() == 1500
    assert result["baselines"]["class_mix"].keys() == result["model"].keys()


def test_the_difference_of_two_equal_methods_is_zero_with_its_whole_interval():
    methods, rows = _sample(400, True)
    result = evaluate({**methods, "same": methods["model"]}, rows, CONFIG)
    for metric in result["differences"]["same"].values():
        assert metric["value"] == metric["low"] == metric["high"] == 0.0
    # The same order in every process, so that two equal runs store equal bytes.
    assert list(result["differences"]["same"]) == list(result["model"])


def test_monthly_recall_counts_by_hand():
    dates = np.repeat(np.array(["2020-01-05", "2020-02-05"], "datetime64[D]"), 10)
    score, positive = np.arange(20.0), np.zeros(20, bool)
    positive[[9, 0, 18]] = True  # the best of January, its worst, and the second of February
    months = dates.astype("datetime64[M]")
    assert Ranking.of(score, positive, months).recall_in_top(np.ones(20), 0.1) == pytest.approx(1 / 3)
    assert Ranking.of(score, positive, months).recall_in_top(np.ones(20), 0.2) == pytest.approx(2 / 3)
    assert Ranking.of(score, positive).recall_in_top(np.ones(20), 0.1) == pytest.approx(1 / 3)
    in_top = Ranking.of(score, positive, months).in_top(0.1)
    assert np.flatnonzero(in_top).tolist() == [9, 19]


def test_the_auc_within_groups_is_the_share_of_their_pairs_in_order():
    rng = np.random.default_rng(5)
    score, positive, group = rng.integers(0, 9, 300).astype(float), rng.random(300) < 0.2, rng.integers(0, 7, 300)
    right = pairs = 0.0
    for g in range(7):
        a, b = score[(group == g) & positive], score[(group == g) & ~positive]
        right += (a[:, None] > b).sum() + 0.5 * (a[:, None] == b).sum()
        pairs += len(a) * len(b)
    assert Ranking.of(score, positive, group).auc(np.ones(300)) == pytest.approx(right / pairs)


def test_all_draws_at_once_are_each_draw_alone():
    methods, rows = _sample(300, True)
    weights = cluster_weights(rows.tickers, 7, 0, rows.dates)
    for name, (statistic, _) in statistics_of(methods["model"], rows, CONFIG).items():
        assert np.allclose(statistic(weights), [statistic(w) for w in weights], equal_nan=True), name


def test_a_pattern_counts_once_however_many_snapshots_it_has():
    n = 40
    y = np.zeros(n, int)
    y[:6] = 4
    patterns = np.array(["a"] * 5 + ["b"] + [f"x{i}" for i in range(n - 6)])
    score = np.where(np.arange(n) == 4, 9.0, np.where(np.arange(n) < 6, -1.0, 0.0))  # one row of a, none of b
    rows = Rows(y, np.arange(n), np.full(n, "2020-01-05", "datetime64[D]"), patterns)
    p = np.full((n, 6), 1 / 6)
    found = statistics_of(Scores.of(p, score), rows, CONFIG)["k4_pattern_recall_top_5pct_monthly"][0](np.ones(n))
    assert found == pytest.approx(0.5)


def test_the_signal_table_averages_realised_values():
    rows = {r["signal"]: r for r in by_label(np.array(["STRONG", "STRONG", "AVOID"]), np.array([4, 5, 5]))}
    assert rows["STRONG"]["mean_realised_value"] == 0.0
    assert rows["STRONG"]["k4_share"] == 0.5
    assert rows["AVOID"]["k5_share"] == 1.0
    assert rows["GOOD"]["count"] == 0
    assert np.isnan(rows["GOOD"]["k4_share"])


def test_without_labelled_rows_the_evaluation_says_what_to_do():
    empty = Scores.of(np.zeros((0, 6)))
    with pytest.raises(BadInputError, match="earlier as_of"):
        evaluate({"model": empty}, Rows(np.array([], int), np.array([])), CONFIG)


def test_what_is_constant_in_every_group_has_no_correlation_inside_them():
    constant, groups = np.full(7, 0.1234567), np.array([0, 0, 0, 1, 1, 1, 1])
    left = within_groups(constant, groups)
    assert (left == 0).all()
    assert np.isnan(pearson(left, np.arange(7.0), np.ones(7)))
