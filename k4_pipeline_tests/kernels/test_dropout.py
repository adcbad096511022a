"""Dropout drops at its rate, keeps the mean, repeats with the seed and is off in evaluation."""

from __future__ import annotations

import pytest
import torch

from k4_pipeline.kernels.dropout import Dropout, keep_mask


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
def test_the_rate_and_the_mean_are_kept(rate: float) -> None:
    torch.manual_seed(0)
    mask = keep_mask(torch.Size([1000, 1003]), rate)
    dropped = (mask == 0).float().mean().item()
    sigma = (rate * (1 - rate) / mask.numel()) ** 0.5
    assert abs(dropped - rate) < 5 * sigma + 1e-5
    assert torch.unique(mask).tolist() == pytest.approx([0.0, 1 / (1 - rate)], rel=1e-4)


def test_neighbours_are_independent() -> None:
    torch.manual_seed(1)
    kept = (keep_mask(torch.Size([1 << 20]), 0.5) > 0).float() - 0.5
    for lag in (1, 2, 3, 4, 8):
        correlation = (kept[lag:] * kept[:-lag]).mean().item() / 0.25
        assert abs(correlation) < 5 / 1024, lag


def test_the_seed_decides_and_the_gradient_passes_through_the_same_mask() -> None:
    layer, x = Dropout(0.3), torch.randn(7, 33, requires_grad=True)
    torch.manual_seed(3)
    y = layer(x)
    torch.manual_seed(3)
    assert torch.equal(y, layer(x))
    y.sum().backward()
    assert torch.equal(x.grad == 0, y == 0)


def test_it_is_off_in_evaluation_and_at_rate_zero() -> None:
    x = torch.randn(4, 5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert torch.equal(Dropout(1.0)(x), torch.zeros_like(x))


def test_half_precision_stays_half() -> None:
    assert Dropout(0.5)(torch.randn(8, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16
