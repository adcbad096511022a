"""The sequences benchmark runs, compares before it measures, and names what it measured."""

from __future__ import annotations

import json

import numpy as np
import pytest

from k4_pipeline.bench import sequences as bench
from k4_pipeline.errors import BadInputError
from k4_pipeline_tests.sequences.conftest import CASES, LENGTHS, World, make_world, random_bars, snapshots_at


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> World:
    """The made-up universe in the place of bars on disk."""
    bars = random_bars(LENGTHS)
    world = make_world(bars, snapshots_at(bars, CASES))
    panel = world.panel.astype(np.float32)
    monkeypatch.setattr(
        bench, "_prepare", lambda path: ({"frame": world.sequences, "features": 0.5}, world.bars, panel)
    )
    monkeypatch.setattr(bench, "MANY", 500)
    return world


def test_the_result_holds_the_ratios_and_is_json(small: World) -> None:
    result = json.loads(json.dumps(bench.run(batch_size=64)))
    for key in ("ratio_memcpy", "ratio_memcpy_key_order", "ratio_memcpy_inputs", "ratio_memcpy_one_thread"):
        assert result[key] > 0
    assert result["ratio_memcpy"] == pytest.approx(result["memcpy_ms"] / result["canonical_ms"])
    assert result["seconds_bars_to_100k_sequences"] == pytest.approx(0.5 + result["seconds_100k"])
    assert result["batch"] == [64, 50, 69]
    assert result["numba"]


def test_nothing_is_measured_when_the_result_is_wrong(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = bench.assemble_canonical

    def one_bar_late(panel, index, rows, *rest, **options):
        values, mask = honest(panel, index, rows, *rest, **options)
        return np.roll(values, 1, axis=1), mask

    monkeypatch.setattr(bench, "assemble_canonical", one_bar_late)
    with pytest.raises(BadInputError, match="nothing was measured"):
        bench.run(batch_size=64)
