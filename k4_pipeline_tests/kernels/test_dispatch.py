"""Which backend is chosen, what it says, and that a request is honoured or refused."""

from __future__ import annotations

import pytest
import torch

from k4_pipeline.errors import ConfigError
from k4_pipeline.kernels.selective_scan import available_backends, choose_backend, describe, dispatch


@pytest.fixture(autouse=True)
def _no_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def test_the_cpu_backend_is_chosen_on_a_cpu_and_says_so():
    choice = describe("cpu")
    assert choice.name == "cpu"
    assert "on the CPU" in str(choice)


def test_triton_is_chosen_on_cuda_when_it_is_installed(monkeypatch):
    monkeypatch.setattr(dispatch, "_installed", lambda module: module == "triton")
    assert choose_backend("cuda") == "triton"
    assert available_backends("cuda") == ("naive", "triton")


def test_without_triton_cuda_falls_back_to_naive_and_says_that_it_is_slow(monkeypatch):
    monkeypatch.setattr(dispatch, "_installed", lambda module: False)
    choice = describe(torch.device("cuda"))
    assert choice.name == "naive"
    assert "triton is not installed" in choice.reason
    assert "slow" in choice.reason


@pytest.mark.parametrize("device, requested", [("cuda", "cpu"), ("cpu", "triton"), ("cpu", "mamba_ssm")])
def test_a_request_that_cannot_run_is_refused_with_the_alternatives(device, requested):
    with pytest.raises(ConfigError, match=r"cannot run: .*usable here: naive"):
        choose_backend(device, requested)


def test_a_request_is_honoured():
    assert choose_backend("cpu", "naive") == "naive"
    assert describe("cpu", "naive").reason == "requested"


def test_an_unknown_backend_is_refused():
    with pytest.raises(ConfigError, match="unknown"):
        choose_backend("cpu", "cuda")


def test_mamba_ssm_is_offered_on_cuda_when_installed(monkeypatch):
    monkeypatch.setattr(dispatch, "_installed", lambda module: module == "mamba_ssm")
    assert choose_backend("cuda", "mamba_ssm") == "mamba_ssm"
    assert available_backends("cpu") == ("naive", "cpu")
