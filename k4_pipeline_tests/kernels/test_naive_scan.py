"""The reference itself: gradcheck, a hand-computed case, and what padding in front means."""

from __future__ import annotations

import math

import pytest
import torch

from k4_pipeline.errors import BadInputError
from k4_pipeline.kernels.selective_scan import selective_scan
from k4_pipeline_tests.kernels.scan_cases import make_inputs


def test_one_channel_one_state_matches_hand_computed_values():
    def one(*values: float) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64).view(1, -1, 1)

    u, dt, b, c = one(1.0, 2.0), one(0.5, 0.25), one(3.0, -1.0), one(2.0, 4.0)
    a, d = torch.tensor([[-1.0]], dtype=torch.float64), torch.tensor([10.0], dtype=torch.float64)
    y = selective_scan(u, dt, a, b, c, d, dt_softplus=False, backend="naive")
    h1 = 0.5 * 3.0 * 1.0
    h2 = math.exp(-0.25) * h1 + 0.25 * -1.0 * 2.0
    assert y.flatten().tolist() == pytest.approx([2.0 * h1 + 10.0, 4.0 * h2 + 20.0], rel=1e-14)


def test_gate_and_softplus_are_silu_and_softplus():
    inputs = make_inputs(2, 3, 4, 2, dtype=torch.float64)
    gated = selective_scan(**inputs, backend="naive")
    z = inputs.pop("z")
    delta = torch.nn.functional.softplus(inputs.pop("dt") + inputs.pop("dt_bias"))
    plain = selective_scan(**inputs, dt=delta, dt_softplus=False, backend="naive")
    torch.testing.assert_close(gated, plain * z * torch.sigmoid(z), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("optional", [(), ("z",), ("D", "dt_bias"), ("z", "D", "dt_bias")])
def test_gradcheck_of_the_reference(optional):
    inputs = make_inputs(2, 4, 3, 2, dtype=torch.float64)
    for name in ("z", "D", "dt_bias"):
        if name not in optional:
            inputs[name] = None
    names = [name for name, value in inputs.items() if value is not None]

    def scan(*values):
        return selective_scan(**{**inputs, **dict(zip(names, values))}, backend="naive")

    values = tuple(inputs[name].requires_grad_() for name in names)
    assert torch.autograd.gradcheck(scan, values)


def test_zero_input_in_front_leaves_the_rest_of_the_row_unchanged():
    inputs = make_inputs(2, 6, 3, 4, dtype=torch.float64)
    short = selective_scan(**inputs, backend="naive")
    padded = dict(inputs)
    for name in ("u", "dt", "B", "C", "z"):
        filler = torch.zeros_like(inputs[name][:, :5]) if name == "u" else torch.randn_like(inputs[name][:, :5])
        padded[name] = torch.cat([filler, inputs[name]], dim=1)
    torch.testing.assert_close(selective_scan(**padded, backend="naive")[:, 5:], short, rtol=1e-13, atol=1e-13)


def test_a_wrong_shape_is_named():
    inputs = make_inputs(2, 6, 3, 4)
    inputs["B"] = inputs["B"][:, :5]
    with pytest.raises(BadInputError, match=r"B has shape \(2, 5, 4\)"):
        selective_scan(**inputs)
