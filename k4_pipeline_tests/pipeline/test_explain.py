"""Contributions are exact where the answer is known, and say of themselves whether they add up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from k4_pipeline.config import K4, N_FEATURES
from k4_pipeline.pipeline.explain import Inputs, contributions, in_words, log_odds, neighbours, percentile


def rows(n: int, seed: int = 0, context: int = 0) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 50, N_FEATURES, generator=generator)
    beside = torch.randn(n, context, generator=generator) if context else None
    return Inputs(x, torch.ones(n, 50, dtype=torch.bool), beside)


class Additive(torch.nn.Module):
    """Log odds of K4 that are a weighted sum of the last bar and the context: contributions are known exactly."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, x, mask, context=None):
        features = x[:, -1] if context is None else torch.cat([x[:, -1], context], dim=1)
        logits = torch.full((len(x), 6), -float(np.log(5)))  # the other five sum to 1
        logits[:, K4] = features @ self.weights
        return logits


@pytest.mark.parametrize("context", [0, 7])
def test_contributions_of_an_additive_model_are_exact(context):
    weights = torch.linspace(-1, 1, N_FEATURES + context)
    row, background = rows(1, 1, context), rows(40, 2, context)
    made = contributions(Additive(weights), row, background, samples=4)
    own, mean = row.x[0, -1], background.x[:, -1].mean(dim=0)
    if context:
        own = torch.cat([own, row.context[0]])
        mean = torch.cat([mean, background.context.nanmedian(dim=0).values])
    assert made["contributions"] == pytest.approx((weights * (own - mean)).numpy(), abs=1e-4)
    assert abs(made["gap"]) < 1e-4
    assert made["stability"] == pytest.approx(1.0, abs=1e-5)


def test_contributions_of_a_network_add_up_and_unused_channels_get_nothing():
    torch.manual_seed(0)
    layer = torch.nn.Linear(2, 6)

    def model(x, mask):
        return layer(torch.tanh(x[:, -1, :1] * x[:, -2, 1:2] + x[:, -1, :2]))

    made = contributions(model, rows(1, 3), rows(30, 4), samples=20)
    assert abs(made["gap"]) < 1e-5
    assert np.abs(made["contributions"][2:]).max() < 1e-12
    assert made["value"] == pytest.approx(float(log_odds(model, rows(1, 3))[0]))


def test_a_value_that_is_not_available_does_not_spoil_the_others():
    row, background = rows(1, 1, 3), rows(20, 2, 3)
    row.context[0, 0] = torch.nan

    def model(x, mask, context):
        logits = torch.zeros(len(x), 6)
        logits[:, K4] = torch.nan_to_num(context).sum(dim=1)
        return logits

    assert np.isfinite(contributions(model, row, background, samples=4)["contributions"]).all()
    assert np.isnan(percentile(row, background)[N_FEATURES])


def test_the_nearest_row_is_found_and_a_pattern_is_named_once():
    train = rows(6, 5)
    table = pd.DataFrame(
        {
            "ticker": list("AABCDE"),
            "start_date": pd.Timestamp("2020-01-01"),
            "snapshot_date": pd.date_range("2020-02-01", periods=6),
            "outcome_class": [4, 0, 1, 2, 3, 5],
            "label_end_date": pd.date_range("2020-05-01", periods=6),
        }
    )
    near = neighbours(train.of(3), train, table, pd.Timestamp("2021-01-01"))
    assert near[0] == {"ticker": "C", "snapshot_date": "2020-02-04", "outcome": "K2_QUALITY", "distance": 0.0}
    assert sorted(n["ticker"] for n in near) == list("ABCDE")
    # What had not ended on the day is no historical pattern yet.
    early = neighbours(train.of(3), train, table, pd.Timestamp("2020-05-03"))
    assert [n["ticker"] for n in early] == ["A"]


def test_words():
    assert in_words("adx", 0.5, 12.0) == "adx (at 12% of the training rows) raises the odds of K4 by 65%"
    assert in_words("adx", -0.1, float("nan")) == "adx lowers the odds of K4 by 10%"
