"""The five integrity tests on crafted results whose verdict is known: each must refuse a bad one and pass a good one.

They stand in the report and are read by people; a test that has been edited to pass always would comfort them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import K4, N_CLASSES, IntegrityConfig
from k4_pipeline.evaluation import integrity
from k4_pipeline.leakage.engine.audit import AuditContext, check
from k4_pipeline.verdict import Verdict

AS_OF = pd.Timestamp("2020-01-01")
STANDARD = IntegrityConfig(bootstrap_draws=100)  # the published limits, whatever a user has set
TESTS = (
    "temporal integrity",
    "future contamination",
    "K4 recall consistency",
    "EV correlation",
    "class distribution drift",
)


@dataclasses.dataclass
class Crafted:
    """A result of one as-of date: the split, the scored test rows and the metrics that the tests read."""

    split: pd.DataFrame
    scored: pd.DataFrame
    metrics: dict[str, Any]


def honest(config: IntegrityConfig) -> Crafted:
    """A result that every test has to pass: dates in order, alike in both halves, EV positive and not too good."""
    n = 8 * max(config.min_rows, config.min_k4)
    days = pd.to_timedelta(np.arange(n) // 4, unit="D")
    classes = np.arange(n) % N_CLASSES
    scored = pd.DataFrame(
        {
            "ticker": [f"T{i % 40:02d}" for i in range(n)],
            "snapshot_date": AS_OF + days,
            "outcome_class": classes,
            **{f"p_{c}": np.where(classes == c, 0.9, 0.02) for c in range(N_CLASSES)},
        }
    )
    rows = {"start_date": pd.Timedelta(days=-20), "label_end_date": pd.Timedelta(days=30)}
    parts = []
    for name, shift in (("train", -5 * 365), ("test", 0)):
        dated = scored["snapshot_date"] + pd.Timedelta(days=shift - (n if name == "train" else 0))
        parts.append(
            scored[["ticker", "outcome_class"]].assign(
                snapshot_date=dated, split=name, **{column: dated + delta for column, delta in rows.items()}
            )
        )
    ev = {"value": 0.5 * config.ev_correlation_tripwire, "low": 0.01, "high": config.ev_correlation_tripwire, "n": n}
    average = {"value": 0.1}
    metrics = {
        "model": {"ev_correlation_pearson": ev, "k4_average_precision": average},
        "baselines": {"volatility_20": {"k4_average_precision": average}},
    }
    return Crafted(pd.concat(parts, ignore_index=True), scored, metrics)


def _late(crafted: Crafted) -> np.ndarray:
    dates = crafted.scored["snapshot_date"].to_numpy()
    return dates >= np.sort(dates)[len(dates) // 2]


def _order_broken(good: Crafted) -> Crafted:
    split = good.split.copy()
    split.loc[split.index[0], "label_end_date"] = AS_OF
    return dataclasses.replace(good, split=split)


def _late_half_unknown(good: Crafted) -> Crafted:
    scored = good.scored.copy()
    scored.loc[_late(good), [f"p_{c}" for c in range(N_CLASSES)]] = np.eye(N_CLASSES)[
        (scored.loc[_late(good), "outcome_class"].to_numpy() + 1) % N_CLASSES
    ]
    return dataclasses.replace(good, scored=scored)


def _late_k4_missed(good: Crafted) -> Crafted:
    scored = good.scored.copy()
    missed = _late(good) & (scored["outcome_class"] == K4).to_numpy()
    scored.loc[missed, f"p_{K4}"] = 0.0
    return dataclasses.replace(good, scored=scored)


def _no_edge(good: Crafted) -> Crafted:
    ev = {**good.metrics["model"]["ev_correlation_pearson"], "low": -0.01}
    return dataclasses.replace(
        good, metrics={**good.metrics, "model": {**good.metrics["model"], "ev_correlation_pearson": ev}}
    )


def _too_good(good: Crafted) -> Crafted:
    ev = {**good.metrics["model"]["ev_correlation_pearson"], "value": 0.9, "low": 0.85, "high": 0.95}
    return dataclasses.replace(
        good, metrics={**good.metrics, "model": {**good.metrics["model"], "ev_correlation_pearson": ev}}
    )


def _another_mix(good: Crafted) -> Crafted:
    return dataclasses.replace(good, split=good.split.assign(outcome_class=0))


def _hardly_any_rows(good: Crafted) -> Crafted:
    ev = {**good.metrics["model"]["ev_correlation_pearson"], "n": 4}
    metrics = {**good.metrics, "model": {**good.metrics["model"], "ev_correlation_pearson": ev}}
    return Crafted(good.split.groupby("split").head(4), good.scored.iloc[:4].reset_index(drop=True), metrics)


# What was made of the good result, and the tests that must refuse it.
TRIALS = {
    "a train label known only on the as-of date": (_order_broken, TESTS[:1]),
    "a late half in which nothing is right": (_late_half_unknown, TESTS[1:2]),
    "a late half in which no K4 is found": (_late_k4_missed, TESTS[2:3]),
    "an EV correlation that may be zero": (_no_edge, TESTS[3:4]),
    "an EV correlation of 0.9 without an audit": (_too_good, TESTS[3:4]),
    "a train mix that is all K0": (_another_mix, TESTS[4:]),
    "four rows of evidence": (_hardly_any_rows, TESTS[1:]),
}


def verdicts(crafted: Crafted, config: IntegrityConfig) -> dict[str, bool]:
    """Whether each test passes, by name, as production runs them."""
    results = integrity.run_integrity_tests(crafted.split, AS_OF, crafted.scored, crafted.metrics, config)
    return {result.name: bool(result.passed) for result in results}


def _without_limits(context: AuditContext) -> AuditContext:
    loose = dataclasses.replace(STANDARD, contamination_max_drop=9.0, drift_max_kl=99.0)
    return dataclasses.replace(context, extra={**context.extra, "integrity_limits": loose})


@check(
    "self-test",
    proves="Each of the five integrity tests of the report refuses a crafted result that it must refuse (a broken "
    "order, a half unlike the other, no edge, too much of one, another class mix, too few rows) and passes a good one.",
    misses="A test that refuses these results and no others.",
    corruptions=(_without_limits,),
)
def the_integrity_tests_can_fail_and_pass(context: AuditContext) -> Verdict:
    """Run the five tests on crafted results."""
    config = context.extra.get("integrity_limits", STANDARD)
    good = honest(config)
    findings = [f"{name} refuses a result that is in order" for name, ok in verdicts(good, config).items() if not ok]
    cases = len(TESTS)
    for what, (corrupt, names) in TRIALS.items():
        made = verdicts(corrupt(good), config)
        for name in names:
            cases += 1
            if made.get(name, True):
                findings.append(f"{name} passes {what}: it has been weakened and proves nothing")
    return Verdict.of("the_integrity_tests_can_fail_and_pass", cases, findings)
