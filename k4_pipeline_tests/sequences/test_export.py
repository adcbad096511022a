"""The original sequence table: layout, values, dates, and that nothing half-written is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import to_dates
from k4_pipeline.sequences.assemble import assemble_canonical
from k4_pipeline.sequences.export import EXPORT_SCHEMA, export_sequences
from k4_pipeline.storage import read_parquet, read_parquet_metadata
from k4_pipeline_tests.sequences.conftest import World

COLUMNS = [
    "sequence",
    "attention_mask",
    "ticker",
    "start_date",
    "snapshot_date",
    "days_in_pattern",
    "outcome_class",
    "sequence_dates",
]


def test_the_file_holds_every_sequence_as_assembled(world: World, tmp_path: Path) -> None:
    panel = world.panel.astype(np.float32)
    outcomes = pd.Series([4, pd.NA, 0, 1, 2, 3, 5, pd.NA, 4, 0], dtype="Int8")
    path, calls = tmp_path / "sequences.parquet", []
    n = export_sequences(
        path,
        panel,
        world.bars.date,
        world.sequences,
        outcomes,
        close=world.bars.close,
        batch_size=4,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert n == 10
    assert calls == [(4, 10), (8, 10), (10, 10)]
    frame = pd.read_parquet(path)
    assert list(frame.columns) == COLUMNS
    values, mask = assemble_canonical(panel, world.index, np.arange(10))
    for i, row in frame.iterrows():
        sequence = np.stack(list(row["sequence"]))
        assert sequence.dtype == np.float32
        np.testing.assert_array_equal(sequence, values[i])
        np.testing.assert_array_equal(np.asarray(row["attention_mask"], bool), mask[i])
        at, last = world.sequences.iloc[i], world.snapshots["snapshot_date"].iloc[i]
        assert row["days_in_pattern"] == at["end_row"] - at["start_row"]
        dates = pd.DatetimeIndex(row["sequence_dates"])
        assert dates[-1] == row["snapshot_date"] == last
        assert (dates.isna() == ~mask[i]).all()
        rows = np.arange(at["end_row"] - at["n_valid"] + 1, at["end_row"] + 1)
        assert (dates[mask[i]] == pd.DatetimeIndex(to_dates(world.bars.date[rows]))).all()
    assert frame["ticker"].tolist() == world.sequences["ticker"].tolist()
    assert frame["outcome_class"].iloc[0] == "K4_EXCEPTIONAL"
    assert frame["outcome_class"].isna().tolist() == outcomes.isna().tolist()
    pd.testing.assert_frame_equal(read_parquet(path, ["ticker"]), frame[["ticker"]])
    assert len(read_parquet_metadata(path)["features"]) == 69


def test_lists_have_fixed_lengths_and_nothing_is_infinite(world: World, tmp_path: Path) -> None:
    path = tmp_path / "sequences.parquet"
    export_sequences(path, world.panel.astype(np.float32), world.bars.date, world.sequences)
    table = pq.read_table(path)
    assert table.schema.remove_metadata() == EXPORT_SCHEMA
    assert table["outcome_class"].null_count == 10
    flat = pa.compute.list_flatten(pa.compute.list_flatten(table["sequence"])).to_numpy()
    assert len(flat) == 10 * 50 * 69
    assert not np.isinf(flat).any()


def test_a_failed_export_leaves_no_file(world: World, tmp_path: Path) -> None:
    path = tmp_path / "sequences.parquet"

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_sequences(path, world.panel.astype(np.float32), world.bars.date, world.sequences, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_refused(world: World, tmp_path: Path) -> None:
    panel = world.panel.astype(np.float32)
    with pytest.raises(BadInputError, match="different indexes"):
        export_sequences(tmp_path / "a", panel, world.bars.date, world.sequences, pd.Series([1, 2]))
    with pytest.raises(BadInputError, match="the panel is float64"):
        export_sequences(tmp_path / "a", world.panel, world.bars.date, world.sequences)
