"""Logit and gradient boosting: better than the class mix, deterministic, exact through their text."""

from __future__ import annotations

import numpy as np
import pytest

from k4_pipeline.errors import BadInputError, StaleArtifactError
from k4_pipeline.models.forest import ExtraTrees
from k4_pipeline.models.tabular import GradientBoosting, Logit, Standardiser


def rows(n=600, classes=6, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = rng.normal(size=(n, 5)).astype(np.float32)
    x[:, 0] += y
    x[::7, 1] = np.nan
    x[:, 4] = 3.0  # constant
    return x, y


MODELS = [Logit(), GradientBoosting(rounds=10), ExtraTrees(trees=20, min_leaf_rows=5)]


@pytest.mark.parametrize("empty", MODELS, ids=["logit", "gradient_boosting", "extra_trees"])
def test_probabilities_beat_the_class_mix_and_survive_their_text(empty):
    x, y = rows()
    fitted = type(empty).from_json(type(empty)(**_settings(empty)).fit(x, y, seed=1).to_json())
    p = type(empty)(**_settings(empty)).fit(x, y, seed=1).predict_proba(x)
    assert np.array_equal(p, fitted.predict_proba(x))
    assert np.allclose(p.sum(axis=1), 1.0)
    assert -np.log(p[np.arange(len(y)), y]).mean() < np.log(6) - 0.15
    assert np.array_equal(p[3:5], fitted.predict_proba(x[3:5]))  # a row alone as in company


@pytest.mark.parametrize("empty", MODELS, ids=["logit", "gradient_boosting", "extra_trees"])
@pytest.mark.parametrize("classes", [1, 2, 4])
def test_a_class_without_a_row_keeps_a_small_positive_probability(empty, classes):
    x, y = rows(classes=classes)
    model = type(empty)(**_settings(empty)).fit(x, y)
    p = type(empty).from_json(model.to_json()).predict_proba(x)
    assert p.shape == (len(x), 6)
    assert (p > 0).all()
    assert p[:, classes:].max() < 2e-3
    if classes > 1:
        assert (p.argmax(axis=1) == y).mean() > 1.2 / classes


@pytest.mark.parametrize("empty", MODELS, ids=["logit", "gradient_boosting", "extra_trees"])
def test_weights_move_the_probabilities(empty):
    x, y = rows()
    weights = np.where(y == 4, 20.0, 1.0)
    plain = type(empty)(**_settings(empty)).fit(x, y).predict_proba(x)
    heavy = type(empty)(**_settings(empty)).fit(x, y, weights).predict_proba(x)
    assert heavy[:, 4].mean() > 1.5 * plain[:, 4].mean()


def test_unlabelled_rows_and_foreign_texts_are_refused():
    x, y = rows()
    with pytest.raises(BadInputError, match="without a known class"):
        Logit().fit(x, np.where(y == 0, -1, y))
    with pytest.raises(StaleArtifactError, match="no logit model"):
        Logit.from_json(GradientBoosting(rounds=1).fit(x, y).to_json())


def test_standardised_columns_are_bounded_finite_and_zero_where_unknown():
    x, _ = rows()
    x[0, 2], x[1, 3] = np.inf, 1e9
    fitted = Standardiser.from_dict(Standardiser.fit(x).to_dict())
    z = fitted.transform(x)
    assert np.isfinite(z).all()
    assert np.abs(z).max() <= 8.0
    assert (z[::7, 1] == 0).all()
    assert (z[:, 4] == 0).all()
    assert abs(float(z[:, 0].mean())) < 1e-3


def _settings(model):
    names = {Logit: ("c",), GradientBoosting: ("rounds",), ExtraTrees: ("trees", "min_leaf_rows")}[type(model)]
    return {name: getattr(model, name) for name in names}
