"""The dense layer against torch's own, forward and backward, whatever way it is computed."""

from __future__ import annotations

import pytest
import torch

from k4_pipeline.kernels.linear import MIN_ROWS, Linear, linear, onednn_available


@pytest.mark.parametrize("inputs, outputs", [(69, 128), (128, 512), (256, 40), (8, 256), (5, 3), (1, 1)])
@pytest.mark.parametrize("rows", [1, MIN_ROWS - 1, MIN_ROWS, 2 * MIN_ROWS + 7])
@pytest.mark.parametrize("with_bias", [True, False])
def test_outputs_and_gradients_are_those_of_the_float64_product(
    inputs: int, outputs: int, rows: int, with_bias: bool
) -> None:
    generator = torch.Generator().manual_seed(rows)
    tensors = [torch.randn(shape, generator=generator) for shape in ((rows, inputs), (outputs, inputs), (outputs,))]
    upstream = torch.randn(rows, outputs, generator=generator)
    results = []
    for dtype in (torch.float32, torch.float64):
        # detach: a float32 tensor would otherwise be its own copy, and already a leaf that wants gradients
        x, weight, bias = (t.clone().detach().to(dtype).requires_grad_() for t in tensors)
        y = linear(x, weight, bias if with_bias else None)
        y.backward(upstream.to(dtype))
        results.append([y.detach(), x.grad, weight.grad, *([bias.grad] if with_bias else [])])
    for ours, exact in zip(*results, strict=True):
        assert (ours.double() - exact).norm() <= 2e-6 * exact.norm()


def test_strided_inputs_and_gradients_are_taken_as_they_are() -> None:
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(40, 50, 64, generator=generator)
    layer = Linear(32, 24)
    x = wide[..., 16:48].detach().requires_grad_()
    copy = wide[..., 16:48].clone().requires_grad_()
    ours, expected = layer(x), torch.nn.functional.linear(copy, layer.weight, layer.bias)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    ours.transpose(0, 1).square().sum().backward()
    first = layer.weight.grad.clone()
    layer.weight.grad = None
    expected.transpose(0, 1).square().sum().backward()
    torch.testing.assert_close(first, layer.weight.grad, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(x.grad, copy.grad, rtol=1e-4, atol=1e-4)


def test_a_frozen_weight_gets_no_gradient() -> None:
    layer = Linear(16, 16)
    layer.weight.requires_grad_(False)
    x = torch.randn(MIN_ROWS, 16, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None


def test_it_is_a_torch_linear_to_everybody_else() -> None:
    torch.manual_seed(0)
    ours = Linear(7, 3)
    torch.manual_seed(0)
    theirs = torch.nn.Linear(7, 3)
    assert isinstance(ours, torch.nn.Linear)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_half_precision_goes_through_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Linear(16, 16)(torch.randn(MIN_ROWS, 16)).dtype == torch.bfloat16


def test_the_fast_path_is_taken_where_torch_offers_it() -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch is built without oneDNN")
    assert onednn_available()
