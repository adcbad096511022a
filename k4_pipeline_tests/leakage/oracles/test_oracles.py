"""The second implementations agree with production where both are honest, and stand on their own examples."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from k4_pipeline.config import LabelConfig, SplitConfig
from k4_pipeline.evaluation.weighted import Ranking
from k4_pipeline.leakage.checks.duplicates import near_duplicates
from k4_pipeline.leakage.oracles import metrics as metrics_oracle, reader
from k4_pipeline.leakage.oracles.labels import oracle_labels, race
from k4_pipeline.leakage.oracles.membership import months_before, oracle_membership
from k4_pipeline.market.bars import Bars
from k4_pipeline.patterns.labels import label_snapshots

CONFIG = LabelConfig()
UPPER, LOWER = 100.0, 90.0


@pytest.mark.parametrize(
    ("highs", "lows", "expected"),
    [
        ([101], [95], 0),
        ([105], [95], 1),
        ([116, 120], [95, 95], 2),
        ([136], [95], 3),
        ([175], [95], 4),
        ([175], [80], 5),  # the same bar: the stop comes first
        ([106, 180], [95, 80], 1),  # reached before the stop is kept, after it nothing improves
        ([136, 176], [95, 80], 4),  # but a K3 may still become a K4
        ([101, 101], [95, 81], 5),
    ],
)
def test_the_race_follows_its_rules(highs, lows, expected):
    assert race(highs, lows, UPPER, LOWER, CONFIG) == expected


def test_the_first_breach_is_final():
    config = dataclasses.replace(CONFIG, labeling="first_breach")
    assert race([136, 176], [95, 95], UPPER, LOWER, config) == 3
    assert race([116, 110], [95, 95], UPPER, LOWER, config) == 2
    assert race([110, 136], [80, 95], UPPER, LOWER, config) == 5


@pytest.mark.parametrize("labeling", ["race", "first_breach"])
@pytest.mark.parametrize("measured_on", ["high_low", "close"])
def test_oracle_labels_agree_with_production(context, labeling, measured_on):
    config = dataclasses.replace(context.config.labels, labeling=labeling, measured_on=measured_on)
    bars, made = context.full.bars, context.full.snapshots
    produced = label_snapshots(bars, made, config)
    expected = oracle_labels(bars, made, config, "XNYS")
    assert [x.outcome for x in expected] == [None if pd.isna(v) else int(v) for v in produced["outcome_class"]]
    assert [x.bars for x in expected] == produced["label_bars"].tolist()
    assert [x.censored for x in expected] == produced["censored"].tolist()


def test_months_before_stops_at_the_end_of_a_month():
    assert months_before(dt.date(2024, 3, 31), 1) == dt.date(2024, 2, 29)
    assert months_before(dt.date(2024, 1, 15), 13) == dt.date(2022, 12, 15)
    assert months_before(dt.date(2024, 1, 31), -1) == dt.date(2024, 2, 29)


def test_membership_is_strict_at_every_border():
    config = SplitConfig(validation_months=6, test_months=3, embargo_days=7)
    as_of = dt.date(2024, 7, 1)
    rows = [
        ("2023-06-01", "2023-12-24", "train"),
        ("2023-06-02", "2023-12-25", "excluded"),  # inside the embargo
        ("2024-01-01", "2024-06-30", "validation"),
        ("2024-01-02", "2024-07-01", "excluded"),  # known on the as-of date itself
        ("2024-07-01", None, "test"),
        ("2024-10-01", None, "excluded"),
    ]
    table = pd.DataFrame(
        {
            "ticker": [f"T{i}" for i in range(len(rows))],
            "start_date": pd.Timestamp("2023-05-01"),
            "snapshot_date": pd.to_datetime([r[0] for r in rows]),
            "label_end_date": pd.to_datetime([r[1] for r in rows]),
            "outcome_class": pd.array([None if r[1] is None else 1 for r in rows], dtype="Int8"),
        }
    )
    assert oracle_membership(table, as_of, config) == [r[2] for r in rows]


@pytest.mark.parametrize("seed", range(5))
def test_ranking_metrics_agree_with_others(seed):
    rng = np.random.default_rng(seed)
    score = np.round(rng.random(300), 1 if seed % 2 else 6)  # with and without ties
    positive = rng.random(300) < 0.1 + 0.3 * score
    ranking = Ranking.of(score, positive)
    assert metrics_oracle.auc(score, positive) == pytest.approx(roc_auc_score(positive, score), abs=1e-12)
    expected = average_precision_score(positive, score)
    assert metrics_oracle.average_precision(score, positive) == pytest.approx(expected, abs=1e-12)
    for budget in (0.05, 0.1, 0.5, 1.0):
        recall = ranking.recall_in_top(np.ones(300), budget)
        assert metrics_oracle.k4_recall_in_top(score, positive, budget) == pytest.approx(recall, abs=1e-12)


def _two_tickers(noise: float, n: int = 100) -> Bars:
    rng = np.random.default_rng(0)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, n)))
    other = 3 * close * np.exp(rng.normal(0, noise, n))
    both = np.concatenate([close, other])
    date = np.tile(np.arange(19_000, 19_000 + n, dtype=np.int32), 2)
    names = np.array(["AAA", "BBB"], dtype=object)
    return Bars(names, np.array([0, n, 2 * n]), date, both, both, both, both, np.ones(2 * n))


def test_a_copy_at_another_price_is_one_listing_under_two_names():
    found, pairs = near_duplicates(_two_tickers(0.0), ["AAA", "BBB"], 0.999)
    assert pairs == 1
    assert [(a, b, n) for a, b, _, n in found] == [("AAA", "BBB", 99)]


def test_similar_tickers_are_no_copies():
    assert near_duplicates(_two_tickers(0.005), ["AAA", "BBB"], 0.999)[0] == []


def test_few_common_bars_prove_no_copy():
    assert near_duplicates(_two_tickers(0.0, n=50), ["AAA", "BBB"], 0.999) == ([], 0)


def test_a_listing_is_looked_up_under_the_ticker_that_was_sent():
    names = pd.Series(["CAR", "CAR#2", "VOD#2.L", "BRK.B", "C#"])
    assert reader.as_sent(names).tolist() == ["CAR", "CAR", "VOD.L", "BRK.B", "C#"]
