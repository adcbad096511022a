"""The sequences table: rows, valid bars, geometry; and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import to_days
from k4_pipeline.schemas.base import validate
from k4_pipeline.schemas.sequences import SEQUENCES
from k4_pipeline.sequences.windows import SEQUENCE_COLUMNS, index_sequences
from k4_pipeline_tests.sequences.conftest import World, snapshots_at


def test_every_row_keeps_its_key_and_ends_at_its_snapshot_bar(world: World) -> None:
    sequences, bars = world.sequences, world.bars
    assert tuple(sequences.columns) == SEQUENCE_COLUMNS
    key = ["ticker", "pattern_id", "start_date", "snapshot_date"]
    pd.testing.assert_frame_equal(sequences[key], world.snapshots[key])
    ticker_of = np.repeat(bars.tickers, np.diff(bars.offsets))
    for column, row in (("start_date", "start_row"), ("snapshot_date", "end_row")):
        assert (bars.date[sequences[row]] == to_days(sequences[column])).all()
        assert (ticker_of[sequences[row]] == sequences["ticker"]).all()
    assert (sequences["close_at_snapshot"] == bars.close[sequences["end_row"]]).all()
    assert (sequences["start_price"] == bars.close[sequences["start_row"]]).all()


def test_a_bar_is_valid_from_the_twentieth_of_its_ticker_on(world: World) -> None:
    sequences = world.sequences
    number = sequences["end_row"] - sequences["first_row"]  # 0-based bar number of the snapshot
    expected = [min(50, sum(1 for b in range(n + 1) if b + 1 >= 20)) for n in number]
    assert sequences["n_valid"].tolist() == expected
    assert {1, 4, 27, 50} <= set(expected)


def test_prior_width_and_mean_volume_follow_their_formulas(world: World) -> None:
    bars = world.bars
    for row in world.sequences.itertuples():
        before = slice(row.start_row - 20, row.start_row)
        if row.start_row - row.first_row < 20:
            assert np.isnan(row.prior_width)
        else:
            assert row.prior_width == bars.high[before].max() - bars.low[before].min()
        window = bars.volume[max(row.first_row, row.end_row - 249) : row.end_row + 1]
        assert row.mean_volume == pytest.approx(window.mean(), rel=1e-13)


def test_the_table_satisfies_its_schema_and_a_spoiled_one_does_not(world: World) -> None:
    assert validate(SEQUENCES, world.sequences) == []
    for column, value, rule in (
        ("upper", np.inf, "is_finite"),
        ("n_valid", 51, "is_at_most_50"),
        ("start_row", 10**6, "start_activation_and_snapshot_follow_each_other"),
        ("n_valid", 49, "padding_only_where_history_is_short"),
        ("first_row", 420, "valid_bars_have_enough_history"),
    ):
        spoiled = world.sequences.copy()
        spoiled.loc[0, column] = value
        assert any(rule in line for line in validate(SEQUENCES, spoiled)), rule


def test_nothing_after_the_snapshot_bar_enters_the_table(world: World) -> None:
    for i, row in world.snapshots.iterrows():
        cut = world.bars.until(row["snapshot_date"])
        again = index_sequences(cut, world.snapshots.loc[[i]].reset_index(drop=True)).iloc[0]
        full = world.sequences.loc[i]
        shift = full["first_row"] - again["first_row"]
        for column in SEQUENCE_COLUMNS:
            moved = shift if column.endswith("_row") else 0
            assert (
                again[column] == full[column] - moved
                if moved
                else again[column] == full[column] or (pd.isna(again[column]) and pd.isna(full[column]))
            )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"snapshot_date": pd.Timestamp("2016-01-02")},
            r"1 of 10 snapshots have no bar on their end date: AAA started",
        ),
        ({"start_date": pd.Timestamp("2014-12-31")}, "have no bar on their start date"),
        ({"activation_date": pd.Timestamp("2016-03-12")}, "have no bar on their activation date"),
        ({"activation_date": pd.NaT}, "have no activation_date"),
        ({"ticker": "ZZZ"}, "have no bar on their start date: ZZZ"),
        ({"activation_date": pd.Timestamp("2015-01-05")}, "do not satisfy start <= activation <= snapshot"),
    ],
)
def test_a_snapshot_without_its_bars_is_refused_by_name(world: World, change: dict, message: str) -> None:
    snapshots = world.snapshots.copy()
    for column, value in change.items():
        snapshots.loc[0, column] = value
    with pytest.raises(BadInputError, match=message):
        index_sequences(world.bars, snapshots)


def test_a_snapshot_with_too_little_history_is_refused(world: World) -> None:
    snapshots = snapshots_at(world.bars, [("CCC", 2, 11, 18)])
    with pytest.raises(BadInputError, match="1 of 1 snapshots have fewer than 20 bars of history: CCC"):
        index_sequences(world.bars, snapshots)
