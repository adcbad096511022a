"""Batches computed on the device against the numba kernel that defines them."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from k4_pipeline.errors import BadInputError, StaleArtifactError
from k4_pipeline.sequences.dataset import SequenceDataset
from k4_pipeline.training.device_batches import DeviceBatches
from k4_pipeline.training.source import BatchSource
from k4_pipeline_tests.training.panels import random_index, random_panel, scaler_for


@pytest.mark.parametrize("exact_close", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_value_agrees_with_the_reference_to_1e_5(exact_close: bool, seed: int) -> None:
    panel, close = random_panel(seed=seed)
    index = random_index(panel, close if exact_close else None, seed=seed + 10)
    scaler = scaler_for(panel, index)
    rows = np.random.default_rng(seed).permutation(len(index))[:100]
    targets, weights = rows % 6, 0.5 + rows / 100.0
    expected = SequenceDataset(panel, index, rows, scaler, targets, weights).batch(np.arange(100))
    x, mask, y, w = DeviceBatches(panel, index, rows, scaler, targets, weights).batch(np.arange(100))
    assert torch.equal(mask, expected.mask)
    assert (x - expected.x).abs().max() <= 1e-5
    assert torch.equal(x == 0, expected.x == 0) or (x - expected.x)[(x == 0) != (expected.x == 0)].abs().max() < 1e-6
    assert torch.equal(y, expected.y)
    assert torch.equal(w, expected.w)
    # The comparison means something: values vary, some are clipped, some are missing.
    assert expected.x[expected.mask].std() > 0.5
    assert (expected.x[expected.mask] == 0).any()


def test_positions_count_in_rows_and_may_repeat() -> None:
    panel, close = random_panel()
    index = random_index(panel, close)
    batches = DeviceBatches(panel, index, np.array([7, 3, 50]), scaler_for(panel, index))
    whole = batches.batch(np.arange(3))[0]
    assert torch.equal(batches.batch(np.array([2, 0, 0]))[0], whole[[2, 0, 0]])
    assert torch.equal(batches.batch(torch.tensor([2]))[0], whole[2:3])
    assert len(batches) == 3
    assert isinstance(batches, BatchSource)


def test_the_panel_is_shared_when_it_is_a_tensor() -> None:
    panel, close = random_panel()
    index = random_index(panel, close)
    scaler, on_device = scaler_for(panel, index), torch.from_numpy(panel)
    first, second = (DeviceBatches(on_device, index, np.arange(k, k + 5), scaler) for k in (0, 5))
    assert first.panel.data_ptr() == second.panel.data_ptr()


def test_half_precision_is_the_rounded_value() -> None:
    panel, close = random_panel()
    index = random_index(panel, close)
    scaler = scaler_for(panel, index)
    full, half = (
        DeviceBatches(panel, index, np.arange(9), scaler, dtype=d).batch(np.arange(9))[0]
        for d in (torch.float32, torch.bfloat16)
    )
    assert torch.equal(full.bfloat16(), half)


def test_rows_outside_index_or_panel_and_sequences_without_a_bar_are_refused() -> None:
    panel, close = random_panel()
    index = random_index(panel, close)
    scaler = scaler_for(panel, index)
    with pytest.raises(BadInputError, match="the index has 120 sequences"):
        DeviceBatches(panel, index, np.array([120]), scaler)
    with pytest.raises(BadInputError, match="does not belong to this panel"):
        DeviceBatches(panel[:100], index, np.arange(120), scaler)
    index.rows[4, 1] = 0
    with pytest.raises(BadInputError, match="no valid bar"):
        DeviceBatches(panel, index, np.arange(10), scaler)


def test_a_scaler_of_another_feature_list_is_refused() -> None:
    panel, close = random_panel()
    index = random_index(panel, close)
    scaler = scaler_for(panel, index)
    scaler.meta["feature_list_hash"] = "old"
    with pytest.raises(StaleArtifactError, match="feature list"):
        DeviceBatches(panel, index, np.arange(4), scaler)


@pytest.mark.slow
def test_the_triton_kernel_gives_the_same_values_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    code = (
        "from k4_pipeline_tests.training.test_device_batches import compare_kernel_with_reference as run;"
        "run(True); run(False)"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def compare_kernel_with_reference(exact_close: bool) -> None:
    """Run by the test above in a process with the interpreter switched on."""
    panel, close = random_panel(seed=4)
    index = random_index(panel, close if exact_close else None, n=40)
    batches = DeviceBatches(panel, index, np.arange(len(index)), scaler_for(panel, index))
    at = torch.arange(len(index)).flip(0)
    x, mask = batches._on_processor(at)
    got, got_mask = batches._kernel(at)
    assert torch.equal(mask, got_mask)
    assert (got - x).abs().max() <= 1e-5
    wide, _ = batches._kernel(at, 72, torch.bfloat16)
    assert wide.shape == (*x.shape[:2], 72)
    assert (wide[..., 69:] == 0).all()
    assert (wide[..., :69].float() - x).abs().max() <= 8 * 2.0**-7  # the interpreter cuts off; values up to 8
