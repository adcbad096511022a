"""The grid of `scan_grid`: a sample here, all 672 cases of every backend with K4_GRID=all (`make grid`)."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch

from k4_pipeline_tests.kernels.scan_grid import LENGTHS, LIMITS, STATES, Case, cases, sampled, worst_errors

SAMPLE = 14
WHOLE = os.environ.get("K4_GRID") == "all"
ON_CPU = cases() if WHOLE else sampled(cases(), SAMPLE)


def test_the_grid_and_its_sample_hold_every_length_width_precision_and_flag():
    assert len(cases()) == len(set(cases())) == 672
    for chosen in (cases(), sampled(cases(), SAMPLE)):
        assert {case.length for case in chosen} == set(LENGTHS)
        assert {case.width for case in chosen} == set(STATES)
        assert {case.dtype for case in chosen} == set(LIMITS)
        for flag in ("has_d", "has_z", "has_bias", "softplus"):
            assert {getattr(case, flag) for case in chosen} == {True, False}


def test_cpu_backends_match_float64_over_the_grid():
    missed = {}
    for case in ON_CPU:
        errors = worst_errors(case, ("naive", "cpu"), "cpu")
        missed |= {f"{name}: {case}": error for name, error in errors.items() if not error < LIMITS[case.dtype]}
    assert missed == {}


@pytest.mark.parametrize("where", ["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_triton_matches_float64_over_the_grid(where):
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed: it has wheels for Linux on x86-64 only")
    if where == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    command = [sys.executable, "-m", "k4_pipeline_tests.kernels.scan_grid"]
    count = 672 if WHOLE else 5
    if not WHOLE:
        command += ["--sample", str(count)]
    interpreted = {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""} if where == "interpreter" else {}
    done = subprocess.run(command, env={**os.environ, **interpreted}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert json.loads(done.stdout)["cases"] == count


@pytest.mark.gpu
def test_two_compiled_kernels_serve_all_lengths():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    from k4_pipeline.kernels.selective_scan.triton_forward import scan_forward

    def compiled() -> int:
        return len(scan_forward.device_caches[torch.cuda.current_device()][0])

    before = compiled()
    for length in LENGTHS:
        worst_errors(Case(torch.float32, length, 4, True, True, True, True), ("triton",), "cuda")
    assert compiled() - before <= 2  # the lengths that the chunks divide, and the others
