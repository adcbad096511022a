"""The check of the checks: each must fire on inputs that are known to be bad.

Every registered check carries ways to corrupt a context. A check that passes on a corrupted one has been weakened
(or was never able to fail) and its silence elsewhere proves nothing.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from k4_pipeline.features.context import compute_context
from k4_pipeline.leakage.checks.replay_per_bar import scoped
from k4_pipeline.leakage.engine.audit import (
    CHECKS,
    STORED_NEEDS,
    AuditContext,
    Check,
    check,
    make_context,
    what_is_there,
)
from k4_pipeline.leakage.engine.small import SMALL_AS_OF, small_config
from k4_pipeline.market.sources import read_bars
from k4_pipeline.pipeline.training_windows import index_windows
from k4_pipeline.verdict import MAX_FINDINGS, Verdict, guarded

NAME = "every_check_can_fail"
# These look at a handful of tickers as well as at all; the others need the whole universe (a fit, a split).
_SMALL_SCOPE = ("replay", "isolation", "invariance", "labels", "inputs", "snapshots")
_SMALL_NEEDS = frozenset({"fitted", "scanned", "raced"})
_TICKERS = 4


def few_tickers(context: AuditContext) -> AuditContext:
    """The context of the busiest tickers, that of the earliest snapshot and the last to end before the others, for
    corrupting one of their cells."""
    made = context.full.snapshots
    if made["ticker"].nunique() <= _TICKERS:
        return context
    busy = made["ticker"].value_counts().index[: _TICKERS - 1]
    bars = context.full.bars
    ends = bars.date[bars.offsets[1:] - 1]
    ended = bars.tickers[np.where(ends < bars.last_day, ends, 0).argmax()]
    earliest = made.loc[made["snapshot_date"].idxmin(), "ticker"]
    names = sorted({*map(str, busy), str(earliest), str(bars.tickers[-1]), str(ended)})
    full = scoped(context.full, names)
    if context.full.context is not None:  # of these tickers alone, as a replay of them makes it
        full.context = compute_context(full.bars)
    if context.full.windows is not None:
        full.windows = index_windows(full.bars, context.config)
    sample = dataclasses.replace(
        context.sample, tickers=None, cell_cuts=None, cut_dates=2, corrupted_dates=1, label_rows=None, input_rows=50
    )
    return AuditContext(full, sample, context.today, dict(context.extra))


def small_context() -> AuditContext:
    """The small simulated universe of `k4 audit --small`, made now."""
    config = small_config(0)
    return make_context(read_bars(config.source, config.simulation), config, SMALL_AS_OF)


def accepts(item: Check, context: AuditContext) -> bool:
    """Whether a check holds on a context. An exception is a refusal; the guard that says so elsewhere is not used
    here, since it is itself under test."""
    try:
        return item(context).holds
    except Exception:
        return False


def verdict(cases: int, findings: list[str], **detail: int) -> Verdict:
    """The verdict of this check, made by hand: the function that makes all others is under test."""
    return Verdict(NAME, cases > 0 and not findings, cases, tuple(findings[:MAX_FINDINGS]), detail)


def _raises() -> Verdict:
    raise RuntimeError("a check that cannot be evaluated")


def guard_findings() -> list[str]:
    """What is wrong with the guard around every check: a failure must stay one, and an exception must become one."""
    trials = {"a failed verdict": lambda: Verdict("failed", False, 1), "an exception": _raises}
    return [
        f"the guard around the checks turns {what} into a pass; nothing that was run through it is proved"
        for what, run in trials.items()
        if guarded("failed", run).passed
    ]


def failures_to_fail(item: Check, context: AuditContext, few: AuditContext | None = None) -> tuple[int, list[str]]:
    """How many corrupted contexts were tried on a check, and a finding for each on which it did not fire."""
    small = (few or few_tickers(context)) if item.stage in _SMALL_SCOPE and item.needs <= _SMALL_NEEDS else context
    findings = []
    if item.name != NAME and not accepts(item, small):  # it asks all of this itself
        findings.append(
            f"{item.name} does not hold on inputs that nobody corrupted: that it fails on others says nothing"
        )
    for corrupt in item.corruptions:
        name = getattr(corrupt, "__name__", "corrupt").strip("_")
        try:
            corrupted = corrupt(small)
        except Exception as error:
            findings.append(f"{item.name}: its self-test {name} could not be prepared: {type(error).__name__}: {error}")
            continue
        if accepts(item, corrupted):
            findings.append(
                f"{item.name} passes on inputs corrupted by {name}: it has been weakened and proves nothing"
            )
    if not item.corruptions:
        findings.append(f"{item.name} has no self-test: nothing shows that it can fail")
    return len(item.corruptions), findings


@check(
    "self-test",
    proves="Every check of this audit fires on inputs corrupted on purpose, so that a check weakened to always pass "
    "is found.",
    misses="A check that is blind to the leak at hand but not to its own self-test.",
    reads_files=True,
    corruptions=(lambda context: dataclasses.replace(context, extra={**context.extra, "weakened": True}),),
)
def every_check_can_fail(context: AuditContext) -> Verdict:
    """Feed corrupted contexts to every other check that applies here."""
    if context.extra.get("weakened"):  # its own self-test: one check that always passes stands among the others
        blind = dataclasses.replace(
            CHECKS["nothing_lies_in_two_members"], function=lambda _: Verdict.of("blind", 1, []), name="blind"
        )
        return verdict(*failures_to_fail(blind, context))
    tried, checks, found = self_tests(context, [name for name in CHECKS if name != NAME])
    own, mine = failures_to_fail(CHECKS[NAME], context)
    return verdict(2 + tried + own, [*guard_findings(), *found, *mine], checks=checks)


def self_tests(context: AuditContext, names: list[str]) -> tuple[int, int, list[str]]:
    """Corrupted contexts tried, checks asked, and what was not noticed by the checks `names` that apply here."""
    crafted = context if context.extra.get("store") is None else small_context()
    there, there_crafted, few = what_is_there(context), what_is_there(crafted), few_tickers(crafted)
    cases, checks, findings = 0, 0, []
    for item in (CHECKS[name] for name in names):
        # What can be asked of a path in memory is tried on a universe made for it, whatever the data at hand are like.
        of_store = bool(item.needs & set(STORED_NEEDS))
        if not item.needs <= (there if of_store else there_crafted):
            continue
        tried, found = failures_to_fail(item, context, context) if of_store else failures_to_fail(item, crafted, few)
        cases, checks = cases + tried, checks + 1
        findings += found
    return cases, checks, findings
