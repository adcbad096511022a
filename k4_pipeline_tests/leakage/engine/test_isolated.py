"""Checks in processes of their own say what they say in this one, and silence is a failure."""

from __future__ import annotations

import dataclasses

import pytest

from k4_pipeline.leakage.engine.audit import AuditSample, run_checks
from k4_pipeline.leakage.engine.isolated import ContextSource, run_isolated
from k4_pipeline.leakage.engine.small import SMALL_AS_OF, small_config

CHEAP = "nothing_lies_in_two_members"


def source(**changes: object) -> ContextSource:
    return ContextSource(small_config(0), SMALL_AS_OF, AuditSample(), **changes)


@pytest.mark.slow
def test_a_check_in_its_own_process_says_the_same(context):
    name = "labels_are_those_of_an_independent_race"
    report = run_isolated(source(), [name])
    assert report.verdicts == run_checks(context, [name]).verdicts
    assert report.seconds[name] > 0


def test_a_context_that_cannot_be_made_is_a_failed_check():
    report = run_isolated(dataclasses.replace(source(), as_of="1990-01-01"), [CHEAP])
    assert not report.passed
    assert "could not be evaluated: BadInputError" in report.verdicts[0].findings[0]


@pytest.mark.parametrize("budget_s", [0.0, 0.05])
def test_a_check_that_finds_no_time_or_takes_too_long_is_not_proved(budget_s):
    report = run_isolated(source(), [CHEAP], budget_s=budget_s)
    assert (report.status, report.not_proved) == ("not proved", {CHEAP: "the time budget was spent"})


def test_a_proof_that_was_not_asked_leaves_the_audit_unproved(context):
    name = "everything_fitted_comes_from_the_permitted_rows_alone"
    unasked = dataclasses.replace(context, sample=dataclasses.replace(context.sample, refit=False))
    report = run_checks(unasked, [CHEAP, name])
    assert report.not_proved == {name: "needs refit"}
    assert report.status == "not proved"
    assert not report.passed


def test_what_has_nothing_to_prove_is_named_with_its_reason(context):
    report = run_checks(context, [CHEAP, "signals_are_those_of_the_champion_one_by_one"])
    assert list(report.not_applicable) == ["signals_are_those_of_the_champion_one_by_one"]
    assert report.status == "passed"
