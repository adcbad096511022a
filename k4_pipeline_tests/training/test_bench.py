"""The training benchmark: right before fast, every variant of the machine, the keys others read."""

from __future__ import annotations

import json

import pytest

from k4_pipeline.bench import train as bench


def test_it_reports_samples_per_second_by_variant() -> None:
    result = bench.run("cpu", 1, batch=8)
    ours, rivals = {"mamba_cpu", "mamba_cpu_with_assembly"}, {"bilstm", "mamba_cpu_with_naive_scan", "mamba_naive"}
    assert set(result["samples_per_s"]) == ours | rivals
    assert all(value > 0 for value in result["samples_per_s"].values())
    assert result["correct"]
    speeds = result["samples_per_s"]
    assert result["ratio_over_naive"] == pytest.approx(speeds["mamba_cpu"] / speeds["mamba_naive"])
    assert result["ratio_over_naive_scan"] == pytest.approx(speeds["mamba_cpu"] / speeds["mamba_cpu_with_naive_scan"])
    predicted = result["predict_samples_per_s"]
    assert result["predict_ratio_over_bilstm"] == pytest.approx(predicted["mamba_cpu"] / predicted["bilstm"])
    assert {"device", "torch", "commit", "batch", "precision"} <= set(result["environment"])
    json.dumps(result, allow_nan=False)


def test_a_backend_that_is_wrong_gets_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench._Bench, "error", lambda self, backend: 0.5 if backend == "cpu" else 0.0)
    result = bench.run("cpu", 1, batch=8)
    assert not result["correct"]
    assert result["samples_per_s"]["mamba_cpu"] is None
    assert result["samples_per_s"]["mamba_naive"] > 0
    assert result["ratio_over_naive"] is None
