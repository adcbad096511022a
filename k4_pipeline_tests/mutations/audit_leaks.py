"""Mutations of the proof itself: a check weakened until it always passes, or a verifier that finds nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

from k4_pipeline.leakage.engine.audit import AuditContext, Check
from k4_pipeline.verdict import Verdict
from k4_pipeline_tests.mutations.registry import Patch, register

_SELF_TEST = ("every_check_can_fail",)
_STORED = ("checks_of_stored_tables_can_fail",)


def _always_passes(name: str) -> Callable[[AuditContext], Verdict]:
    return lambda context: Verdict(name, True, 1)


def _called_through(item: Check) -> Callable[[AuditContext], Verdict]:
    return lambda context: item.function(context)


def _checks_called(stage: str, weakened: bool) -> Patch:
    """Replace the checks of a stage by ones that always pass, or by wrappers of themselves."""

    @contextmanager
    def patch() -> Iterator[None]:
        from k4_pipeline.leakage.engine import audit

        changed = {}
        for name, item in audit.load_checks().items():
            if item.stage == stage:
                function = _always_passes(name) if weakened else _called_through(item)
                changed[name] = dataclasses.replace(item, function=function)
        with mock.patch.dict(audit.CHECKS, changed):
            yield

    return patch


for _stage, _what in (("split", "the checks of the split"), ("replay", "the replays"), ("labels", "the label checks")):
    register(
        f"checks_weakened_{_stage}",
        stage="audit",
        where="leakage.engine.audit.CHECKS",
        description=f"{_what} are edited so that they always pass",
        expected=_SELF_TEST,
        leak=_checks_called(_stage, True),
        benign=_checks_called(_stage, False),
        benign_does="the checks are called by a wrapper",
        patches=True,
    )

register(
    "comparison_finds_no_difference",
    stage="audit",
    where="leakage.engine.compare.compare_tables",
    description="the comparison of two tables is edited so that it never sees a difference",
    expected=_SELF_TEST,
    leak=lambda original, table, known, again, *args, **kwargs: original(table, again, again, *args, **kwargs),
    benign=lambda original, *args, **kwargs: original(*args, **kwargs),
    benign_does="the production function is called by a wrapper",
)
register(
    "split_verifier_finds_nothing",
    stage="audit",
    where="splits.verify.verify_split",
    description="the verifier of the split is edited so that it returns no violation",
    expected=_STORED,
    leak=lambda original, *args, **kwargs: [],
    benign=lambda original, *args, **kwargs: list(original(*args, **kwargs)),
    benign_does="the list of violations is copied",
)
register(
    "purge_proposition_always_holds",
    stage="audit",
    where="leakage.checks.propositions.purge_holds",
    description="the check that stands beside the stored split is edited so that it always passes",
    expected=_STORED,
    leak=lambda original, split, manifest, config: Verdict("purge_holds", True, len(split)),
    benign=lambda original, split, manifest, config: original(split.copy(), manifest, config),
    benign_does="the split is copied first",
)
