"""Model inputs against plain loops; invariance to a rescaling of prices and volumes; NaN and padding."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import ScalerConfig
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.features.compute import compute_market_features
from k4_pipeline.features.reference import model_input
from k4_pipeline.features.spec import FEATURE_NAMES, FEATURES
from k4_pipeline.market.bars import Bars
from k4_pipeline.sequences import model_inputs as module
from k4_pipeline.sequences.assemble import SequenceIndex, assemble_canonical
from k4_pipeline.sequences.model_inputs import assemble_inputs, assemble_scale_free
from k4_pipeline.sequences.scaler import fit_scaler
from k4_pipeline.sequences.standardisation import Scaler
from k4_pipeline.sequences.windows import index_sequences
from k4_pipeline_tests.sequences.conftest import World


def fitted(world: World, panel: np.ndarray | None = None) -> Scaler:
    panel = world.panel.astype(np.float32) if panel is None else panel
    rows = np.arange(len(world.sequences))
    return fit_scaler(panel, world.index, rows, ScalerConfig(clip_sigmas=3.0), keys=world.sequences)


def rescaled(world: World, k: float) -> tuple[Bars, pd.DataFrame]:
    """Bars with prices times k and volumes over k, and the sequences table indexed from them."""
    prices = {c: getattr(world.bars, c) * k for c in ("open", "high", "low", "close")}
    bars = dataclasses.replace(world.bars, **prices, volume=world.bars.volume / k)
    snapshots = world.snapshots.copy()
    snapshots[["upper", "lower", "power", "start_price"]] *= k
    return bars, index_sequences(bars, snapshots)


@pytest.mark.parametrize("with_close", [True, False])
def test_float64_scale_free_values_equal_the_slow_computation(world: World, with_close: bool) -> None:
    index = SequenceIndex.from_frame(world.sequences, world.bars.close if with_close else None)
    rows = np.arange(len(index))
    canonical, mask = assemble_canonical(world.panel, index, rows)
    values, values_mask = assemble_scale_free(world.panel, index, rows)
    np.testing.assert_array_equal(mask, values_mask)
    price = canonical[:, :, FEATURE_NAMES.index("current_price")]
    for i, row in enumerate(world.sequences.itertuples()):
        there = mask[i]
        for f in FEATURES:
            x = canonical[i, there, f.position]
            expected = model_input(f, x, price[i, there], row.close_at_snapshot, row.mean_volume)
            expected = np.where(np.isfinite(expected), expected, np.nan)
            np.testing.assert_allclose(values[i, there, f.position], expected, rtol=1e-9, atol=1e-12, err_msg=f.name)
        assert (values[i, ~mask[i]] == 0).all()


def test_model_inputs_are_the_standardised_clipped_values_with_nan_as_zero(world: World) -> None:
    scaler = fitted(world)
    rows = np.arange(len(world.sequences))
    raw, mask = assemble_scale_free(world.panel, world.index, rows)
    x, x_mask = assemble_inputs(world.panel, world.index, rows, scaler)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    assert np.isnan(raw[mask]).any()
    z = (raw - scaler.center.astype(np.float64)) / scaler.scale.astype(np.float64)
    z = np.where(np.isnan(raw), 0.0, np.clip(z, -3.0, 3.0))
    z[~mask] = 0.0
    np.testing.assert_allclose(x, z, rtol=1e-7, atol=1e-12)
    np.testing.assert_array_equal(x_mask, mask)
    assert (x[~mask] == 0).all()
    assert (x[mask & np.isnan(raw).any(axis=2)] == 0).any()
    assert np.abs(x).max() == 3.0


@pytest.mark.parametrize("k", [2.0**-12, 0.5, 2.0, 2.0**12])
def test_a_rescaling_by_a_power_of_two_changes_no_bit(world: World, k: float) -> None:
    panel = world.panel.astype(np.float32)
    scaler = fitted(world)
    bars, sequences = rescaled(world, k)
    panel_k = compute_market_features(bars)
    for close, close_k in ((world.bars.close, bars.close), (None, None)):
        index, index_k = SequenceIndex.from_frame(world.sequences, close), SequenceIndex.from_frame(sequences, close_k)
        scaler = fit_scaler(panel, index, np.arange(10), ScalerConfig(), keys=world.sequences)
        again = fit_scaler(panel_k, index_k, np.arange(10), ScalerConfig(), keys=sequences)
        assert scaler.hash() == again.hash()
        x, _ = assemble_inputs(panel, index, np.arange(10), scaler)
        x_k, _ = assemble_inputs(panel_k, index_k, np.arange(10), scaler)
        assert x.tobytes() == x_k.tobytes()


@pytest.mark.parametrize("k", [3.7, 0.01, 1 / 3, 977.0])
def test_any_other_rescaling_stays_within_a_millionth(world: World, k: float) -> None:
    scaler = fitted(world)
    bars, sequences = rescaled(world, k)
    rows = np.arange(10)
    x, _ = assemble_inputs(world.panel.astype(np.float32), world.index, rows, scaler)
    index_k = SequenceIndex.from_frame(sequences, bars.close)
    x_k, _ = assemble_inputs(compute_market_features(bars), index_k, rows, scaler)
    beyond = np.abs(x - x_k) > 1e-6
    assert beyond.mean() < 1e-3, f"{beyond.sum()} values beyond 1e-6 in {np.flatnonzero(beyond.any(axis=(0, 1)))}"
    raw, _ = assemble_scale_free(world.panel.astype(np.float32), world.index, rows)
    raw_k, _ = assemble_scale_free(compute_market_features(bars), index_k, rows)
    np.testing.assert_array_equal(np.isnan(raw), np.isnan(raw_k))


def test_no_input_depends_on_the_price_level(world: World) -> None:
    """The same market a thousand times dearer: a model that could tell them apart would know later splits."""
    scaler = fitted(world)
    bars, sequences = rescaled(world, 1024.0)
    x, _ = assemble_inputs(world.panel.astype(np.float32), world.index, np.arange(10), scaler)
    canonical, _ = assemble_canonical(compute_market_features(bars), SequenceIndex.from_frame(sequences), np.arange(10))
    assert np.nanmax(canonical) > 1000
    assert np.abs(x).max() <= 3.0


def test_a_snapshot_without_volume_history_has_a_neutral_volume_channel(world: World) -> None:
    sequences = world.sequences.copy()
    sequences.loc[0, "mean_volume"] = np.nan
    sequences.loc[1, "mean_volume"] = 0.0
    index = SequenceIndex.from_frame(sequences, world.bars.close)
    x, _ = assemble_inputs(world.panel.astype(np.float32), index, np.array([0, 1]), fitted(world))
    assert (x[:, :, FEATURE_NAMES.index("current_volume")] == 0).all()


def test_a_row_does_not_depend_on_its_batch_or_on_threads(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    scaler, panel = fitted(world), world.panel.astype(np.float32)
    rows = np.tile(np.arange(10), 30)
    one, _ = assemble_inputs(panel, world.index, rows, scaler, threads=1)
    many, _ = assemble_inputs(panel, world.index, rows, scaler, threads=3)
    assert one.tobytes() == many.tobytes()
    alone, _ = assemble_inputs(panel, world.index, np.array([4]), scaler)
    assert alone[0].tobytes() == one[4].tobytes()
    monkeypatch.setattr(module, "STREAM_FROM_BYTES", 0)
    out, mask = np.full_like(one, np.nan), np.zeros(one.shape[:2], bool)
    assemble_inputs(panel, world.index, rows, scaler, out, mask)
    assert out.tobytes() == one.tobytes()


def test_a_scaler_of_another_kind_of_index_or_feature_list_is_refused(world: World) -> None:
    scaler, panel = fitted(world), world.panel.astype(np.float32)
    with pytest.raises(StaleArtifactError, match="fitted with float64 closes and the index lacks them"):
        assemble_inputs(panel, SequenceIndex.from_frame(world.sequences), np.arange(2), scaler)
    other = dataclasses.replace(scaler, meta={**scaler.meta, "feature_list_hash": "0" * 16})
    with pytest.raises(StaleArtifactError, match="fitted for feature list 0000"):
        assemble_inputs(panel, world.index, np.arange(2), other)
