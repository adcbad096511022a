"""Checks in processes of their own say what they say in this one, and silence is a failure."""

from __future__ import annotations

import dataclasses
import json

import pytest

from k4_pipeline.leakage.engine import isolated
from k4_pipeline.leakage.engine.audit import AuditSample, run_checks
from k4_pipeline.leakage.engine.isolated import ContextSource, run_isolated, run_one
from k4_pipeline.leakage.engine.small import SMALL_AS_OF, small_config


def source(**changes: object) -> ContextSource:
    return ContextSource(small_config(0), SMALL_AS_OF, AuditSample(), **changes)


def test_a_source_survives_json():
    made = source(today="2026-01-05")
    assert ContextSource.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.slow
def test_a_check_in_its_own_process_says_the_same(context):
    name = "labels_are_those_of_an_independent_race"
    verdict, seconds = run_one(source(), name)
    assert verdict == run_checks(context, [name]).verdicts[0]
    assert seconds > 0


@pytest.mark.slow
def test_a_process_that_dies_is_a_failed_check():
    broken = dataclasses.replace(source(), as_of="1990-01-01")
    verdict, _ = run_one(broken, "nothing_lies_in_two_members")
    assert not verdict.passed
    assert "its process ended with status 1" in verdict.findings[0]


def test_a_process_that_takes_too_long_is_a_failed_check():
    verdict, _ = run_one(source(), "nothing_lies_in_two_members", timeout_s=0.01)
    assert not verdict.passed
    assert "took longer" in verdict.findings[0]


def test_checks_without_time_left_have_failed(context):
    report = run_isolated(source(), context, ["nothing_lies_in_two_members"], budget_s=0.0)
    assert not report.passed
    assert "time budget was spent" in report.verdicts[0].findings[0]


def test_checks_that_do_not_apply_are_named(context, monkeypatch):
    monkeypatch.setattr(isolated, "run_one", lambda *a, **k: pytest.fail("nothing should be run"))
    report = run_isolated(source(), context, ["noise_after_as_of_moves_nothing_fitted"])
    assert report.not_applicable == {"noise_after_as_of_moves_nothing_fitted": "needs second refit"}
    assert not report.passed
