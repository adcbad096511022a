"""The question whether fast sums over channels are right: its own arithmetic, and its three answers."""

from __future__ import annotations

import pytest
import torch

from k4_pipeline.kernels.selective_scan.triton_check import exact_db_dc, sums_agree
from k4_pipeline_tests.kernels.scan_cases import make_inputs, run


@pytest.fixture
def case() -> tuple[tuple, torch.Tensor]:  # type: ignore[type-arg]
    inputs = make_inputs(2, 9, 12, 16, dtype=torch.float64)
    dy = torch.randn(2, 9, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    _, grads = run(inputs, dy, backend="naive")
    bc = torch.cat([inputs["B"], inputs["C"]], dim=-1)
    arguments = (dy, inputs["u"], inputs["dt"], inputs["A"], bc, inputs["z"], inputs["dt_bias"], True)
    return arguments, torch.cat([grads["B"], grads["C"]], dim=-1)


def test_its_gradients_are_those_of_the_reference(case) -> None:  # type: ignore[no-untyped-def]
    arguments, expected = case
    torch.testing.assert_close(exact_db_dc(*arguments), expected, rtol=1e-12, atol=1e-12)


def test_right_sums_agree_and_sums_in_another_order_do_not(case) -> None:  # type: ignore[no-untyped-def]
    arguments, expected = case
    assert sums_agree(*arguments, expected.bfloat16()) is True
    assert sums_agree(*arguments, expected.roll(1, dims=-1)) is False
    assert sums_agree(*arguments, torch.full_like(expected, float("nan"))) is False


def test_a_row_without_gradient_cannot_tell(case) -> None:  # type: ignore[no-untyped-def]
    (dy, *rest), expected = case
    assert sums_agree(torch.zeros_like(dy), *rest, torch.zeros_like(expected)) is None
