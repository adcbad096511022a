"""The mixer against the reference's own slow path, its state dict and its initialisation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from k4_pipeline.config import ModelConfig
from k4_pipeline.kernels.selective_scan import available_backends
from k4_pipeline.models import build_model
from k4_pipeline.models.mamba import MambaMixer

# Names and shapes of mamba_ssm.Mamba(d_model=64, d_state=16, d_conv=4, expand=2), mamba-ssm 2.3.2.
REFERENCE_SHAPES = {
    "A_log": (128, 16),
    "D": (128,),
    "in_proj.weight": (256, 64),
    "conv1d.weight": (128, 1, 4),
    "conv1d.bias": (128,),
    "x_proj.weight": (36, 128),
    "dt_proj.weight": (128, 4),
    "dt_proj.bias": (128,),
    "out_proj.weight": (64, 128),
}


def reference_forward(state: dict[str, torch.Tensor], hidden: torch.Tensor) -> torch.Tensor:
    """mamba_simple.py's slow path (channels first, nn.Conv1d cut to length, selective_scan_ref), in float64."""
    state = {name: value.double() for name, value in state.items()}
    hidden = hidden.double()
    length, d_inner = hidden.shape[1], state["D"].shape[0]
    xz = torch.einsum("blm,em->bel", hidden, state["in_proj.weight"])  # (batch, 2 d_inner, length)
    x, z = xz.chunk(2, dim=1)
    x = F.silu(F.conv1d(x, state["conv1d.weight"], state["conv1d.bias"], padding=3, groups=d_inner)[..., :length])
    x_dbl = torch.einsum("bel,re->blr", x, state["x_proj.weight"])
    dt, B, C = x_dbl.split([state["dt_proj.weight"].shape[1], 16, 16], dim=-1)
    dt = F.softplus(torch.einsum("blr,er->bel", dt, state["dt_proj.weight"]) + state["dt_proj.bias"][:, None])
    A = -torch.exp(state["A_log"])
    h = torch.zeros(hidden.shape[0], d_inner, 16, dtype=torch.float64)
    ys = []
    for t in range(length):
        h = torch.exp(dt[:, :, t, None] * A) * h + dt[:, :, t, None] * B[:, t, None, :] * x[:, :, t, None]
        ys.append(torch.einsum("ben,bn->be", h, C[:, t]))
    y = torch.stack(ys, dim=-1) + x * state["D"][:, None]
    return torch.einsum("bel,me->blm", y * F.silu(z), state["out_proj.weight"])


def test_names_and_shapes_are_those_of_mamba_ssm() -> None:
    mixer = MambaMixer(64)
    assert {name: tuple(value.shape) for name, value in mixer.state_dict().items()} == REFERENCE_SHAPES


@pytest.mark.parametrize("backend", available_backends("cpu"))
def test_a_state_dict_of_the_reference_loads_and_gives_its_output(backend: str) -> None:
    generator = torch.Generator().manual_seed(3)
    state = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in REFERENCE_SHAPES.items()}
    state["dt_proj.bias"] -= 3.0
    mixer = MambaMixer(64, backend=backend)
    mixer.load_state_dict(state, strict=True)
    hidden = torch.randn(3, 50, 64, generator=generator)
    with torch.no_grad():
        ours = mixer(hidden)
    expected = reference_forward(state, hidden)
    assert (ours.double() - expected).norm() / expected.norm() < 1e-5


def test_initialisation_is_the_references() -> None:
    torch.manual_seed(0)
    mixer = MambaMixer(256)
    dt = F.softplus(mixer.dt_proj.bias)
    assert 1e-3 * 0.999 <= dt.min() < 2e-3
    assert 0.05 < dt.max() <= 0.1 * 1.001
    assert 0.4 < (dt.log() < math.log(0.01)).float().mean() < 0.6  # log-uniform: half below the geometric middle
    torch.testing.assert_close(mixer.A_log[7].exp(), torch.arange(1.0, 17.0))
    assert torch.equal(mixer.D, torch.ones(512))
    assert mixer.dt_proj.weight.abs().max() <= mixer.dt_rank**-0.5


def test_residual_projections_shrink_with_the_number_of_blocks() -> None:
    torch.manual_seed(0)
    deep = build_model(ModelConfig(preset="large"))
    weights = [block.mixer.out_proj.weight for block in deep.blocks]
    d_inner = weights[0].shape[1]
    # kaiming_uniform with a = sqrt(5) is uniform on +-1/sqrt(fan_in).
    expected = 1 / math.sqrt(3 * d_inner) / math.sqrt(len(weights))
    for weight in weights:
        assert abs(weight.std().item() / expected - 1) < 0.02


def test_padding_in_front_leaves_the_state_at_zero() -> None:
    torch.manual_seed(0)
    mixer = MambaMixer(32)
    with torch.no_grad():
        mixer.conv1d.bias.add_(1.0)
        hidden = torch.randn(2, 50, 32)
        padded = mixer(hidden, torch.tensor([45, 45]))
        torch.testing.assert_close(padded[:, 45:], mixer(hidden[:, 45:]), rtol=1e-5, atol=1e-6)
        assert (padded[:, :45] == 0).all()
