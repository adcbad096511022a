"""The fused blocks of the `cpu` backend under autocast to bfloat16: rounded factors of products, the rest float32."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor, nn

from k4_pipeline.config import ModelConfig
from k4_pipeline.kernels import cpu_blocks
from k4_pipeline.kernels.bf16 import AVAILABLE
from k4_pipeline.kernels.cpu_blocks import views
from k4_pipeline.models import build_model
from k4_pipeline_tests.kernels.test_cpu_blocks import BLOCKS, Make, data, mamba, pair, results
from k4_pipeline_tests.models.inputs import random_inputs

needs_instruction = pytest.mark.skipif(not AVAILABLE, reason="this processor has no AVX-512 BF16")


def half() -> contextlib.AbstractContextManager:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def rounded_results(block: nn.Module, *given: Tensor) -> dict[str, Tensor]:
    with half():
        return results(block, *given)


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm().clamp(min=1e-12))


@needs_instruction
@BLOCKS
@pytest.mark.parametrize("batch, length, d_model", [(3, 50, 32), (1, 1, 16), (21, 7, 48), (9, 63, 128)])
def test_outputs_and_gradients_lose_what_the_rounding_of_factors_costs(
    make: Make, batch: int, length: int, d_model: int
) -> None:
    ours, exact = pair(make, d_model)
    hidden, upstream, first = data(batch, length, d_model)
    found = rounded_results(ours, hidden, upstream, first)
    expected = results(exact, hidden.double(), upstream.double(), first)
    whole = results(ours, hidden, upstream, first)
    assert not torch.equal(found["y"], whole["y"])
    for name, value in expected.items():
        # A factor is off by 2**-9 at most. Behind a nonlinearity, and where large parts cancel, it shows several times.
        assert error(found[name], value) < 0.03, name


@needs_instruction
def test_the_whole_model_is_as_near_to_float64_as_the_autocast_of_plain_pytorch() -> None:
    torch.manual_seed(3)
    plain = build_model(ModelConfig(preset="small", backend="naive")).eval()
    ours = build_model(ModelConfig(preset="small", backend="cpu")).eval()
    ours.load_state_dict(plain.state_dict())
    exact = build_model(ModelConfig(preset="small", backend="naive")).eval()
    exact.load_state_dict(plain.state_dict())
    x, mask = random_inputs([50, 1, 7, 33, 50, 50, 49, 50])
    with torch.no_grad():
        expected = exact.double()(x.double(), mask)
        with half():
            of_ours, of_plain = (error(model(x, mask), expected) for model in (ours, plain))
    assert 1e-5 < of_ours < 1.5 * of_plain  # the same roundings but in another order: 0.0021 and 0.0019


@needs_instruction
@BLOCKS
def test_results_depend_neither_on_threads_nor_on_the_rest_of_the_batch(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = pair(make, 32)
    hidden, upstream, first = data(37, 9, 32)
    runs = []
    for threads in ("1", "3"):
        monkeypatch.setenv("K4_THREADS", threads)
        runs.append(rounded_results(ours, hidden, upstream, first))
    for name, value in runs[0].items():
        assert torch.equal(value, runs[1][name]), name
    with torch.no_grad(), half():
        whole = ours(hidden, first)
        assert torch.equal(ours(hidden[6:9], first[6:9]), whole[6:9])


@needs_instruction
@BLOCKS
def test_prediction_gives_the_bits_of_the_forward_pass_in_training(make: Make) -> None:
    ours, _ = pair(make, 32)
    hidden, _, first = data(5, 8, 32)
    with half():
        kept = ours(hidden, first).detach()
        with torch.inference_mode():
            assert torch.equal(ours(hidden, first), kept)


@needs_instruction
@pytest.mark.parametrize("preset", ["micro", "tiny", "small"])
def test_every_element_is_written(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig(preset=preset, backend="cpu")).eval()
    x, mask = random_inputs([50, 1, 7])
    real = torch.empty

    def poisoned(*size, **options):  # type: ignore[no-untyped-def]
        made = real(*size, **options)
        return made.view(torch.float32).fill_(float("nan")).view(made.dtype) if made.dim() else made

    monkeypatch.setattr(torch, "empty", poisoned)
    with half():
        logits = model(x, mask)
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@BLOCKS
def test_without_the_instruction_products_are_float32(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = pair(make, 32)
    given = data(3, 9, 32)
    monkeypatch.setattr(views, "AVAILABLE", False)
    assert views.half_products() is None
    found, whole = rounded_results(ours, *given), results(ours, *given)
    for name, value in whole.items():
        assert torch.equal(found[name], value), name


def test_autocast_to_another_type_is_left_to_the_modules() -> None:
    block, hidden = mamba(32, "cpu"), torch.randn(2, 5, 32)
    with half():
        assert cpu_blocks.takes(hidden, "cpu", block)
    with torch.autocast("cpu", dtype=torch.float16):
        assert not cpu_blocks.takes(hidden, "cpu", block)
