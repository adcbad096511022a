"""The `cpu` scan against the naive scan in float64, and what it promises beyond the numbers."""

from __future__ import annotations

import pytest
import torch

from k4_pipeline.kernels.selective_scan import selective_scan
from k4_pipeline_tests.kernels.scan_cases import errors_against_float64, make_inputs, run

FP32 = 2e-6  # unit roundoff 6e-8 times the roundings of a sum over 16 states and up to 128 bars, measured 1e-7 to 4e-7


@pytest.mark.parametrize("length", [1, 7, 50, 63, 128])
@pytest.mark.parametrize("channels", [5, 16, 33])
def test_output_and_gradients_match_float64_at_every_length(length, channels):
    errors = errors_against_float64(make_inputs(3, length, channels, 16), backend="cpu")
    assert max(errors.values()) < FP32, errors


@pytest.mark.parametrize("d_state", [1, 2, 3, 4, 8, 32, 64])
def test_output_and_gradients_match_float64_at_every_state_size(d_state):
    errors = errors_against_float64(make_inputs(2, 9, 20, d_state), backend="cpu")
    assert max(errors.values()) < FP32, errors


@pytest.mark.parametrize("missing", [("z",), ("D",), ("dt_bias",), ("z", "D", "dt_bias")])
@pytest.mark.parametrize("dt_softplus", [True, False])
def test_optional_inputs_can_be_left_out(missing, dt_softplus):
    inputs = {**make_inputs(2, 11, 18, 4), **dict.fromkeys(missing)}
    if not dt_softplus:
        inputs["dt"] = inputs["dt"].abs()
        inputs["dt_bias"] = None if inputs["dt_bias"] is None else inputs["dt_bias"].abs()
    errors = errors_against_float64(inputs, backend="cpu", dt_softplus=dt_softplus)
    assert max(errors.values()) < FP32, errors


def test_bf16_inputs_lose_only_the_rounding_of_the_results():
    # inputs are the same bf16 numbers on both sides and the state is float32: only the rounding of each result to
    # bf16 is left, at most 2**-9 relative per value; the gated product rounds once
    errors = errors_against_float64(make_inputs(2, 50, 33, 16, dtype=torch.bfloat16), backend="cpu")
    assert max(errors.values()) < 2.0**-8, errors


def test_float64_inputs_are_computed_in_float64():
    inputs = make_inputs(2, 12, 5, 4, dtype=torch.float64)
    errors = errors_against_float64(inputs, backend="cpu")
    assert max(errors.values()) < 1e-14, errors


def test_strided_inputs_give_the_same_bits_as_contiguous_ones():
    inputs = make_inputs(3, 10, 24, 8)
    expected = selective_scan(**inputs, backend="cpu")
    both = torch.full((3, 10, 48), float("nan"))
    both[..., 24:] = inputs["z"]
    packed = torch.full((3, 10, 20), float("nan"))
    packed[..., 4:12], packed[..., 12:] = inputs["B"], inputs["C"]
    views = {"z": both[..., 24:], "B": packed[..., 4:12], "C": packed[..., 12:]}
    assert torch.equal(selective_scan(**{**inputs, **views}, backend="cpu"), expected)


def test_a_row_does_not_depend_on_the_rest_of_its_batch():
    inputs = make_inputs(13, 20, 40, 16)
    whole = selective_scan(**inputs, backend="cpu")
    rows = {name: value[7:9] if value.dim() == 3 else value for name, value in inputs.items()}
    assert torch.equal(selective_scan(**rows, backend="cpu"), whole[7:9])


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    inputs, results = make_inputs(40, 9, 20, 8), []
    for threads in ("1", "3"):
        monkeypatch.setenv("K4_THREADS", threads)
        results.append(run(inputs, torch.ones_like(inputs["u"]), backend="cpu"))
    assert torch.equal(results[0][0], results[1][0])
    for name, grad in results[0][1].items():
        assert torch.equal(grad, results[1][1][name]), name


def test_every_output_element_is_written(monkeypatch):
    def poisoned(*size, **options):
        options.pop("out", None)
        shape = size[0] if isinstance(size[0], (tuple, torch.Size)) else size
        return torch.full(shape, float("nan"), dtype=options.get("dtype", torch.float32))

    inputs = make_inputs(5, 13, 21, 4)
    monkeypatch.setattr("k4_pipeline.kernels.selective_scan.cpu.torch.empty", poisoned)
    y, grads = run(inputs, torch.ones_like(inputs["u"]), backend="cpu")
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(grad).all() for grad in grads.values())


def test_a_nan_input_reaches_its_own_row_and_no_other():
    inputs = make_inputs(3, 10, 20, 4)
    clean = selective_scan(**inputs, backend="cpu")
    inputs["u"][1, 4, 2] = float("nan")
    y = selective_scan(**inputs, backend="cpu")
    assert torch.isnan(y[1, 4:, 2]).all()
    y[1, 4:, 2] = clean[1, 4:, 2]
    assert torch.equal(y, clean)


def test_a_nan_step_size_is_not_hidden_by_the_fast_exponential():
    inputs = make_inputs(1, 6, 16, 4)
    inputs["dt"][0, 3, 5] = float("nan")
    assert torch.isnan(selective_scan(**inputs, backend="cpu")[0, 3:, 5]).all()


def test_empty_batches_give_empty_outputs():
    inputs = make_inputs(2, 6, 5, 4)
    empty = {name: value[:0] if value.dim() == 3 else value for name, value in inputs.items()}
    assert selective_scan(**empty, backend="cpu").shape == (0, 6, 5)


def test_states_that_grow_are_computed_too():
    inputs = make_inputs(3, 20, 17, 4)
    inputs["A"] = -inputs["A"] * 0.1
    assert (inputs["A"] > 0).all()
    errors = errors_against_float64(inputs, backend="cpu")
    assert max(errors.values()) < FP32, errors
