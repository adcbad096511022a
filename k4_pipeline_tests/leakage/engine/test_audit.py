"""The audit passes on the clean path, fires on corrupted contexts, and never takes silence for proof."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from k4_pipeline.errors import ConfigError
from k4_pipeline.leakage.checks import replay_at_cutoffs as replay
from k4_pipeline.leakage.checks.self_test import failures_to_fail
from k4_pipeline.leakage.engine import audit
from k4_pipeline.leakage.engine.audit import (
    CHECKS,
    STORED_NEEDS,
    AuditReport,
    AuditSample,
    load_checks,
    run_checks,
)
from k4_pipeline.leakage.engine.small import SMALL_AS_OF, small_config
from k4_pipeline.market.bars import to_dates
from k4_pipeline.market.sources import read_bars
from k4_pipeline.verdict import Verdict
from k4_pipeline_tests.mutations.runner import run_audit
from k4_pipeline_tests.small_universe import make

# Those that can be asked of a path in memory; the others are asked, and can fail, in k4_pipeline_tests/cli.
NAMES = sorted(n for n, c in load_checks().items() if n != "every_check_can_fail" and not c.needs & set(STORED_NEEDS))


def test_every_check_holds_on_the_clean_path(context):
    report = run_checks(context, NAMES)
    assert report.passed, {v.name: v.findings for v in report.verdicts if not v.passed}
    assert not report.not_proved
    assert all(v.cases > 0 for v in report.verdicts)
    json.dumps(report.to_dict(), allow_nan=False, default=str)


@pytest.mark.slow
def test_every_check_holds_on_another_universe():
    report = run_checks(make(1), NAMES)
    assert report.passed, {v.name: v.findings for v in report.verdicts if not v.passed}
    assert not report.not_applicable


@pytest.mark.parametrize("name", NAMES)
def test_a_check_fires_on_each_context_that_was_corrupted_for_it(name, context):
    tried, findings = failures_to_fail(CHECKS[name], context)
    assert tried >= 1
    assert findings == []


def test_a_check_that_always_passes_is_discovered(context, monkeypatch):
    weakened = dataclasses.replace(CHECKS["nothing_lies_in_two_members"], function=lambda _: Verdict.of("x", 1, []))
    _, findings = failures_to_fail(weakened, context)
    assert len(findings) == len(weakened.corruptions)
    assert all("weakened" in f for f in findings)


def test_a_check_without_a_self_test_is_discovered(context):
    bare = dataclasses.replace(CHECKS["nothing_lies_in_two_members"], corruptions=())
    assert failures_to_fail(bare, context)[1] == [
        "nothing_lies_in_two_members has no self-test: nothing shows that it can fail"
    ]


def test_every_check_says_what_it_proves_and_what_it_misses():
    for item in load_checks().values():
        assert len(item.proves) > 30, item.name
        assert item.misses, item.name
        assert item.corruptions, item.name


def test_a_path_that_raises_is_a_failed_audit():
    config = small_config()
    raw = read_bars(config.source, config.simulation)
    empty = dataclasses.replace(raw, frame=raw.frame.iloc[:0])
    report = run_audit(empty, config, SMALL_AS_OF)
    assert not report.passed
    assert report.failed == ["the_path_runs"]
    assert "no bars were read" in report.error


def test_a_check_that_raises_has_failed(context):
    broken = context.with_full(labeled=context.full.labeled.drop(columns="outcome_class"))
    report = run_checks(broken, ["membership_follows_from_dates_alone"])
    assert not report.passed
    assert "could not be evaluated" in report.verdicts[0].findings[0]


def test_an_audit_without_a_verdict_proves_nothing():
    assert not AuditReport([], {}).passed


def test_an_unknown_check_or_sample_is_refused_by_name(context):
    with pytest.raises(ConfigError, match="no such check: nonsense"):
        run_checks(context, ["nonsense"])
    with pytest.raises(ConfigError, match="'huge' is unknown"):
        AuditSample.named("huge")


def test_a_leak_in_one_cell_of_one_day_is_found(context):
    full = context.full
    row = int(full.bars.offsets[3]) + 401  # any bar: every one is replayed as the last of its history
    panel = np.array(full.panel)
    panel[row, 20] = panel[row + 1, 20] + np.float32(1e-3)
    report = run_checks(context.with_full(panel=panel), ["every_bar_is_reproduced_as_the_last_one"])
    verdict = report.verdicts[0]
    assert not verdict.passed
    assert verdict.detail["differing"] == 1
    assert str(full.bars.tickers[3]) in verdict.findings[0]
    assert "without the future" in verdict.findings[0]


def test_a_feature_that_reads_the_next_bar_is_found_by_the_replays(context, monkeypatch):
    from k4_pipeline.features import compute

    honest = compute.compute_market_features

    def leaky(bars, **options):
        values = honest(bars, **options)
        stops = bars.offsets[1:] - 1
        shifted = np.concatenate([values[1:, 30], values[-1:, 30]])
        shifted[stops] = values[stops, 30]
        values[:, 30] = shifted
        return values

    monkeypatch.setattr(compute, "compute_market_features", leaky)
    config = small_config()
    raw = read_bars(config.source, config.simulation)
    report = run_audit(
        raw,
        config,
        SMALL_AS_OF,
        model=None,
        checks=["everything_is_reproduced_from_bars_cut_at_a_date", "every_bar_is_reproduced_as_the_last_one"],
    )
    assert report.failed == [
        "everything_is_reproduced_from_bars_cut_at_a_date",
        "every_bar_is_reproduced_as_the_last_one",
    ]


def test_sampling_keeps_the_last_session_before_the_as_of_date(context):
    days = context.cut_days(3, 1)
    before = context.sessions[context.sessions < context.as_of_day][-1]
    assert before in days
    assert len(days) == 3
    assert days.max() < context.sessions[-1]


def test_a_sample_of_predictions_reaches_from_the_first_to_the_last(context, monkeypatch):
    # On 1,612 tickers the sample was the newest predictions before a cut, and the earliest were never looked at.
    monkeypatch.setattr(replay, "MAX_PREDICTED", 3)
    check = CHECKS["predictions_are_reproduced_from_bars_cut_at_a_date"]
    assert check(context).holds
    assert failures_to_fail(check, context)[1] == []
    made = context.full.predictions.copy()
    cut = made["snapshot_date"].to_numpy() < to_dates(context.sessions[-1:])[0]
    made.loc[made[cut].sort_values("snapshot_date", kind="stable").index[-1], "p_raw_4"] += 1e-9
    assert not check(context.with_full(predictions=made)).holds


def test_a_sample_of_tickers_says_how_many_of_how_many(context):
    small = dataclasses.replace(context, sample=audit.AuditSample(tickers=3))
    verdict = run_checks(small, ["every_snapshot_is_reproduced_as_the_last_bar"]).verdicts[0]
    assert verdict.passed
    # Three are drawn; one that reaches the last day joins them when none of the three does.
    chosen = {len(small.sample_tickers(salt)) for salt in range(20)}
    assert chosen == {3, 4}
    assert verdict.detail["tickers"] in chosen
    assert verdict.detail["of_tickers"] == context.full.bars.n_tickers
