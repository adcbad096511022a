"""The Triton scan: in the interpreter here, on a CUDA device where there is one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch

from k4_pipeline.bench.scan import correctness
from k4_pipeline.errors import BadInputError
from k4_pipeline.kernels.selective_scan import selective_scan
from k4_pipeline_tests.kernels.scan_cases import make_inputs

FP32 = 2e-6  # unit roundoff 6e-8 times the roundings of a sum over up to 64 states and 128 bars
# the interpreter cuts float32 off at bf16 instead of rounding: one unit, 2**-7, bounds the error of every value
BF16_INTERPRETED = 2.0**-7


@pytest.fixture(scope="module")
def interpreted() -> dict[str, dict[str, float]]:
    """Errors of every case, from one process in which Triton's interpreter is on."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed: it has wheels for Linux on x86-64 only")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "k4_pipeline_tests.kernels.triton_cases"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 7, 50, 63, 128])
def test_interpreted_kernels_match_float64_at_every_length(interpreted, length):
    errors = interpreted[f"length {length}"]
    assert len(errors) == 9
    assert all(error < FP32 for error in errors.values()), errors


@pytest.mark.slow
def test_interpreted_kernels_match_float64_in_every_other_fp32_case(interpreted):
    cases = [name for name in interpreted if not name.startswith("length") and "bf16" not in name]
    assert len(cases) == 25
    for name in cases:
        assert all(error < FP32 for error in interpreted[name].values()), (name, interpreted[name])


@pytest.mark.slow
def test_interpreted_kernels_match_float64_in_bf16(interpreted):
    for name in ("bf16", "conv bf16"):
        assert all(error < BF16_INTERPRETED for error in interpreted[name].values()), (name, interpreted[name])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_kernels_match_float64_on_the_device(dtype):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    report = correctness("triton", dtype, torch.device("cuda"))
    assert report["ok"], report


@pytest.mark.gpu
def test_compiled_model_code_may_contain_the_scan():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    inputs = make_inputs(4, 10, 32, 16, device="cuda")
    compiled = torch.compile(lambda **given: 2 * selective_scan(**given), fullgraph=True)
    torch.testing.assert_close(compiled(**inputs), 2 * selective_scan(**inputs))


def test_unsupported_inputs_are_refused_by_name(monkeypatch):
    pytest.importorskip("triton")
    from k4_pipeline.kernels.selective_scan.triton_op import selective_scan_triton

    with pytest.raises(BadInputError, match="d_state"):
        selective_scan_triton(**make_inputs(1, 2, 4, 3))
    with pytest.raises(BadInputError, match="float64"):
        selective_scan_triton(**make_inputs(1, 2, 4, 4, dtype=torch.float64))
