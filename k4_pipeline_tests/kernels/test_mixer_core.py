"""The fused core of a Mamba block: its reference against the parts, the operator against float64 on either device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from unittest import mock

import pytest
import torch
from torch import Tensor

from k4_pipeline.errors import BadInputError
from k4_pipeline.kernels.causal_conv import causal_conv_naive
from k4_pipeline.kernels.mixer_core import mixer_core_fits, mixer_core_naive
from k4_pipeline.kernels.selective_scan import selective_scan_naive
from k4_pipeline_tests.kernels.scan_cases import relative_error

FP32 = 3e-6  # the scan's 2e-6 and one more chain of products in front of it
BF16 = 3e-2  # five results in a row are rounded to 8 bits, of values whose sums partly cancel


def make(batch: int, length: int, d_inner: int, d_state: int = 16, rank: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Operands in the ranges of a fresh block, float32, by the names of the arguments."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "xz": normal(batch, length, 2 * d_inner),
        "conv_weight": normal(d_inner, 4) / 2,
        "conv_bias": normal(d_inner) / 2,
        "x_proj": normal(rank + 2 * d_state, d_inner) * d_inner**-0.5,
        "dt_proj": normal(d_inner, rank) * rank**-0.5,
        "A": -torch.exp(torch.rand(d_inner, d_state, generator=generator) * 3.5 - 0.7),
        "D": normal(d_inner),
        "dt_bias": normal(d_inner) - 3.0,
    }


def results(function, operands: dict[str, Tensor], first: Tensor, upstream: Tensor) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    leaves = {name: value.detach().clone().requires_grad_() for name, value in operands.items()}
    y = function(**leaves, first_valid=first)
    grads = torch.autograd.grad(y, list(leaves.values()), upstream.to(y.dtype))
    return {"y": y.detach(), **{f"d{name}": grad for name, grad in zip(leaves, grads)}}


def errors(batch: int, length: int, d_inner: int, dtype: torch.dtype, device: str = "cpu") -> dict[str, float]:
    """Relative errors of the operator on NaN-poisoned buffers against the composition in float64."""
    from k4_pipeline.kernels.mixer_core.triton_op import mixer_core

    empty = torch.empty

    def poisoned(*size, **options):  # type: ignore[no-untyped-def]
        out = empty(*size, **options)
        return out.fill_(float("nan")) if out.is_floating_point() else out

    operands = {name: value.to(device) for name, value in make(batch, length, d_inner).items()}
    operands["xz"] = operands["xz"].to(dtype)
    first = torch.arange(batch, device=device) * 3 % length
    upstream = torch.randn(batch, length, d_inner, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    with mock.patch("torch.empty", poisoned):
        got = results(mixer_core, operands, first, upstream)
    doubled = {name: value.double() for name, value in operands.items()}
    exact = results(mixer_core_naive, doubled, first, upstream.double())
    return {name: relative_error(got[name], exact[name]) for name in exact}


def test_the_reference_is_the_composition_of_its_parts() -> None:
    operands = {name: value.double() for name, value in make(2, 7, 8).items()}
    first = torch.tensor([0, 3])
    x, z = operands["xz"].chunk(2, dim=-1)
    u = causal_conv_naive(x, operands["conv_weight"], operands["conv_bias"], first)
    inner = u @ operands["x_proj"].t()
    dt = inner[..., :4] @ operands["dt_proj"].t()
    B, C = inner[..., 4:20], inner[..., 20:]
    expected = selective_scan_naive(u, dt, operands["A"], B, C, operands["D"], z, operands["dt_bias"])
    torch.testing.assert_close(mixer_core_naive(**operands, first_valid=first), expected, rtol=1e-12, atol=1e-12)
    assert (expected[1, :3] == 0).all()


def test_operands_that_do_not_fit_each_other_are_refused() -> None:
    operands = make(1, 3, 8)
    with pytest.raises(BadInputError, match="do not fit"):
        mixer_core_naive(**{**operands, "xz": operands["xz"][..., :-1]}, first_valid=torch.zeros(1, dtype=torch.int64))
    assert mixer_core_fits(operands["xz"], operands["conv_weight"], 16)
    assert not mixer_core_fits(operands["xz"].double(), operands["conv_weight"], 16)
    assert not mixer_core_fits(operands["xz"], operands["conv_weight"], 12)


@pytest.mark.slow
def test_the_operator_agrees_with_float64_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    code = (
        "import json, torch; from k4_pipeline_tests.kernels.test_mixer_core import errors as run;"
        "print(json.dumps([run(3, 9, 24, torch.float32), run(2, 1, 16, torch.float32)]))"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for case in json.loads(done.stdout):
        assert len(case) == 9
        assert all(error < FP32 for error in case.values()), case


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(3, 50, 256), (5, 1, 32), (2, 63, 40), (300, 50, 64)])
@pytest.mark.parametrize("dtype, limit", [(torch.float32, FP32), (torch.bfloat16, BF16)])
def test_the_operator_agrees_with_float64_on_the_device(shape, dtype: torch.dtype, limit: float) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    case = errors(*shape, dtype, "cuda")
    assert len(case) == 9
    assert all(error < limit for error in case.values()), case


@pytest.mark.gpu
def test_every_run_of_the_operator_gives_the_same_bits() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    from k4_pipeline.kernels.mixer_core.triton_op import mixer_core

    operands = {name: value.cuda() for name, value in make(64, 50, 256).items()}
    operands["xz"] = operands["xz"].bfloat16()
    first, upstream = torch.arange(64, device="cuda") % 50, torch.randn(64, 50, 256, device="cuda")
    once, again = (results(mixer_core, operands, first, upstream) for _ in range(2))
    assert all(torch.equal(once[name], again[name]) for name in once)
