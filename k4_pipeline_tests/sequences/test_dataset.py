"""Batches of torch tensors: order, seeds, buffers, targets and weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from k4_pipeline.config import ScalerConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.sequences.dataset import SequenceDataset
from k4_pipeline.sequences.model_inputs import assemble_inputs
from k4_pipeline.sequences.scaler import fit_scaler
from k4_pipeline.sequences.standardisation import Scaler
from k4_pipeline_tests.sequences.conftest import World

ROWS = np.array([9, 2, 5, 0, 7, 1, 8])
TARGETS = np.array([0, 1, 2, 3, 4, 5, 0])
WEIGHTS = np.linspace(0.5, 2.0, 7)


@pytest.fixture(scope="module")
def panel(world: World) -> np.ndarray:
    return world.panel.astype(np.float32)


@pytest.fixture(scope="module")
def scaler(world: World, panel: np.ndarray) -> Scaler:
    return fit_scaler(panel, world.index, np.arange(10), ScalerConfig(), keys=world.sequences)


@pytest.fixture(scope="module")
def dataset(world: World, panel: np.ndarray, scaler: Scaler) -> SequenceDataset:
    return SequenceDataset(panel, world.index, ROWS, scaler, TARGETS, WEIGHTS)


def test_a_batch_holds_the_assembled_inputs_of_its_rows(
    world: World, panel: np.ndarray, scaler: Scaler, dataset: SequenceDataset
) -> None:
    batch = dataset.batch(np.array([4, 0, 4]))
    x, mask = assemble_inputs(panel, world.index, ROWS[[4, 0, 4]], scaler)
    assert torch.equal(batch.x, torch.from_numpy(x))
    assert torch.equal(batch.mask, torch.from_numpy(mask))
    assert batch.y is not None
    assert batch.y.tolist() == [4, 0, 4]
    assert batch.y.dtype == torch.int64
    assert batch.w.tolist() == pytest.approx(WEIGHTS[[4, 0, 4]])
    assert (batch.x.dtype, batch.mask.dtype, batch.w.dtype) == (torch.float32, torch.bool, torch.float32)
    assert (dataset.n, len(dataset)) == (7, 7)


def test_one_pass_yields_every_row_once_in_order(dataset: SequenceDataset) -> None:
    batches = list(dataset.batches(3))
    assert [len(b.x) for b in batches] == [3, 3, 1]
    whole = dataset.batch(np.arange(7))
    assert torch.equal(torch.cat([b.x for b in batches]), whole.x)
    assert torch.cat([b.y for b in batches if b.y is not None]).tolist() == TARGETS.tolist()
    assert [len(b.x) for b in dataset.batches(3, drop_last=True)] == [3, 3]


def test_shuffling_depends_on_the_seed_alone(dataset: SequenceDataset) -> None:
    def order(seed: int) -> list[float]:
        return torch.cat([b.w for b in dataset.batches(2, shuffle=True, seed=seed)]).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(1)) == pytest.approx(WEIGHTS.tolist())


def test_reused_buffers_hold_the_same_values_in_the_same_memory(dataset: SequenceDataset) -> None:
    fresh = [b.x.clone() for b in dataset.batches(3)]
    addresses = []
    for i, batch in enumerate(dataset.batches(3, reuse_buffers=True)):
        assert torch.equal(batch.x, fresh[i])
        addresses.append(batch.x.data_ptr())
    assert addresses[0] == addresses[1]


def test_prediction_sets_have_no_targets_and_unit_weights(world: World, panel: np.ndarray, scaler: Scaler) -> None:
    batch = SequenceDataset(panel, world.index, ROWS, scaler).batch(np.array([1, 2]))
    assert batch.y is None
    assert batch.w.tolist() == [1.0, 1.0]


def test_a_memory_mapped_panel_gives_the_same_batches(
    world: World, panel: np.ndarray, scaler: Scaler, dataset: SequenceDataset, tmp_path
) -> None:
    np.save(tmp_path / "panel.npy", panel)
    mapped = SequenceDataset(np.load(tmp_path / "panel.npy", mmap_mode="r"), world.index, ROWS, scaler)
    assert torch.equal(mapped.batch(np.arange(7)).x, dataset.batch(np.arange(7)).x)


def test_what_does_not_fit_is_refused(
    world: World, panel: np.ndarray, scaler: Scaler, dataset: SequenceDataset
) -> None:
    with pytest.raises(BadInputError, match=r"targets have shape \(3,\)"):
        SequenceDataset(panel, world.index, ROWS, scaler, TARGETS[:3])
    with pytest.raises(BadInputError, match=r"classes are 0\.\.5"):
        SequenceDataset(panel, world.index, ROWS, scaler, TARGETS - 1)
    with pytest.raises(BadInputError, match="not a positive finite number"):
        SequenceDataset(panel, world.index, ROWS, scaler, TARGETS, WEIGHTS * np.nan)
    with pytest.raises(BadInputError, match="positions run from 7 to 7 of 7"):
        dataset.batch(np.array([7]))
    with pytest.raises(BadInputError, match="batch_size is 0"):
        next(dataset.batches(0))
