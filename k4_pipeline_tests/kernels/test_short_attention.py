"""Short attention: the Triton kernels (in Triton's interpreter where there is no GPU) against float64."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from k4_pipeline.errors import BadInputError
from k4_pipeline.kernels.short_attention import short_attention, short_attention_naive


def operands(batch: int, length: int, heads: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    qkv = torch.randn(batch, length, 3, heads, width, generator=generator)
    return qkv, torch.randint(0, length, (batch,), generator=generator)


def gradients(function, qkv: torch.Tensor, first: torch.Tensor, dtype: torch.dtype) -> list[torch.Tensor]:  # type: ignore[no-untyped-def]
    leaf = qkv.detach().clone().to(dtype).requires_grad_()
    y = function(leaf, first)
    upstream = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape).to(y)
    y.backward(upstream)
    return [y.detach(), leaf.grad]


def compare_with_float64(device: str = "cpu", backend: str = "triton") -> None:
    """Run by the tests below: on a GPU directly, elsewhere in a process with the interpreter switched on."""
    cases = [(3, 50, 8, 16), (2, 1, 2, 16), (2, 7, 2, 32), (1, 64, 1, 64)]
    for shape in cases:
        qkv, first = (t.to(device) for t in operands(*shape))
        exact = gradients(short_attention_naive, qkv, first, torch.float64)
        for dtype, limit in ((torch.float32, 2e-6), (torch.bfloat16, 2e-2)):
            rounded = qkv.to(dtype)
            ours = gradients(lambda a, b: short_attention(a, b, backend=backend), rounded, first, dtype)
            reference = exact if dtype == torch.float32 else gradients(
                short_attention_naive, rounded.double(), first, torch.float64
            )  # fmt: skip
            for got, want in zip(ours, reference, strict=True):
                # A single valid bar has a softmax of one: the gradients of q and k are exactly zero there.
                error = (got.double() - want).norm() / want.norm().clamp(min=1e-12)
                assert error < limit, (shape, dtype, error)


def test_the_triton_kernels_agree_with_float64_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    code = "from k4_pipeline_tests.kernels.test_short_attention import compare_with_float64 as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.gpu
def test_the_triton_kernels_agree_with_float64_on_the_device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    compare_with_float64("cuda")


def test_the_cpu_kernels_agree_with_float64() -> None:
    for shape in [(3, 50, 8, 16), (2, 1, 2, 16), (9, 7, 2, 32), (1, 64, 1, 64), (2, 130, 2, 16), (3, 33, 1, 48)]:
        qkv, first = operands(*shape)
        exact = gradients(short_attention_naive, qkv, first, torch.float64)
        ours = gradients(lambda a, b: short_attention(a, b, backend="cpu"), qkv, first, torch.float32)
        for got, want in zip(ours, exact, strict=True):
            error = (got.double() - want).norm() / want.norm().clamp(min=1e-12)
            assert error < 2e-6, (shape, error)


def test_the_cpu_kernels_survive_large_scores() -> None:
    qkv, first = operands(2, 20, 2, 16)
    exact = gradients(short_attention_naive, 30 * qkv, first, torch.float64)
    ours = gradients(lambda a, b: short_attention(a, b, backend="cpu"), 30 * qkv, first, torch.float32)
    for got, want in zip(ours, exact, strict=True):
        assert torch.isfinite(got).all()
        assert (got.double() - want).norm() < 1e-3 * want.norm()


def test_the_reference_masks_padding_as_keys_and_gives_no_nan() -> None:
    qkv, first = operands(4, 20, 2, 16)
    changed = qkv.clone()
    for i in range(4):
        changed[i, : first[i], 1:] = 1e4
    ours, poisoned = short_attention_naive(qkv, first), short_attention_naive(changed, first)
    assert torch.isfinite(ours).all()
    for i in range(4):
        assert torch.equal(ours[i, first[i] :], poisoned[i, first[i] :])


def test_a_row_is_the_mean_of_the_values_when_all_scores_are_equal() -> None:
    qkv, first = operands(2, 10, 1, 16)
    qkv[:, :, 0] = 0.0
    y = short_attention(qkv, first)
    for i in range(2):
        expected = qkv[i, first[i] :, 2, 0].mean(0)
        torch.testing.assert_close(y[i, -1], expected)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInputError, match="qkv must be"):
        short_attention(torch.zeros(2, 5, 2, 1, 16), torch.zeros(2))
    with pytest.raises(BadInputError, match="first_valid"):
        short_attention(torch.zeros(2, 5, 3, 1, 16), torch.zeros(3))
