"""The checks that block assets hold on clean tables and fire on corrupted ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.leakage.checks import stage_checks


@pytest.fixture
def full(context):
    return context.full


def test_clean_tables_of_every_stage_hold(full):
    bars, config = full.bars, full.config
    verdicts = [
        stage_checks.snapshots_do_not_depend_on_later_bars(bars, full.snapshots, config),
        stage_checks.snapshots_do_not_depend_on_later_bars(bars, full.snapshots, config, of_file=True),
        stage_checks.sequences_do_not_depend_on_later_bars(bars, full.snapshots, full.sequences, config),
        stage_checks.labels_are_those_of_an_independent_race(bars, full.snapshots, full.labeled, config),
        stage_checks.membership_follows_from_dates_and_bars(
            bars, full.snapshots, full.labeled, full.sequences, full.split, full.as_of, config
        ),
        stage_checks.model_was_fitted_on_permitted_rows(full),
        stage_checks.predictions_are_of_the_stored_model_row_by_row(full),
    ]
    assert all(v.passed for v in verdicts), [(v.name, v.findings) for v in verdicts if not v.passed]
    assert all(v.cases > 0 for v in verdicts)


def test_a_box_drawn_with_later_bars_blocks_the_snapshots(full):
    made = full.snapshots.assign(upper=full.snapshots["upper"] * 1.001)
    verdict = stage_checks.snapshots_do_not_depend_on_later_bars(full.bars, made, full.config)
    assert not verdict.passed
    assert any("upper is" in f and "without the future" in f for f in verdict.findings)


def test_a_window_that_ends_late_blocks_the_sequences(full):
    late = full.sequences.assign(n_valid=np.maximum(full.sequences["n_valid"] - 1, 1))
    assert not stage_checks.sequences_do_not_depend_on_later_bars(full.bars, full.snapshots, late, full.config).passed


def test_a_label_known_too_early_blocks_the_labels(full):
    early = full.labeled.assign(label_end_date=full.labeled["label_end_date"] - pd.Timedelta(days=5))
    verdict = stage_checks.labels_are_those_of_an_independent_race(full.bars, full.snapshots, early, full.config)
    assert not verdict.passed


def test_dates_of_a_files_labels_are_checked_and_their_classes_are_not(full):
    other = full.labeled.copy()
    known = other["outcome_class"].notna()
    other.loc[known, "outcome_class"] = 2
    check = stage_checks.labels_are_those_of_an_independent_race
    assert check(full.bars, full.snapshots, other, full.config, classes_of_file=True).passed
    early = other.assign(label_end_date=other["label_end_date"] - pd.Timedelta(days=5))
    assert not check(full.bars, full.snapshots, early, full.config, classes_of_file=True).passed


def test_a_calibrator_of_other_rows_blocks_the_model(full):
    other = dataclasses.replace(full.fitted.calibrator, bias=full.fitted.calibrator.bias + 1e-9)
    corrupted = dataclasses.replace(full, fitted=dataclasses.replace(full.fitted, calibrator=other))
    assert not stage_checks.model_was_fitted_on_permitted_rows(corrupted).passed


def test_a_check_that_does_not_apply_is_a_failure_here(full):
    bare = dataclasses.replace(full, fitted=None)
    verdict = stage_checks.model_was_fitted_on_permitted_rows(bare)
    assert not verdict.passed
    assert any("not evaluated" in f for f in verdict.findings)
