"""The benchmarks of scale and of other architectures: what they compare with is right, and so is the line to 375 M."""

from __future__ import annotations

import pytest

from k4_pipeline.bench import architectures, scale


@pytest.mark.parametrize("length", [1, 50, 64, 130])
def test_the_chunked_scan_of_mamba_2_is_the_recurrence(length):
    assert architectures.scan_error(length) < 1e-12


def test_other_models_have_about_the_parameters_of_ours():
    counts = {
        name: architectures.count_parameters(architectures.model_of(name))
        for name in ("mamba", "bilstm", "gru", "attention", "mamba2")
    }
    assert max(counts.values()) < 1.25 * min(counts.values()), counts


def test_time_and_memory_of_375_million_bars_lie_on_the_line_through_the_last_two_sizes():
    rows = [
        {"bars": 3_000_000, "seconds": 99.0, "peak_mib": 900.0},
        {"bars": 12_000_000, "seconds": 25.0, "peak_mib": 1000.0},
        {"bars": 48_000_000, "seconds": 97.0, "peak_mib": 1072.0},
    ]
    assert scale._ahead(rows) == pytest.approx({"seconds": 751.0, "peak_mib": 1726.0})
