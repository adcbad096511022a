"""The asymmetric loss against values worked out by hand and against cross-entropy where the two must agree."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from k4_pipeline.config import CLASS_WEIGHTS, K4, LossConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.losses import AsymmetricLoss, asymmetric_loss, weighted_log_prior


def by_the_formula(p: list[float], target: int, config: LossConfig) -> float:
    """The formula of DESIGN.md for one row, term by term in plain Python."""
    total = 0.0
    for c, p_c in enumerate(p):
        y = 1.0 if c == target else 0.0
        smooth = (1 - config.label_smoothing) * y + config.label_smoothing / len(p)
        base = 1 - p_c * y - (1 - p_c) * (1 - y)
        total += smooth * base ** (config.gamma_pos * y + config.gamma_neg * (1 - y)) * math.log(p_c)
    return -config.class_weights[target] * total


def random_rows(n: int = 64, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2.0 * torch.randn(n, 6, generator=generator, dtype=torch.float32)
    return logits, torch.arange(n) % 6


def test_a_row_computed_by_hand() -> None:
    # p = (1/2, 1/4, 1/4), target 0, eps = 0.3 so y~ = (0.8, 0.1, 0.1), gamma_pos 1, gamma_neg 2, weight 3:
    # -3 * [0.8 * (1/2) * ln(1/2) + 2 * 0.1 * (1/16) * ln(1/4)]
    expected = 3 * (0.8 * 0.5 * math.log(2) + 2 * 0.1 * math.log(4) / 16)
    loss = asymmetric_loss(
        torch.tensor([[math.log(2.0), 0.0, 0.0]]),
        torch.tensor([0]),
        gamma_pos=1.0,
        gamma_neg=2.0,
        label_smoothing=0.3,
        class_weights=torch.tensor([3.0, 1.0, 1.0]),
    )
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("gammas", [(0.0, 4.0), (1.0, 4.0), (2.0, 0.0), (0.5, 1.5)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_it_equals_the_formula_term_by_term(gammas: tuple[float, float], smoothing: float) -> None:
    config = LossConfig(gamma_pos=gammas[0], gamma_neg=gammas[1], label_smoothing=smoothing)
    logits, target = random_rows()
    p = torch.softmax(logits.double(), -1).tolist()
    expected = [by_the_formula(p[i], int(target[i]), config) for i in range(len(p))]
    assert AsymmetricLoss(config)(logits, target).loss.item() == pytest.approx(sum(expected) / len(p), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_gammas_and_weights_it_is_smoothed_cross_entropy(smoothing: float) -> None:
    config = LossConfig(gamma_pos=0.0, gamma_neg=0.0, label_smoothing=smoothing, class_weights=(1.0,) * 6)
    logits, target = random_rows(512)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = AsymmetricLoss(config)(ours, target).loss
    reference = F.cross_entropy(theirs, target, label_smoothing=smoothing)
    loss.backward()
    reference.backward()
    assert abs(loss.item() - reference.item()) < 1e-6
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-7)


def test_without_smoothing_gamma_neg_does_nothing() -> None:
    logits, target = random_rows()
    losses = [
        AsymmetricLoss(LossConfig(gamma_neg=g, label_smoothing=0.0))(logits, target).loss for g in (0.0, 4.0, 9.0)
    ]
    assert losses[0] == losses[1] == losses[2]
    with_smoothing = [AsymmetricLoss(LossConfig(gamma_neg=g))(logits, target).loss for g in (0.0, 4.0)]
    assert with_smoothing[0] != with_smoothing[1]


def test_gradients_agree_with_finite_differences() -> None:
    logits, target = random_rows(8)
    weights = torch.tensor(CLASS_WEIGHTS, dtype=torch.float64)

    def rows(values: torch.Tensor) -> torch.Tensor:
        # The loss computes in float32, so the finite differences are taken on a float64 twin of the formula.
        log_p = torch.log_softmax(values, -1)
        y = F.one_hot(target, 6).double()
        smooth = 0.9 * y + 0.1 / 6
        base = torch.where(y > 0, 1 - log_p.exp(), log_p.exp())
        return -weights[target] * (smooth * base ** (1.5 * y + 4.0 * (1 - y)) * log_p).sum(-1)

    reference = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(rows, (reference,))
    (expected,) = torch.autograd.grad(rows(reference).sum(), reference)
    ours = logits.clone().requires_grad_()
    loss = asymmetric_loss(ours, target, gamma_pos=1.5, gamma_neg=4.0, label_smoothing=0.1, class_weights=weights)
    (gradient,) = torch.autograd.grad(loss.sum(), ours)
    torch.testing.assert_close(gradient.double(), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("gamma_pos", [0.0, 2.0])
def test_extreme_logits_give_finite_losses_and_gradients(gamma_pos: float) -> None:
    logits = torch.tensor([[1e4, -1e4, 0, 0, 0, 0.0], [-1e4, 1e4, 0, 0, 0, 0.0], [0.0] * 6], requires_grad=True)
    result = AsymmetricLoss(LossConfig(gamma_pos=gamma_pos))(logits, torch.tensor([0, 0, 4]))
    result.loss.backward()
    assert torch.isfinite(result.loss)
    assert torch.isfinite(logits.grad).all()


def test_class_weights_scale_the_rows_of_their_class() -> None:
    logits, target = random_rows()
    plain = asymmetric_loss(logits, target)
    weighted = asymmetric_loss(logits, target, class_weights=torch.tensor(CLASS_WEIGHTS))
    torch.testing.assert_close(weighted, plain * torch.tensor(CLASS_WEIGHTS)[target])


def test_sample_weights_give_the_weighted_mean_and_equal_weights_change_nothing() -> None:
    logits, target = random_rows()
    loss = AsymmetricLoss(LossConfig())
    kept = torch.arange(64) < 20
    torch.testing.assert_close(
        loss(logits, target, kept.float()).loss, loss(logits[kept], target[kept]).loss, rtol=1e-5, atol=0
    )
    torch.testing.assert_close(loss(logits, target, torch.full((64,), 0.3)).loss, loss(logits, target).loss)


def test_k4_is_reported_apart() -> None:
    config = LossConfig()
    logits = torch.zeros(5, 6)
    logits[0, K4] = 3.0  # found
    logits[1, 0] = 3.0  # missed
    logits[2, K4] = 3.0  # K4 predicted, but another class: counts for nothing here
    target = torch.tensor([K4, K4, 1, 2, 5])
    result = AsymmetricLoss(config)(logits, target)
    p = torch.softmax(logits.double(), -1).tolist()
    expected = (by_the_formula(p[0], K4, config) + by_the_formula(p[1], K4, config)) / 2
    assert result.k4_count.item() == 2
    assert result.k4_accuracy.item() == 0.5
    assert result.k4_loss.item() == pytest.approx(expected, rel=1e-5)
    assert not result.k4_loss.requires_grad


def test_a_batch_without_k4_reports_nan_and_not_zero() -> None:
    result = AsymmetricLoss(LossConfig())(torch.zeros(3, 6), torch.tensor([0, 1, 2]))
    assert result.k4_count.item() == 0
    assert math.isnan(result.k4_loss.item())
    assert math.isnan(result.k4_accuracy.item())
    assert math.isfinite(result.loss.item())


def test_half_precision_logits_are_computed_in_float32() -> None:
    logits, target = random_rows()
    half = logits.bfloat16()
    assert asymmetric_loss(half, target).dtype == torch.float32
    torch.testing.assert_close(asymmetric_loss(half, target), asymmetric_loss(half.float(), target), rtol=0, atol=0)


def test_the_log_prior_is_the_weighted_class_mix_and_finite_for_an_empty_class() -> None:
    config = LossConfig(label_smoothing=0.0, class_weights=(1.0, 1.0, 2.0))
    prior = weighted_log_prior([70, 30, 50], config).exp()
    torch.testing.assert_close(prior, torch.tensor([0.35, 0.15, 0.5]), rtol=0, atol=1e-3)
    assert torch.isfinite(weighted_log_prior([10, 10, 0], config)).all()


@pytest.mark.parametrize(
    "bad", [{"label_smoothing": 1.0}, {"gamma_neg": -1.0}, {"class_weights": ()}, {"class_weights": (1.0, 1.0)}]
)
def test_settings_outside_their_range_are_refused(bad: dict) -> None:
    with pytest.raises(ConfigError):
        AsymmetricLoss(LossConfig(**bad))
