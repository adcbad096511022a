"""Canonical sequences against plain loops: channels, masks, padding, dtypes, buffers, and no look ahead."""

from __future__ import annotations

import numpy as np
import pytest

from k4_pipeline.config import N_FEATURES, SEQUENCE_BARS
from k4_pipeline.errors import BadInputError
from k4_pipeline.features.compute import compute_market_features
from k4_pipeline.features.reference import MarketReference, PatternReference
from k4_pipeline.features.spec import FEATURE_NAMES, MARKET_CHANNELS, PATTERN_CHANNELS
from k4_pipeline.market.bars import Bars
from k4_pipeline.sequences import assemble as module
from k4_pipeline.sequences.assemble import SequenceIndex, assemble_canonical
from k4_pipeline.sequences.windows import index_sequences
from k4_pipeline_tests.sequences.conftest import World


def expected_sequence(world: World, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequence i (50, 69) float64 and its mask, bar by bar from the definitions."""
    row, bars = world.sequences.iloc[i], world.bars
    ticker = slice(row["first_row"], row["end_row"] + 1)  # only bars up to the snapshot
    known = MarketReference(*(c[ticker] for c in (bars.high, bars.low, bars.close, bars.volume)))
    start, activation = row["start_row"] - row["first_row"], row["activation_row"] - row["first_row"]
    pattern = PatternReference(start, activation, row["upper"], row["lower"], row["power"], int(row["qualifying_bars"]))
    values, mask = np.zeros((SEQUENCE_BARS, N_FEATURES)), np.zeros(SEQUENCE_BARS, bool)
    for j in range(SEQUENCE_BARS):
        t = len(known.close) - SEQUENCE_BARS + j
        if t + 1 < 20:
            continue
        mask[j] = True
        values[j, MARKET_CHANNELS] = world.panel[row["first_row"] + t]
        values[j, PATTERN_CHANNELS] = pattern.table(known, np.array([t]))[0]
    return values, mask


@pytest.mark.parametrize("with_close", [True, False])
def test_float64_sequences_equal_the_slow_computation(world: World, with_close: bool) -> None:
    index = SequenceIndex.from_frame(world.sequences, world.bars.close if with_close else None)
    values, mask = assemble_canonical(world.panel, index, np.arange(len(index)))
    assert values.dtype == np.float64
    for i in range(len(index)):
        expected, expected_mask = expected_sequence(world, i)
        np.testing.assert_array_equal(mask[i], expected_mask)
        np.testing.assert_allclose(values[i], expected, rtol=1e-9, atol=1e-12)


def test_float32_sequences_are_the_float64_ones_rounded_when_closes_are_given(world: World) -> None:
    rows = np.arange(len(world.sequences))
    exact, _ = assemble_canonical(world.panel, world.index, rows)
    rounded, _ = assemble_canonical(world.panel.astype(np.float32), world.index, rows)
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(rounded, exact.astype(np.float32))


def test_padding_is_in_front_and_zero_and_valid_bars_keep_their_nan(world: World) -> None:
    values, mask = assemble_canonical(world.panel, world.index, np.arange(len(world.sequences)))
    assert (values[~mask] == 0).all()
    assert (np.diff(mask.astype(int), axis=1) >= 0).all()
    assert mask[:, -1].all()
    ebp = FEATURE_NAMES.index("ebp_composite")
    short = world.sequences.index[world.sequences["ticker"] == "CCC"]
    assert np.isnan(values[short, -1, ebp]).all()


def test_rows_come_in_the_order_asked_for_and_may_repeat(world: World) -> None:
    everything, masks = assemble_canonical(world.panel, world.index, np.arange(len(world.sequences)))
    rows = np.array([7, 0, 7, 3])
    values, mask = assemble_canonical(world.panel, world.index, rows)
    np.testing.assert_array_equal(values, everything[rows])
    np.testing.assert_array_equal(mask, masks[rows])
    taken, _ = assemble_canonical(world.panel, world.index.take(rows), np.arange(4))
    np.testing.assert_array_equal(taken, values)


@pytest.mark.parametrize("offset", [0, 1, 3, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_streamed_stores_give_the_same_bytes_at_any_alignment(
    world: World, monkeypatch: pytest.MonkeyPatch, offset: int, dtype: type
) -> None:
    panel: np.ndarray = world.panel.astype(dtype)
    rows = np.arange(len(world.sequences))
    plain, mask = assemble_canonical(panel, world.index, rows)
    monkeypatch.setattr(module, "STREAM_FROM_BYTES", 0)
    buffer: np.ndarray = np.full(plain.size + 16, -7, dtype=dtype)
    out = buffer[offset : offset + plain.size].reshape(plain.shape)
    mask_out = np.ones_like(mask)
    got, got_mask = assemble_canonical(panel, world.index, rows, out, mask_out, threads=2)
    assert got is out
    assert got_mask is mask_out
    np.testing.assert_array_equal(out, plain)
    np.testing.assert_array_equal(mask_out, mask)
    assert (buffer[:offset] == -7).all()
    assert (buffer[offset + plain.size :] == -7).all()


def test_threads_and_memory_maps_change_nothing(world: World, tmp_path) -> None:
    rows = np.tile(np.arange(len(world.sequences)), 40)
    panel = world.panel.astype(np.float32)
    one, mask = assemble_canonical(panel, world.index, rows, threads=1)
    np.save(tmp_path / "panel.npy", panel)
    mapped = np.load(tmp_path / "panel.npy", mmap_mode="r")
    many, many_mask = assemble_canonical(mapped, world.index, rows, threads=3)
    np.testing.assert_array_equal(one, many)
    np.testing.assert_array_equal(mask, many_mask)


def test_no_rows_give_an_empty_batch(world: World) -> None:
    values, mask = assemble_canonical(world.panel, world.index, np.empty(0, np.int64))
    assert values.shape == (0, 50, 69)
    assert mask.shape == (0, 50)


def test_bars_after_the_snapshot_and_other_tickers_change_nothing(world: World) -> None:
    rows = np.arange(len(world.sequences))
    full, mask = assemble_canonical(world.panel, world.index, rows)
    for i in rows:
        row = world.snapshots.iloc[[i]].reset_index(drop=True)
        cut = world.bars.subset([row["ticker"][0]]).until(row["snapshot_date"][0])
        panel = compute_market_features(cut, dtype=np.float64)
        index = SequenceIndex.from_frame(index_sequences(cut, row), cut.close)
        values, cut_mask = assemble_canonical(panel, index, np.array([0]))
        np.testing.assert_array_equal(values[0], full[i])
        np.testing.assert_array_equal(cut_mask[0], mask[i])


def test_a_division_by_zero_is_nan_not_infinity(world: World) -> None:
    sequences = world.sequences.copy()
    sequences.loc[0, ["upper", "lower"]] = 0.0
    sequences.loc[1, "prior_width"] = 0.0
    values, _ = assemble_canonical(world.panel, SequenceIndex.from_frame(sequences, world.bars.close), np.array([0, 1]))
    names = ["consolidation_channel_width_pct", "price_position_in_range"]
    assert np.isnan(values[0][:, [FEATURE_NAMES.index(n) for n in names]]).all()
    assert np.isnan(values[1][:, FEATURE_NAMES.index("channel_narrowing_pct")]).all()
    assert not np.isinf(values).any()


def test_what_does_not_fit_together_is_refused(world: World) -> None:
    index, rows = world.index, np.arange(3)
    with pytest.raises(BadInputError, match="the index has 10 sequences"):
        assemble_canonical(world.panel, index, np.array([10]))
    with pytest.raises(BadInputError, match="the index has 10 sequences"):
        assemble_canonical(world.panel, index, np.array([-1]))
    with pytest.raises(BadInputError, match="make panel and index from the same bars"):
        assemble_canonical(world.panel[:-1], index, np.array([9]))
    with pytest.raises(BadInputError, match="closes and the panel"):
        assemble_canonical(np.vstack([world.panel, world.panel[:1]]), index, rows)
    with pytest.raises(BadInputError, match="expected row-major"):
        assemble_canonical(world.panel[:, :54], index, rows)
    with pytest.raises(BadInputError, match=r"out is float32 .* expected contiguous float64"):
        assemble_canonical(world.panel, index, rows, np.empty((3, 50, 69), np.float32))
    with pytest.raises(BadInputError, match="mask is bool"):
        assemble_canonical(world.panel, index, rows, mask=np.empty((2, 50), bool))
    for column, value in (("n_valid", 0), ("n_valid", 51), ("first_row", 10**6)):
        with pytest.raises(BadInputError, match="reach before the valid bars of their ticker, first in row 4"):
            SequenceIndex.from_frame(world.sequences.assign(**{column: _with(world.sequences[column], 4, value)}))


def _with(column, row: int, value: int) -> np.ndarray:
    changed = column.to_numpy(copy=True)
    changed[row] = value
    return changed


def test_sequences_do_not_depend_on_the_history_before_their_windows(world: World) -> None:
    """Geometry and pattern channels of the last snapshot, with the ticker's first 100 bars gone."""
    bars = world.bars.subset(["DDD"])
    late = Bars(
        bars.tickers,
        np.array([0, len(bars) - 100]),
        *(getattr(bars, c)[100:] for c in ("date", "open", "high", "low", "close", "volume")),
    )
    row = world.snapshots.iloc[[9]].reset_index(drop=True)
    results = []
    for chosen in (bars, late):
        index = SequenceIndex.from_frame(index_sequences(chosen, row), chosen.close)
        panel = np.zeros((len(chosen), 55))
        results.append(assemble_canonical(panel, index, np.array([0]))[0][0][:, PATTERN_CHANNELS])
    np.testing.assert_array_equal(*results)
