"""Random inputs of the selective scan and the comparison every backend has to pass."""

from __future__ import annotations

import torch
from torch import Tensor

from k4_pipeline.kernels.selective_scan import selective_scan

NAMES = ("u", "dt", "A", "B", "C", "D", "z", "dt_bias")


def make_inputs(
    batch: int,
    length: int,
    d_inner: int,
    d_state: int,
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Tensor]:
    """Fresh inputs in the ranges a trained Mamba block has: step sizes from 1e-3 to about 1, A from -0.5 to -16."""
    gen = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=gen, dtype=torch.float64)

    inputs = {
        "u": normal(batch, length, d_inner),
        "dt": normal(batch, length, d_inner),
        "A": -torch.exp(torch.rand(d_inner, d_state, generator=gen, dtype=torch.float64) * 3.5 - 0.7),
        "B": normal(batch, length, d_state),
        "C": normal(batch, length, d_state),
        "D": normal(d_inner),
        "z": normal(batch, length, d_inner),
        "dt_bias": normal(d_inner) - 3.0,
    }
    return {name: value.to(device=device, dtype=dtype) for name, value in inputs.items()}


def run(inputs: dict[str, Tensor | None], grad_y: Tensor, *, backend: str, dt_softplus: bool = True):
    """Output and the gradients of sum(y * grad_y) for every input that is given, by name."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in inputs.items() if value is not None}
    y = selective_scan(**{**inputs, **leaves}, dt_softplus=dt_softplus, backend=backend)
    grads = torch.autograd.grad(y, list(leaves.values()), grad_y.to(y.dtype))
    return y.detach(), dict(zip(leaves, grads))


def relative_error(value: Tensor, reference: Tensor) -> float:
    """||value - reference|| / ||reference||; NaN in `value` gives NaN, which passes no `<` comparison."""
    scale = reference.double().norm().item()
    return ((value.double() - reference.double()).norm().item()) / (scale if scale > 0 else 1.0)


def errors_against_float64(
    inputs: dict[str, Tensor | None], *, backend: str, dt_softplus: bool = True, seed: int = 1
) -> dict[str, float]:
    """Relative error of y and of every gradient of `backend` against the naive scan in float64 on the same values."""
    shape = inputs["u"].shape  # type: ignore[union-attr]
    device = inputs["u"].device  # type: ignore[union-attr]
    gen = torch.Generator().manual_seed(seed)
    grad_y = torch.randn(*shape, generator=gen).to(device=device, dtype=inputs["u"].dtype)  # type: ignore[union-attr]
    y, grads = run(inputs, grad_y, backend=backend, dt_softplus=dt_softplus)
    exact_inputs = {name: None if value is None else value.double() for name, value in inputs.items()}
    exact_y, exact_grads = run(exact_inputs, grad_y.double(), backend="naive", dt_softplus=dt_softplus)
    errors = {"y": relative_error(y, exact_y)}
    errors.update({f"d{name}": relative_error(grads[name], exact_grads[name]) for name in grads})
    for name, grad in grads.items():
        assert grad.dtype == inputs[name].dtype, f"gradient of {name} came back as {grad.dtype}"  # type: ignore[union-attr]
    return errors
