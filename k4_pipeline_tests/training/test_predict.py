"""Predictions: probabilities, and a row's bits independent of what else is predicted with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from k4_pipeline.config import ModelConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.models import build_model
from k4_pipeline.training import predict_probabilities
from k4_pipeline_tests.training.toy import ToySource, toy_source


def subset(source: ToySource, rows: np.ndarray) -> ToySource:
    at = torch.from_numpy(rows)
    return ToySource(source.x[at], source.mask[at], None)


def model_of(architecture: str, preset: str = "tiny") -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(ModelConfig(architecture=architecture, preset=preset))


@pytest.mark.parametrize("architecture", ["mamba_attention", "bilstm"])
@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_a_row_has_the_same_bits_alone_in_company_and_at_any_position(architecture: str, preset: str) -> None:
    source = toy_source(300)
    model = model_of(architecture, preset)
    whole = predict_probabilities(model, source)
    rng = np.random.default_rng(0)
    for rows in (np.array([299]), np.arange(299, -1, -1), rng.permutation(300)[:57], np.r_[5, 5, 7]):
        assert np.array_equal(predict_probabilities(model, subset(source, rows)), whole[rows])


def test_probabilities_are_float32_and_sum_to_one() -> None:
    p = predict_probabilities(model_of("mamba_attention"), toy_source(70), batch_size=32)
    assert p.shape == (70, 6)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.astype(np.float64).sum(axis=1), 1.0, atol=1e-6)


def test_dropout_is_off_and_the_mode_of_the_model_is_kept() -> None:
    model = model_of("mamba_attention").train()
    source = toy_source(10, length=8)
    assert np.array_equal(predict_probabilities(model, source), predict_probabilities(model, source))
    assert model.training


def test_nothing_to_predict_gives_an_empty_array() -> None:
    source = toy_source(4, length=8)
    empty = ToySource(source.x[:0], source.mask[:0], None)
    assert predict_probabilities(model_of("mamba_attention"), empty).shape == (0, 6)


def test_progress_ends_at_the_number_of_rows() -> None:
    calls: list[tuple[int, int]] = []
    predict_probabilities(
        model_of("mamba_attention"),
        toy_source(70, length=8),
        batch_size=32,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(32, 70), (64, 70), (70, 70)]


def test_an_all_padding_row_is_refused() -> None:
    source = toy_source(8, length=8)
    source.mask[2] = False
    with pytest.raises(BadInputError, match="all padding"):
        predict_probabilities(model_of("mamba_attention"), source)
