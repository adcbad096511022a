"""Negative controls destroy what there is to learn, find nothing in it, and notice a leak that survives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import ControlsConfig
from k4_pipeline.leakage.controls import negative_controls as controls
from k4_pipeline.leakage.engine.small import SMALL_AS_OF, small_config
from k4_pipeline.market.sources import read_bars
from k4_pipeline.pipeline import stages as production
from k4_pipeline.verdict import Verdict
from k4_pipeline_tests.mutations.all_mutations import load_mutations
from k4_pipeline_tests.mutations.registry import replaced

QUICK = ControlsConfig(max_rows=800, epochs=1, draws=1600, test_rows=300)


def test_shuffling_keeps_the_class_mix_of_every_month(context):
    labeled = context.full.labeled
    permuted = controls.shuffled_within_date(labeled, np.random.default_rng(0))
    month = labeled["snapshot_date"].dt.to_period("M")
    for part, rows in labeled.groupby(month):
        before, after = rows["outcome_class"].value_counts(), permuted.loc[rows.index, "outcome_class"].value_counts()
        assert before.sort_index().equals(after.sort_index()), part
    known = labeled["outcome_class"].notna()
    assert (permuted.loc[known, "outcome_class"] != labeled.loc[known, "outcome_class"]).mean() > 0.3
    assert permuted["label_end_date"].equals(labeled["label_end_date"])


def test_shifted_labels_are_of_a_race_that_begins_where_the_own_one_ends(context):
    full = context.full
    shifted = controls.shifted_by_one_horizon(full.labeled, full.bars, context.config)
    known = shifted["outcome_class"].notna() & full.labeled["outcome_class"].notna()
    assert known.sum() > 100
    ordinary = known & ~full.labeled["censored"] & ~shifted["censored"]
    begins = full.bars.locate(full.labeled["ticker"], controls.to_days(full.labeled["label_end_date"]))
    ends = full.bars.locate(shifted["ticker"], controls.to_days(shifted["label_end_date"].fillna(pd.Timestamp(0))))
    assert (ends - begins)[ordinary].tolist() == [context.config.labels.horizon_bars] * int(ordinary.sum())
    assert shifted["snapshot_date"].equals(full.labeled["snapshot_date"])


def test_reversed_bars_are_bars(context):
    bars = context.full.bars
    turned = controls.time_reversed(bars)
    assert (turned.high >= np.maximum(turned.open, turned.close) * 0.99).all()
    first = bars.ticker_slice(bars.tickers[0])
    assert np.array_equal(turned.close[first], bars.open[first][::-1])
    assert np.array_equal(turned.date, bars.date)


def test_too_little_evidence_is_a_failure_that_does_not_block(context):
    path = dataclasses.replace(context.full, config=dataclasses.replace(context.config, controls=QUICK))
    few = dataclasses.replace(path, scored=path.scored.head(40), _cache={})
    for case in (few, dataclasses.replace(path, scored=None, _cache={})):
        verdict = controls.judge("x", case, permuted=True)
        assert not verdict.passed
        assert controls.TOO_LITTLE in verdict.findings[0]
        assert not controls.blocks(verdict)


def test_rows_that_cannot_be_split_are_too_little_evidence(context):
    verdict = controls.run_control("shuffled_labels_teach_nothing", context.full, "2022-01-03")
    assert (verdict.passed, controls.blocks(verdict)) == (False, False)
    assert "needed are" in verdict.findings[0]


def test_a_control_that_breaks_blocks(context, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(controls, "train_control", broken)
    report = controls.run_controls(context.full, SMALL_AS_OF, names=["reversed_time_teaches_nothing"])
    verdict = report.verdicts[0]
    assert "ZeroDivisionError" in verdict.findings[0]
    assert controls.blocks(verdict)


ALARM = Verdict("x", False, 400, ("labels reach the test rows",), {"evidence": True})
PASS = Verdict("x", True, 410, (), {"evidence": True})
TOO_FEW = Verdict("x", False, 30, (f"{controls.TOO_LITTLE}: 30 rows",), {"evidence": False})
NOT_CONFIRMED = {"not_confirmed": ALARM.findings[0]}


@pytest.mark.parametrize(
    "trials, expected",
    [
        ((PASS,), PASS),
        ((TOO_FEW,), TOO_FEW),
        ((ALARM, dataclasses.replace(ALARM, cases=390)), ALARM),
        ((ALARM, PASS), dataclasses.replace(PASS, detail={**PASS.detail, **NOT_CONFIRMED})),
        ((ALARM, TOO_FEW), dataclasses.replace(TOO_FEW, detail={**TOO_FEW.detail, **NOT_CONFIRMED})),
    ],
    ids=["pass", "too little data", "alarm twice", "alarm, then pass", "alarm, then too little data"],
)
def test_an_alarm_counts_when_a_second_trial_confirms_it(monkeypatch, trials, expected):
    name, left, made = "shuffled_labels_teach_nothing", list(trials), []

    def make(path, rng):
        return rng.integers(1_000_000)

    def train(draw, as_of, seed):
        made.append((draw, seed))
        return draw

    monkeypatch.setitem(controls.CONTROLS, name, dataclasses.replace(controls.CONTROLS[name], make=make))
    monkeypatch.setattr(controls, "train_control", train)
    monkeypatch.setattr(controls, "judge", lambda *args, **kwargs: left.pop(0))
    assert controls.run_control(name, None, SMALL_AS_OF, seed=4) == expected
    assert not left
    draws, seeds = zip(*made)
    assert len(set(draws)) == len(set(seeds)) == len(trials)


def _universe(world: str = "squeeze"):
    config = dataclasses.replace(small_config(5, n_tickers=60, world=world), controls=QUICK)
    return production.build_from_raw(read_bars(config.source, config.simulation), config)


@pytest.mark.slow
def test_every_control_of_an_honest_pipeline_scores_at_its_base_rate():
    report = controls.run_controls(_universe(), SMALL_AS_OF)
    assert [v.name for v in report.verdicts] == list(controls.CONTROLS)
    assert report.passed, [(v.name, v.findings, v.detail) for v in report.verdicts if not v.passed]
    for verdict in report.verdicts:
        for reader in ("network", "trees"):
            told = [verdict.detail[f"{reader}_{key}"] for key in ("low", "score", "base_rate", "high")]
            assert np.isfinite(told).all()
        assert verdict.cases == verdict.detail["test_rows"] >= QUICK.min_rows


def _label_in_the_input(original, bars, snapshots, **kwargs):
    frame = original(bars, snapshots, **kwargs)
    label = production.label(bars, snapshots, small_config())["outcome_class"].fillna(0).to_numpy(dtype=np.float64)
    return frame.assign(prior_width=(frame["upper"] - frame["lower"]) * (1.5 + label))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reversed_time_teaches_nothing", "a_martingale_teaches_nothing"])
def test_a_label_in_the_input_raises_the_alarm_of_the_controls_that_build_their_inputs(name):
    path = _universe()
    with replaced("sequences.windows.index_sequences", _label_in_the_input):
        verdict = controls.run_control(name, path, SMALL_AS_OF)
    assert not verdict.passed
    assert "reach the test rows" in verdict.findings[0]
    assert controls.blocks(verdict)


@pytest.mark.slow
def test_a_report_on_train_rows_raises_the_alarm_of_the_shuffled_labels():
    path = _universe()
    with load_mutations()["report_on_train_rows"].patch():
        verdict = controls.run_control("shuffled_labels_teach_nothing", path, SMALL_AS_OF)
    assert "other permutations of the same labels score up to" in verdict.findings[0]
    assert controls.blocks(verdict)
