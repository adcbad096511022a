"""The production path in memory: what it holds, that it is repeatable, and that it can be cut."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import KEYS
from k4_pipeline.errors import BadInputError
from k4_pipeline.leakage.engine.fingerprints import fingerprints
from k4_pipeline.leakage.engine.small import SMALL_AS_OF
from k4_pipeline.market.bars import to_day
from k4_pipeline.pipeline import stages as production


def test_the_path_runs_from_raw_bars_to_metrics(context):
    full = context.full
    assert len(full.panel) == len(full.bars)
    assert len(full.snapshots) == len(full.labeled) == len(full.sequences) == len(full.split)
    assert set(full.split["split"]) == {"train", "validation", "test", "excluded"}
    assert len(full.predictions) == (full.split["split"] == "test").sum()
    assert full.metrics["n"] == len(full.scored)
    assert full.fitted.record["train"]["rows"] == (full.split["split"] == "train").sum()


def test_the_path_gives_the_same_bits_twice(context):
    again = production.run_path(context.full.raw, context.config, SMALL_AS_OF)
    assert fingerprints(again) == fingerprints(context.full)


def test_a_cut_path_knows_nothing_after_its_date(context):
    cut = production.run_path(context.full.raw, context.config, None, upto="2024-02-05")
    assert cut.bars.last_day <= to_day("2024-02-05")
    assert cut.snapshots["snapshot_date"].max() <= pd.Timestamp("2024-02-05")
    assert cut.labeled["label_end_date"].max() <= pd.Timestamp("2024-02-05")
    assert cut.fitted is None


def test_a_stored_model_is_used_as_it_is(context):
    full = context.full
    again = production.run_path(full.bars, context.config, SMALL_AS_OF, model=full.fitted)
    assert again.fitted is full.fitted
    pd.testing.assert_frame_equal(again.predictions, full.predictions)


def test_an_unfitted_copy_keeps_the_tables_and_nothing_of_the_fit(context):
    full = context.full
    assert full.index is full.index
    few = full.unfitted(sequences=full.sequences.iloc[:3])
    assert (few.fitted, few.predictions, few.scored, few.metrics) == (None, None, None, None)
    assert few.split is full.split
    assert len(few.index) == 3
    assert full.fitted is not None


def test_inputs_without_a_model_are_refused(context):
    bare = production.build(context.full.bars, context.config)
    with pytest.raises(BadInputError, match="run without a model"):
        bare.inputs()


def test_snapshots_of_a_file_appear_when_their_bar_does(context):
    full = context.full
    cut = production.build(full.bars.until("2024-02-05"), context.config, given=full.snapshots)
    expected = full.snapshots[full.snapshots["snapshot_date"] <= "2024-02-05"].reset_index(drop=True)
    pd.testing.assert_frame_equal(cut.snapshots, expected)


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_the_rows_of_a_member_are_the_same_whatever_the_order_of_its_split(context, name):
    full = context.full
    shuffled = dataclasses.replace(full, split=full.split.sample(frac=1.0, random_state=5), _cache={})
    rows, table = production.members(full, name)
    rows_again, table_again = production.members(shuffled, name)
    assert len(rows) == (full.split["split"] == name).sum()
    np.testing.assert_array_equal(rows, rows_again)
    pd.testing.assert_frame_equal(table, table_again)
    pd.testing.assert_frame_equal(full.sequences.iloc[rows][KEYS].reset_index(drop=True), table[KEYS])


def test_a_row_that_stands_twice_in_both_tables_is_refused(context):
    full = context.full
    first = [0, *range(len(full.split))]
    twice = dataclasses.replace(
        full, split=full.split.iloc[first].reset_index(drop=True), sequences=full.sequences.iloc[first], _cache={}
    )
    with pytest.raises(pd.errors.MergeError):
        production.members(twice, full.split["split"].iloc[0])
