"""What a fit reads, and that the checks of stored tables can fail."""

from __future__ import annotations

from unittest import mock

import pytest

from k4_pipeline.leakage.checks import extra_checks, propositions
from k4_pipeline.leakage.engine.audit import CHECKS, AuditContext, AuditSample, load_checks
from k4_pipeline.pipeline.stages import run_path
from k4_pipeline.verdict import Verdict
from k4_pipeline_tests.mutations.universe import make_universe


@pytest.fixture(scope="module")
def context() -> AuditContext:
    universe = make_universe("simulated", 0)
    full = run_path(universe.raw, universe.config, universe.as_of, model=None, today=universe.today)
    load_checks()
    return AuditContext(full, AuditSample.named("small"), universe.today)


def test_an_honest_fit_reads_train_and_validation_rows_and_no_others(context):
    verdict = extra_checks.fitting_reads_only_rows_known_at_as_of(context)
    assert verdict.passed, verdict.findings
    rows = context.full.manifest.rows
    assert verdict.cases == rows["train"] + rows["validation"]


@pytest.mark.parametrize("name", ["fitting_reads_only_rows_known_at_as_of", "checks_of_stored_tables_can_fail"])
def test_the_check_fires_on_its_own_corrupted_inputs(context, name):
    for corrupt in CHECKS[name].corruptions:
        assert not CHECKS[name](corrupt(context)).passed


def test_a_row_read_behind_the_back_of_the_training_code_is_named(context):
    from k4_pipeline.training import loop

    full, train = context.full, loop.train
    last = len(full.sequences) - 1

    def peeking(model, config, loss, train_set, validation_set, **kwargs):
        type(train_set)(train_set.panel_values, train_set.index, [last], train_set.scaler).batch([0])
        return train(model, config, loss, train_set, validation_set, **kwargs)

    with mock.patch.object(loop, "train", peeking):
        verdict = extra_checks.fitting_reads_only_rows_known_at_as_of(AuditContext(full))
    assert not verdict.passed
    assert full.sequences["ticker"].iloc[last] in verdict.findings[0]


def test_sound_checks_of_stored_tables_pass_and_a_weakened_one_is_named(context):
    assert extra_checks.checks_of_stored_tables_can_fail(context).passed
    with mock.patch.object(propositions, "purge_holds", return_value=Verdict("purge_holds", True, 1)):
        verdict = extra_checks.checks_of_stored_tables_can_fail(context)
    assert [f for f in verdict.findings if f.startswith("purge_holds")]
