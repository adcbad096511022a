"""The exhaustive replays: which cuts are made, and that none is left out unless the sample says so."""

from __future__ import annotations

import dataclasses

import numpy as np

from k4_pipeline.features.proof_tools import Piece
from k4_pipeline.leakage.checks import replay_per_bar as cells
from k4_pipeline.leakage.engine.audit import AuditContext
from k4_pipeline.leakage.engine.compare import Columns


def cuts(context: AuditContext, **sample: object) -> np.ndarray:
    """Stops of every run (n_runs, n_tickers)."""
    chosen = dataclasses.replace(context, sample=dataclasses.replace(context.sample, **sample))
    return np.array(list(cells.ragged_cuts(chosen, context.full)))


def test_every_snapshot_ends_one_run(context):
    made = {int(stop) for stops in cuts(context) for stop in stops}
    assert {int(row) + 1 for row in context.full.sequences["end_row"]} <= made


def test_a_sample_of_snapshots_makes_as_many_runs(context):
    stops, ends = cuts(context, snapshot_cuts=5), set(context.full.sequences["end_row"] + 1)
    assert len(stops) == 5
    busy = context.full.sequences["ticker"].value_counts()
    for i, ticker in enumerate(context.full.bars.tickers):
        if busy.get(ticker, 0) >= 5:
            assert len(set(stops[:, i].tolist()) & ends) >= 5


def test_batches_hold_every_piece_once_and_few_bars_each():
    pieces = [Piece(0, n) for n in (1, 24_999, 10, 30_000, 5, 5)]
    ranges = list(cells.batches(pieces))
    assert ranges == [(0, 2), (2, 4), (4, 6)]
    assert list(cells.batches([])) == []


def test_columns_equal_only_the_same_rows_to_the_bit(context):
    table = context.full.snapshots
    names = list(table.columns)
    stored, some = Columns(table, names), np.arange(len(table)) < 50
    other = table[some].reset_index(drop=True)
    assert stored.equal(some, other)
    assert not stored.equal(some, other.iloc[:-1])
    assert not stored.equal(some, other.drop(columns="upper"))
    for column in ("upper", "power"):
        nudged = other.assign(**{column: other[column].where(other.index != 7, np.nextafter(other[column], np.inf))})
        assert not stored.equal(some, nudged)
    assert not stored.equal(some, other.assign(ticker=other["ticker"].where(other.index != 7, "ELSE")))


def test_a_cut_before_every_snapshot_of_a_ticker_still_counts_as_a_case(context):
    few = dataclasses.replace(context, sample=dataclasses.replace(context.sample, tickers=2, snapshot_cuts=3))
    verdict = cells.every_snapshot_is_reproduced_as_the_last_bar(few)
    assert verdict.passed, verdict.findings
    assert verdict.detail["runs"] == 3
    assert verdict.cases > 0
