"""The fused blocks of the `cpu` backend against the modules they stand for, in float64, and what else they promise."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from k4_pipeline._numba import njit
from k4_pipeline.config import ModelConfig
from k4_pipeline.kernels import cpu_blocks
from k4_pipeline.kernels.dropout_rng import keep_factor
from k4_pipeline.models import build_model
from k4_pipeline.models.attention import MaskedSelfAttention
from k4_pipeline.models.mamba import MambaBlock, MambaMixer
from k4_pipeline.simd import simd_f32 as simd
from k4_pipeline_tests.models.inputs import random_inputs

FP32 = 4e-6  # relative, of whole tensors; float32 composed in plain PyTorch is off by 1e-7 to 1e-6 here
Make = Callable[[int, str, float], nn.Module]


def mamba(d_model: int, backend: str, dropout: float = 0.0) -> nn.Module:
    return MambaBlock(MambaMixer(d_model, backend=backend), dropout)


def attention(d_model: int, backend: str, dropout: float = 0.0) -> nn.Module:
    return MaskedSelfAttention(d_model, d_model // 16, dropout, backend)


BLOCKS = pytest.mark.parametrize("make", [mamba, attention])


def pair(make: Make, d_model: int, dropout: float = 0.0) -> tuple[nn.Module, nn.Module]:
    """The fused block in float32 and the same weights in plain PyTorch and float64."""
    torch.manual_seed(d_model)
    ours, exact = make(d_model, "cpu", dropout), make(d_model, "naive", dropout)
    with torch.no_grad():
        for p in ours.parameters():
            p.add_(0.05 * torch.randn_like(p))
    exact.load_state_dict(ours.state_dict())
    return ours, exact.double()


def data(batch: int, length: int, d_model: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden, upstream = (torch.randn(batch, length, d_model, generator=generator) for _ in range(2))
    first = torch.randint(0, length, (batch,), generator=generator)
    return hidden, upstream * valid_bars(hidden, first), first


def valid_bars(hidden: Tensor, first_valid: Tensor) -> Tensor:
    """1 on valid bars, 0 on padding, (batch, length, 1)."""
    return (torch.arange(hidden.shape[1]) >= first_valid[:, None]).unsqueeze(-1).to(hidden.dtype)


def results(block: nn.Module, hidden: Tensor, upstream: Tensor, first_valid: Tensor) -> dict[str, Tensor]:
    block.zero_grad()
    leaf = hidden.detach().clone().requires_grad_()
    y = block(leaf, first_valid)
    y.backward(upstream)
    gradients = {name: p.grad.clone() for name, p in block.named_parameters()}
    return {"y": y.detach() * valid_bars(hidden, first_valid), "hidden": leaf.grad, **gradients}


def assert_close(ours: dict[str, Tensor], exact: dict[str, Tensor]) -> None:
    for name, expected in exact.items():
        error = (ours[name].double() - expected).norm() / expected.norm().clamp(min=1e-12)
        assert error < FP32, (name, float(error))


@BLOCKS
@pytest.mark.parametrize("batch, length, d_model", [(3, 50, 32), (1, 1, 16), (21, 7, 48), (2, 63, 128)])
def test_outputs_and_all_gradients_are_those_of_the_module(make: Make, batch: int, length: int, d_model: int) -> None:
    ours, exact = pair(make, d_model)
    hidden, upstream, first = data(batch, length, d_model)
    assert cpu_blocks.takes(hidden, "cpu", ours)
    assert_close(
        results(ours, hidden, upstream, first), results(exact, hidden.double(), upstream.double(), first)
    )  # fmt: skip


@BLOCKS
def test_padding_passes_both_ways_unchanged(make: Make) -> None:
    ours, _ = pair(make, 32)
    hidden, _, first = data(9, 12, 32)
    padding = valid_bars(hidden, first).squeeze(-1) == 0
    hidden.requires_grad_()
    y, upstream = ours(hidden, first), torch.randn(hidden.shape)
    y.backward(upstream)
    assert padding.any()
    assert torch.equal(y[padding], hidden[padding])
    assert torch.equal(hidden.grad[padding], upstream[padding])


@BLOCKS
def test_both_passes_of_dropout_use_one_mask_that_the_seed_decides(make: Make) -> None:
    ours, exact = pair(make, 32, dropout=0.3)
    hidden, upstream, _ = data(8, 20, 32)
    first = torch.zeros(8, dtype=torch.int64)  # on padding the branch of a Mamba block is zero anyway
    torch.manual_seed(5)
    got = results(ours, hidden, upstream, first)
    torch.manual_seed(5)
    again = results(ours, hidden, upstream, first)
    assert all(torch.equal(got[name], again[name]) for name in got)
    other = results(ours, hidden, upstream, first)
    assert not torch.equal(got["y"], other["y"])

    branch = exact.eval()(hidden.double(), first) - hidden.double()
    mask = ((got["y"] - hidden).abs() > 1e-7).double() / 0.7
    share = (mask == 0).double().mean().item()
    assert abs(share - 0.3) < 5 * (0.21 / mask.numel()) ** 0.5
    torch.testing.assert_close(got["y"].double(), hidden.double() + branch * mask, rtol=1e-4, atol=1e-5)
    exact.dropout.forward = lambda value: value * mask  # the module with the very mask that was drawn
    assert_close(got, results(exact, hidden.double(), upstream.double(), first))


@BLOCKS
def test_results_do_not_depend_on_the_number_of_threads(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = pair(make, 32)
    given, runs = data(37, 9, 32), []
    for threads in ("1", "3"):
        monkeypatch.setenv("K4_THREADS", threads)
        runs.append(results(ours, *given))
    for name, value in runs[0].items():
        assert torch.equal(value, runs[1][name]), name


@BLOCKS
def test_a_row_has_the_same_bits_whatever_rows_come_with_it(make: Make) -> None:
    ours, _ = pair(make, 32)
    hidden, _, first = data(19, 11, 32)
    with torch.no_grad():
        whole = ours(hidden, first)
        assert torch.equal(ours(hidden[6:9], first[6:9]), whole[6:9])
        assert torch.equal(ours(hidden[18:], first[18:]), whole[18:])


@BLOCKS
def test_prediction_gives_the_bits_of_the_forward_pass_in_training(make: Make) -> None:
    ours, _ = pair(make, 32)
    hidden, _, first = data(5, 8, 32)
    kept = ours(hidden, first).detach()
    with torch.inference_mode():
        assert torch.equal(ours(hidden, first), kept)


def test_every_element_of_the_whole_model_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig(preset="small", backend="cpu")).eval()
    x, mask = random_inputs([50, 1, 7])
    real = torch.empty

    def poisoned(*size, **options):  # type: ignore[no-untyped-def]
        made = real(*size, **options)
        return made.fill_(float("nan")) if made.dtype == torch.float32 else made

    monkeypatch.setattr(torch, "empty", poisoned)
    logits = model(x, mask)
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_whole_small_model_agrees_with_plain_pytorch_in_float64() -> None:
    torch.manual_seed(1)
    ours = build_model(ModelConfig(preset="small", backend="cpu")).eval()
    exact = build_model(ModelConfig(preset="small", backend="naive")).eval()
    exact.load_state_dict(ours.state_dict())
    exact.double()
    x, mask = random_inputs([50, 1, 7, 33, 50])
    found = []
    for model, values in ((ours, x), (exact, x.double())):
        leaf = values.clone().requires_grad_()
        logits = model(leaf, mask)
        logits.square().sum().backward()
        found.append({"y": logits.detach(), "x": leaf.grad, **{n: p.grad for n, p in model.named_parameters()}})
    for name, expected in found[1].items():
        error = (found[0][name].double() - expected).norm() / expected.norm()
        assert error < 2e-5, (name, float(error))


def test_what_the_kernels_cannot_take_is_left_to_the_modules() -> None:
    block = mamba(32, "cpu")
    hidden = torch.randn(2, 5, 32)
    assert cpu_blocks.takes(hidden, "auto", block)
    assert not cpu_blocks.takes(hidden, "naive", block)
    assert not cpu_blocks.takes(hidden.double(), "cpu", block)
    assert not cpu_blocks.takes(hidden[:0], "cpu", block)
    assert not cpu_blocks.takes(hidden, "cpu", copy.deepcopy(block).double())
    assert not cpu_blocks.mamba_fits(24, 48, 16, 4)
    assert not cpu_blocks.attention_fits(32, 8)


def test_an_odd_scan_alone_is_not_hidden_by_the_fused_block() -> None:
    block = mamba(32, "cpu")
    hidden, _, first = data(2, 6, 32)
    with torch.no_grad():
        fused = block(hidden, first)
        block.mixer.scan_backend = "naive"  # type: ignore[union-attr]
        torch.testing.assert_close(block(hidden, first), fused, rtol=1e-5, atol=1e-6)


@njit
def _draw(key, start, dropped, factor, out):  # type: ignore[no-untyped-def]
    for i in range(0, out.size, 16):
        simd.store(out, i, keep_factor(key, start + i, dropped, factor))


def drawn(key: int, n: int, rate: float, start: int = 0) -> np.ndarray:
    out = np.empty(n, np.float32)
    _draw(np.int64(key), start, np.int64(round(rate * 2**32)), np.float32(1.0), out)
    return out


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("key", [0, 1, -(1 << 63), 0x1234_5678_9ABC])
def test_draws_keep_their_rate(rate: float, key: int) -> None:
    kept = drawn(key, 1 << 20, rate)
    assert set(np.unique(kept)) == {0.0, 1.0}
    assert abs((kept == 0).mean() - rate) < 5 * (rate * (1 - rate) / kept.size) ** 0.5


def test_draws_are_independent_along_the_elements_and_between_keys() -> None:
    n = 1 << 20
    kept = drawn(3, n, 0.5) - 0.5
    for lag in (1, 2, 3, 4, 8, 16, 64, 128, 6400):
        assert abs((kept[lag:] * kept[:-lag]).mean() / 0.25) < 5 / 1024, lag
    for key in (2, 4, 3 + (1 << 32), 3 ^ (1 << 31)):
        assert abs((kept * (drawn(key, n, 0.5) - 0.5)).mean() / 0.25) < 5 / 1024, key


def test_a_draw_depends_on_the_element_not_on_where_the_lanes_begin() -> None:
    whole = drawn(7, 1 << 12, 0.3)
    assert (drawn(7, 1 << 10, 0.3, start=1024) == whole[1024:2048]).all()
