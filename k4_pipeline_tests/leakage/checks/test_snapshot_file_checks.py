"""A snapshot file is read a second time: what was taken over is what stands there."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from k4_pipeline.leakage.checks.self_test import accepts, failures_to_fail
from k4_pipeline.leakage.checks.snapshot_file_checks import snapshots_are_those_of_a_plain_reader_of_the_file as proof
from k4_pipeline.leakage.engine.audit import CHECKS, AuditContext
from k4_pipeline.patterns.external import read_snapshot_file

COLUMNS = {"ticker": "Symbol", "start_date": "start_date", "snapshot_date": "Snapshot Date"}


@pytest.fixture(params=["dates alone", "levels and classes"])
def taken_over(request, context, tmp_path):
    """The snapshots of the small universe written to a file, with three rows no reader can use, and read again."""
    full, file = context.full, tmp_path / "snapshots.csv"
    table = full.labeled.rename(columns=COLUMNS)
    kept = [*COLUMNS.values()]
    if request.param != "dates alone":
        kept += ["activation_date", "upper", "lower", "power", "outcome_class"]
    rows = table[kept].astype(object).where(table[kept].notna(), "")
    bad = rows.iloc[:3].assign(Symbol=["NOBODY", rows["Symbol"].iloc[1], ""])
    bad.iloc[1, 2] = "1901-01-01"
    pd.concat([rows, bad, rows.iloc[5:6]]).to_csv(file, index=False)
    found = read_snapshot_file(file, full.bars, full.config.patterns)
    assert len(found.snapshots) > 100
    config = dataclasses.replace(full.config, source=dataclasses.replace(full.config.source, snapshots_path=str(file)))
    labeled = full.labeled if len(found.snapshots) == len(full.labeled) else None
    assert labeled is not None
    return AuditContext(dataclasses.replace(full, config=config, snapshots=found.snapshots, labeled=labeled, _cache={}))


def test_what_was_taken_over_is_what_stands_in_the_file(taken_over):
    verdict = proof(taken_over)
    assert verdict.holds, verdict.findings
    assert verdict.cases > len(taken_over.full.snapshots)


def test_every_tamper_is_noticed(taken_over):
    item = CHECKS[proof.__name__]
    assert accepts(item, taken_over)
    assert failures_to_fail(item, taken_over, taken_over) == (6, [])
