"""Both architectures: sizes, padding, single bars, gradients, half precision, compilation."""

from __future__ import annotations

import pytest
import torch

from k4_pipeline.config import ModelConfig
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.kernels.selective_scan import available_backends
from k4_pipeline.models import PRESETS, build_model, check_mask, count_parameters
from k4_pipeline_tests.models.inputs import random_inputs

ARCHITECTURES = ("mamba_attention", "bilstm")
VALID = [50, 1, 2, 17, 49, 3]


def tiny(architecture: str, seed: int = 0, **overrides: object) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_model(ModelConfig(architecture=architecture, preset="tiny", **overrides)).eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "preset, target",
    [("small", 500_000), ("base", 2_000_000), ("large", 8_000_000), ("tiny", 45_000), ("micro", 7_000)],
)
def test_a_preset_has_the_parameters_its_name_promises(architecture: str, preset: str, target: int) -> None:
    count = count_parameters(build_model(ModelConfig(architecture=architecture, preset=preset)))
    assert abs(count / target - 1) <= 0.10, f"{architecture} {preset} has {count:,} parameters"


@pytest.mark.parametrize("preset", PRESETS)
def test_the_bilstm_has_as_many_parameters_as_the_mamba_model(preset: str) -> None:
    counts = [count_parameters(build_model(ModelConfig(architecture=a, preset=preset))) for a in ARCHITECTURES]
    assert abs(counts[1] / counts[0] - 1) < 0.08, counts


def test_the_small_bilstm_matches_within_one_percent() -> None:
    counts = [count_parameters(build_model(ModelConfig(architecture=a, preset="small"))) for a in ARCHITECTURES]
    assert abs(counts[1] / counts[0] - 1) < 0.01, counts


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("poison", [1.0, -3e4, float("inf"), float("nan")])
def test_padded_values_change_no_output_bit(architecture: str, poison: float) -> None:
    model = tiny(architecture)
    x, mask = random_inputs(VALID)
    poisoned = x.masked_fill(~mask[..., None], poison)
    with torch.no_grad():
        assert torch.equal(model(x, mask), model(poisoned, mask))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padded_values_change_no_gradient_bit_and_receive_none(architecture: str) -> None:
    x, mask = random_inputs(VALID)
    gradients = []
    for values in (x, x.masked_fill(~mask[..., None], 7.0)):
        model = tiny(architecture)
        values = values.clone().requires_grad_()
        model(values, mask).square().sum().backward()
        assert (values.grad[~mask] == 0).all()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("backend", [b for b in available_backends("cpu") if b != "naive"])
def test_every_backend_gives_the_outputs_and_gradients_of_the_naive_one(backend: str) -> None:
    x, mask = random_inputs(VALID)
    outputs, gradients = [], []
    for name in ("naive", backend):
        model = tiny("mamba_attention", backend=name)
        logits = model(x, mask)
        logits.square().sum().backward()
        outputs.append(logits.detach())
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-6)
    for n, expected in gradients[0].items():
        assert (gradients[1][n] - expected).norm() <= 1e-4 * expected.norm(), n


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("n_valid", [1, 2, 5, 30])
def test_a_padded_sequence_gives_what_its_valid_bars_alone_give(architecture: str, n_valid: int) -> None:
    model = tiny(architecture)
    # Biases away from their initial zeros, so that a bias leaking in from padding would show.
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    x, mask = random_inputs([n_valid] * 4)
    with torch.no_grad():
        padded = model(x, mask)
        alone = model(x[:, -n_valid:], mask[:, -n_valid:])
    torch.testing.assert_close(padded, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_valid_bar_matters_and_every_parameter_gets_a_gradient(architecture: str) -> None:
    model = tiny(architecture)
    x, mask = random_inputs([50, 20])
    x.requires_grad_()
    model(x, mask).square().sum().backward()
    assert (x.grad.abs().sum(-1) > 0).equal(mask)
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_order_of_the_bars_matters(architecture: str) -> None:
    model = tiny(architecture)
    x, mask = random_inputs([50])
    swapped = x.clone()
    swapped[:, [10, 30]] = x[:, [30, 10]]
    with torch.no_grad():
        assert (model(x, mask) - model(swapped, mask)).abs().max() > 1e-5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_single_valid_bar_gives_finite_logits_and_gradients(architecture: str) -> None:
    model = tiny(architecture).train()
    x, mask = random_inputs([1, 1, 50])
    logits = model(x, mask)
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bfloat16_autocast_stays_close_to_float32(architecture: str) -> None:
    model = tiny(architecture)
    x, mask = random_inputs(VALID)
    with torch.no_grad():
        exact = torch.softmax(model(x, mask), -1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = torch.softmax(model(x, mask).float(), -1)
    assert (exact - half).abs().max() < 0.02


def test_the_compiled_graph_has_no_breaks_outside_the_scan() -> None:
    model = tiny("mamba_attention", backend="naive")
    x, mask = random_inputs([4, 1], length=4)
    explanation = torch._dynamo.explain(model)(x, mask)
    assert explanation.graph_break_count == 0, explanation.break_reasons


def test_initialisation_depends_on_the_seed_alone() -> None:
    first, again, other = tiny("mamba_attention", 1), tiny("mamba_attention", 1), tiny("mamba_attention", 2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.input.weight, other.input.weight)


def test_an_all_padding_row_is_refused_and_named() -> None:
    mask = torch.ones(3, 50, dtype=torch.bool)
    check_mask(mask)
    check_mask(mask.numpy())
    mask[1] = False
    with pytest.raises(BadInputError, match=r"1 of 3 sequences are all padding \(first: row 1\)"):
        check_mask(mask)


def test_padding_after_a_valid_bar_is_refused() -> None:
    mask = torch.ones(3, 50, dtype=torch.bool)
    mask[2, -1] = False
    with pytest.raises(BadInputError, match="padding belongs in front"):
        check_mask(mask)
    with pytest.raises(BadInputError, match="must be bool"):
        check_mask(torch.ones(3, 50))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="preset 'huge'"):
        build_model(ModelConfig(preset="huge"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="architecture 'gru'"):
        build_model(ModelConfig(architecture="gru"))  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", ["mamba_attention", "bilstm"])
def test_columns_behind_the_features_change_no_logit(architecture: str) -> None:
    model = build_model(ModelConfig(architecture=architecture, preset="tiny")).eval()
    x, mask = random_inputs([50, 7])
    wide = torch.nn.functional.pad(x, (0, 3), value=2.5)
    with torch.inference_mode():
        torch.testing.assert_close(model(wide, mask), model(x, mask), rtol=0, atol=1e-6)
