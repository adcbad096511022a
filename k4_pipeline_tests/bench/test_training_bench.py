"""The training benchmark: right before fast, every variant of the machine, the keys others read."""

from __future__ import annotations

import functools
import json
import sys
import types

import pytest
import torch

from k4_pipeline.bench import train as bench
from k4_pipeline.kernels.bf16 import AVAILABLE
from k4_pipeline.models.mamba import MambaMixer


def test_it_reports_samples_per_second_by_variant() -> None:
    result = bench.run("cpu", 1, batch=8)
    ours, rivals = {"mamba_cpu", "mamba_cpu_with_assembly"}, {"bilstm", "mamba_cpu_with_naive_scan", "mamba_naive"}
    half = {"mamba_cpu_bf16", "bilstm_bf16"} if AVAILABLE else set()
    assert set(result["samples_per_s"]) == ours | rivals | half
    assert {row["variant"] for row in result["rows"] if row["precision"] == "bf16"} == half
    assert all(value > 0 for value in result["samples_per_s"].values())
    assert result["correct"]
    speeds = result["samples_per_s"]
    assert result["ratio_over_naive"] == pytest.approx(speeds["mamba_cpu"] / speeds["mamba_naive"])
    assert result["ratio_over_naive_scan"] == pytest.approx(speeds["mamba_cpu"] / speeds["mamba_cpu_with_naive_scan"])
    predicted = result["predict_samples_per_s"]
    assert result["predict_ratio_over_bilstm"] == pytest.approx(predicted["mamba_cpu"] / predicted["bilstm"])
    if AVAILABLE:
        assert result["bf16_over_bilstm_bf16"] == pytest.approx(speeds["mamba_cpu_bf16"] / speeds["bilstm_bf16"])
        assert result["bf16_over_naive"] == pytest.approx(speeds["mamba_cpu_bf16"] / speeds["mamba_naive"])
    assert {"device", "torch", "commit", "batch", "precision"} <= set(result["environment"])
    json.dumps(result, allow_nan=False)


def test_a_backend_that_is_wrong_gets_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        bench._Bench, "error", lambda self, backend, precision="": 0.5 if (backend, precision) == ("cpu", "") else 0.0
    )
    result = bench.run("cpu", 1, batch=8)
    assert not result["correct"]
    assert result["samples_per_s"]["mamba_cpu"] is None
    assert result["samples_per_s"]["mamba_naive"] > 0
    assert result["ratio_over_naive"] is None
    if AVAILABLE:  # another precision is another variant
        assert result["samples_per_s"]["mamba_cpu_bf16"] > 0


def test_the_blocks_of_the_package_take_the_place_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    # The package needs a GPU; what stands for it here has its names and weights.
    package, modules, simple = (types.ModuleType(name) for name in ("mamba_ssm", "modules", "mamba_simple"))
    simple.Mamba = functools.partial(MambaMixer, backend="naive")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mamba_ssm", package)
    monkeypatch.setitem(sys.modules, "mamba_ssm.modules", modules)
    monkeypatch.setitem(sys.modules, "mamba_ssm.modules.mamba_simple", simple)
    assert bench._Bench(torch.device("cpu"), 256, 1).error_of_blocks() < 1e-5
