"""The production path in memory: what it holds, that it is repeatable, and that it can be cut."""

from __future__ import annotations

import pandas as pd
import pytest

from k4_pipeline.errors import BadInputError
from k4_pipeline.leakage import path as production
from k4_pipeline.leakage.provenance import fingerprints
from k4_pipeline.leakage.small import SMALL_AS_OF
from k4_pipeline.market.bars import to_day


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


def test_inputs_without_a_model_are_refused(context):
    bare = production.build(context.full.bars, context.config)
    with pytest.raises(BadInputError, match="run without a model"):
        bare.inputs()


def test_snapshots_of_a_file_appear_when_their_bar_does(context):
    full = context.full
    cut = production.build(full.bars.until("2024-02-05"), context.config, given=full.snapshots)
    expected = full.snapshots[full.snapshots["snapshot_date"] <= "2024-02-05"].reset_index(drop=True)
    pd.testing.assert_frame_equal(cut.snapshots, expected)
