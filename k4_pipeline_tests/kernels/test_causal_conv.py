"""The causal convolution: reference against torch's conv1d, fast backends against the reference in float64."""

from __future__ import annotations

import pytest
import torch

from k4_pipeline.errors import BadInputError
from k4_pipeline.kernels.causal_conv import causal_conv
from k4_pipeline_tests.kernels.scan_cases import relative_error


def make(batch: int, length: int, channels: int, width: int = 4, dtype: torch.dtype = torch.float32, seed: int = 0):
    gen = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, length, channels, generator=gen).to(dtype)
    return x, torch.randn(channels, width, generator=gen), torch.randn(channels, generator=gen)


def run(x, weight, bias, grad_y, **options):
    leaves = [value.detach().clone().requires_grad_() for value in (x, weight, bias)]
    y = causal_conv(*leaves, **options)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad_y.to(y.dtype))]


def test_the_reference_equals_torch_conv1d_followed_by_silu():
    x, weight, bias = (value.double() for value in make(3, 11, 5))
    expected = torch.nn.functional.conv1d(
        torch.nn.functional.pad(x.transpose(1, 2), (3, 0)), weight[:, None], bias, groups=5
    )
    got = causal_conv(x, weight, bias, backend="naive")
    torch.testing.assert_close(got, torch.nn.functional.silu(expected).transpose(1, 2), rtol=1e-12, atol=1e-12)


def test_gradcheck_of_the_reference_with_padding():
    x, weight, bias = (value.double().requires_grad_() for value in make(2, 5, 3))
    first = torch.tensor([0, 2])
    assert torch.autograd.gradcheck(
        lambda *values: causal_conv(*values, first_valid=first, backend="naive"), (x, weight, bias)
    )


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 50])
@pytest.mark.parametrize("channels", [1, 5, 16, 33])
@pytest.mark.parametrize("padding", [False, True])
def test_cpu_output_and_gradients_match_float64(length, channels, padding):
    x, weight, bias = make(4, length, channels)
    grad_y = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    first = torch.tensor([0, length - 1, length // 2, length]) if padding else None
    got = run(x, weight, bias, grad_y, first_valid=first, backend="cpu")
    exact = run(x.double(), weight.double(), bias.double(), grad_y.double(), first_valid=first, backend="naive")
    for value, reference in zip(got, exact):
        assert relative_error(value, reference) < 1e-6


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("activation", [False, True])
def test_cpu_handles_narrow_filters_and_no_activation(width, activation):
    x, weight, bias = make(2, 9, 20, width)
    grad_y = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    got = run(x, weight, bias, grad_y, activation=activation, backend="cpu")
    exact = run(x.double(), weight.double(), bias.double(), grad_y.double(), activation=activation, backend="naive")
    for value, reference in zip(got, exact):
        assert relative_error(value, reference) < 1e-6


def test_cpu_reads_half_of_a_projection_without_a_copy_and_ignores_the_other_half():
    both = torch.randn(3, 8, 24, generator=torch.Generator().manual_seed(2))
    weight, bias = make(1, 1, 12)[1:]
    expected = causal_conv(both[..., :12].contiguous(), weight, bias, backend="cpu")
    both[..., 12:] = float("nan")
    assert torch.equal(causal_conv(both[..., :12], weight, bias, backend="cpu"), expected)


def test_values_in_the_padding_change_no_output_bit():
    x, weight, bias = make(3, 12, 17)
    first = torch.tensor([3, 0, 11])
    expected = causal_conv(x, weight, bias, first_valid=first, backend="cpu")
    for row, start in enumerate(first.tolist()):
        x[row, :start] = float("nan")
    assert torch.equal(causal_conv(x, weight, bias, first_valid=first, backend="cpu"), expected)


def test_a_wrong_weight_shape_is_refused():
    x, weight, bias = make(2, 6, 4)
    with pytest.raises(BadInputError, match="weight"):
        causal_conv(x, weight[:3], bias)
