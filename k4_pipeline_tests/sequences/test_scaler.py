"""The scaler: what it is fitted on, how robustly, and that it comes back exactly."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import ScalerConfig
from k4_pipeline.errors import BadInputError, ConfigError, StaleArtifactError
from k4_pipeline.features.spec import FEATURE_NAMES, MARKET_COLUMN
from k4_pipeline.sequences.assemble import SequenceIndex
from k4_pipeline.sequences.model_inputs import assemble_scale_free
from k4_pipeline.sequences.scaler import fit_scaler
from k4_pipeline.sequences.standardisation import Scaler
from k4_pipeline.storage.keys import keys_hash
from k4_pipeline_tests.sequences.conftest import World, random_bars, snapshots_at

CONFIG = ScalerConfig()


def fit(world: World, rows: np.ndarray, config: ScalerConfig = CONFIG, panel: np.ndarray | None = None) -> Scaler:
    panel = world.panel if panel is None else panel
    return fit_scaler(panel, world.index, rows, config, keys=world.sequences.iloc[rows])


def test_center_and_scale_are_the_winsorised_mean_and_deviation(world: World) -> None:
    rows = np.array([0, 1, 2, 3, 9])
    config = ScalerConfig(lower_quantile=0.1, upper_quantile=0.8)
    scaler = fit(world, rows, config)
    raw, mask = assemble_scale_free(world.panel, world.index, rows)
    for c, name in enumerate(FEATURE_NAMES):
        seen = pd.Series(raw[:, :, c][mask]).dropna()
        if len(seen) == 0:
            assert name in scaler.meta["empty_channels"]
            continue
        low, high = seen.quantile(0.1), seen.quantile(0.8)
        bounded = seen.clip(low, high)
        assert scaler.lower[c] == pytest.approx(low, rel=1e-6, abs=1e-9)
        assert scaler.upper[c] == pytest.approx(high, rel=1e-6, abs=1e-9)
        assert scaler.center[c] == pytest.approx(bounded.mean(), rel=1e-6, abs=1e-9)
        if name not in scaler.meta["constant_channels"]:
            assert scaler.scale[c] == pytest.approx(bounded.std(ddof=0), rel=1e-6)
    assert scaler.meta["constant_channels"] == ["days_in_qualification"]
    assert scaler.scale[FEATURE_NAMES.index("days_in_qualification")] == 1.0


def test_a_wild_outlier_hardly_moves_the_scaler(world: World) -> None:
    rows = np.array([0, 1, 2, 3, 9])
    panel = world.panel.copy()
    column = MARKET_COLUMN["bbw_slope_20d"]
    panel[world.sequences["end_row"].iloc[2], column] = 1e30
    channel = FEATURE_NAMES.index("bbw_slope_20d")
    config = ScalerConfig(lower_quantile=0.05, upper_quantile=0.95)
    before, after = fit(world, rows, config), fit(world, rows, config, panel=panel)
    assert after.scale[channel] == pytest.approx(before.scale[channel], rel=0.1)
    assert after.center[channel] == pytest.approx(before.center[channel], abs=0.1 * float(before.scale[channel]))


def test_a_channel_that_is_never_there_gets_scale_one(world: World) -> None:
    panel = world.panel.copy()
    panel[:, MARKET_COLUMN["ebp_raw"]] = np.nan
    scaler = fit(world, np.arange(10), panel=panel)
    channel = FEATURE_NAMES.index("ebp_raw")
    assert "ebp_raw" in scaler.meta["empty_channels"]
    assert (scaler.center[channel], scaler.scale[channel]) == (0.0, 1.0)
    assert Scaler.from_json(scaler.to_json()).hash() == scaler.hash()


def test_rows_outside_the_fit_never_matter(world: World) -> None:
    """Test rows, and every bar no train window contains, are replaced by NaN and by noise."""
    rows = np.array([4, 5, 6])  # ticker BBB
    scaler = fit(world, rows)
    used = np.zeros(len(world.panel), bool)
    for row in world.sequences.iloc[rows].itertuples():
        used[row.end_row - row.n_valid + 1 : row.end_row + 1] = True
    for poison in (np.nan, 1e9):
        panel = np.where(used[:, None], world.panel, poison)
        sequences = world.sequences.copy()
        others = np.setdiff1d(np.arange(10), rows)
        sequences.loc[others, ["upper", "lower", "power", "mean_volume", "close_at_snapshot"]] = poison
        index = SequenceIndex.from_frame(sequences, world.bars.close)
        again = fit_scaler(panel, index, rows, CONFIG, keys=sequences.iloc[rows])
        assert again.hash() == scaler.hash()


def test_the_order_of_the_rows_does_not_matter(world: World) -> None:
    config = ScalerConfig(max_fit_sequences=4)
    rows = np.arange(10)
    expected = fit(world, rows, config).hash()
    rng = np.random.default_rng(0)
    for _ in range(5):
        assert fit(world, rng.permutation(rows), config).hash() == expected


def test_the_sample_is_evenly_spaced_in_key_order_and_recorded() -> None:
    bars = random_bars({"AAA": 300})
    snapshots = snapshots_at(bars, [("AAA", 100, 109, 110 + i) for i in range(100)])
    from k4_pipeline_tests.sequences.conftest import make_world

    many = make_world(bars, snapshots)
    scaler = fit(many, np.arange(100), ScalerConfig(max_fit_sequences=10))
    assert scaler.meta["fitted_sequences"] == 10
    assert scaler.meta["fitted_bars"] == 500
    assert scaler.meta["fitted_keys_hash"] == keys_hash(many.sequences.iloc[::10])
    assert scaler.meta["rows"] == 100
    assert scaler.meta["keys_hash"] == keys_hash(many.sequences.iloc[::-1])
    assert scaler.meta["first_snapshot"] == str(many.sequences["snapshot_date"].min().date())
    assert scaler.meta["last_snapshot"] == str(many.sequences["snapshot_date"].max().date())


def test_json_restores_every_bit(world: World) -> None:
    scaler = fit(world, np.arange(10))
    restored = Scaler.from_json(scaler.to_json())
    for name in ("center", "scale", "lower", "upper"):
        assert getattr(restored, name).tobytes() == getattr(scaler, name).tobytes()
        assert getattr(restored, name).dtype == np.float32
    assert restored.meta == scaler.meta
    assert restored.hash() == scaler.hash()
    nudged = Scaler.from_json(scaler.to_json())
    nudged.center[3] = np.nextafter(nudged.center[3], np.float32(9e9), dtype=np.float32)
    assert nudged.hash() != scaler.hash()


def test_a_damaged_scaler_is_refused(world: World) -> None:
    text = fit(world, np.arange(10)).to_json()
    for damaged in (text[:-20], text.replace('"center"', '"centre"'), text.replace('"scale": [', '"scale": [1.0, ')):
        with pytest.raises(StaleArtifactError, match="fit it again"):
            Scaler.from_json(damaged)


def test_bad_calls_are_refused_with_the_remedy(world: World) -> None:
    with pytest.raises(BadInputError, match="no train rows"):
        fit(world, np.empty(0, np.int64))
    with pytest.raises(BadInputError, match="3 rows and 10 keys"):
        fit_scaler(world.panel, world.index, np.arange(3), CONFIG, keys=world.sequences)
    with pytest.raises(BadInputError, match="is duplicated"):
        fit(world, np.array([1, 1]))
    with pytest.raises(ConfigError, match="not in order"):
        fit(world, np.arange(3), ScalerConfig(lower_quantile=0.9, upper_quantile=0.1))
    with pytest.raises(ConfigError, match="clip_sigmas positive"):
        fit(world, np.arange(3), ScalerConfig(clip_sigmas=0.0))
