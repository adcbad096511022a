"""The planted leaks: the registry, and a sample of leaks of every stage with clean runs through the whole runner."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest

import k4_pipeline
from k4_pipeline.errors import ConfigError
from k4_pipeline.features import compute
from k4_pipeline.leakage.engine.audit import STORED_NEEDS, AuditContext, AuditSample, load_checks
from k4_pipeline.patterns import snapshots
from k4_pipeline.pipeline import stages as production
from k4_pipeline_tests.mutations.all_mutations import load_mutations
from k4_pipeline_tests.mutations.registry import STAGES, replaced, resolve
from k4_pipeline_tests.mutations.runner import (
    EXHAUSTIVE,
    Outcome,
    Task,
    choose,
    in_order,
    processor_seconds,
    run_mutations,
    run_task,
    suite_tasks,
    summarise,
)
from k4_pipeline_tests.mutations.table import checks_in_words, published, to_markdown
from k4_pipeline_tests.mutations.universe import available_kinds, make_universe

# Every mutation named in the plan of this package, by the planted leak that stands for it.
NAMED = {
    "shift(-1) in one channel": "next_bar_in_one_channel",
    "a leak in a single cell": "next_bar_in_a_single_cell",
    "centred window": "centred_window",
    "bfill": "filled_backward",
    "two-sided interpolation": "interpolated_on_both_sides",
    "rank over the full sample": "rank_over_the_full_sample",
    "mean over the full sample": "mean_over_the_full_sample",
    "scaler over the full sample": "scaled_over_the_full_sample",
    "label in X": "label_in_the_input",
    "gain in X": "gain_in_a_channel",
    "label window from the snapshot bar": "label_window_starts_at_the_snapshot",
    "boundaries of the whole pattern": "boundaries_of_the_whole_pattern",
    "days to breakout": "days_to_the_breakout",
    "sampling by later bars": "sampling_by_the_next_bar",
    "history over the whole ticker": "history_counted_over_the_whole_ticker",
    "survival to the end": "universe_of_survivors",
    "total liquidity": "universe_by_total_liquidity",
    "price level as a channel": "adjusted_price_level_as_a_channel",
    "volume as a channel": "adjusted_volume_as_a_channel",
    "adjustment from the future": "adjustment_to_the_last_day",
    "merge_asof forward": "joined_forward",
    "merge_asof nearest": "joined_to_the_nearest",
    "join by position": "joined_by_position",
    "time zone": "time_zone_moves_the_date",
    "calendar days": "label_known_after_calendar_days",
    "partial bar of today": "partial_bar_of_today",
    "later corrected bar": "later_correction_replaces_history",
    "holiday filled from the next day": "missing_bar_filled_from_the_next",
    "mask shifted by one": "mask_shifted_by_one",
    "window one bar late": "window_ends_one_bar_late",
    "padding from the next sequence": "padding_from_the_next_sequence",
    "neighbour ticker bleeds over": "neighbour_ticker_bleeds_over",
    "purge of 0": "purge_of_zero",
    "purge by row count": "purge_by_row_count",
    "purge half-open": "purge_half_open",
    "embargo on the wrong side": "embargo_on_the_wrong_side",
    "split by random rows": "split_by_random_rows",
    "split by pattern": "split_by_pattern",
    "split by ticker": "split_by_ticker",
    "duplicated ticker": "duplicated_ticker",
    "oversampling before the split": "oversampled_before_the_split",
    "class weights on test": "class_weights_of_all_rows",
    "target encoding": "ticker_encoded_by_its_outcomes",
    "calibration on test": "calibrated_on_test_rows",
    "threshold on test": "signal_thresholds_of_the_test_rows",
    "early stopping on test": "stopped_early_on_test_rows",
    "model choice on test": "model_chosen_on_test_rows",
    "scaler refit at prediction": "scaler_refit_at_prediction",
    "model trained after the snapshot": "model_trained_after_the_snapshots",
    "report on train rows": "report_on_train_rows",
    "EV from the realised class": "expected_value_of_the_realised_class",
    "batch statistics": "statistics_of_the_batch",
    "attention across samples": "attention_across_samples",
    "a check that always passes": "checks_weakened_split",
}


def test_every_named_mutation_is_in_the_registry_and_says_where_it_enters():
    registry = load_mutations()
    assert len(registry) >= 40
    assert not set(NAMED.values()) - set(registry)
    assert {leak.stage for leak in registry.values()} == set(STAGES)
    for leak in registry.values():
        holder, name = resolve(leak.where)
        assert hasattr(holder, name), leak.where
        assert leak.description
        assert leak.benign_does


def test_every_expected_check_exists():
    known = set(load_checks())
    for leak in load_mutations().values():
        assert leak.expected_checks
        assert set(leak.expected_checks) <= known, (leak.name, set(leak.expected_checks) - known)


def test_a_plant_acts_under_every_name_and_leaves_nothing_behind():
    before, known_as = compute.compute_market_features, snapshots.find_patterns
    for leak in load_mutations().values():
        with leak.patch():
            pass
        with leak.benign():
            pass
    assert compute.compute_market_features is before
    assert snapshots.find_patterns is known_as
    with replaced("patterns.consolidation.find_patterns", lambda original, *args: "planted"):
        assert snapshots.find_patterns() == "planted"
    assert snapshots.find_patterns is known_as


def test_a_failure_inside_a_plant_still_takes_it_away():
    before = compute.compute_market_features
    with contextlib.suppress(ZeroDivisionError), load_mutations()["centred_window"].patch():
        assert compute.compute_market_features is not before
        raise ZeroDivisionError
    assert compute.compute_market_features is before


def test_a_universe_is_a_function_of_its_seed_and_gives_every_leak_something_to_act_on():
    first, again = make_universe("simulated", 0), make_universe.__wrapped__("simulated", 0)
    assert first.raw.frame.equals(again.raw.frame)
    assert first.as_of == again.as_of
    made = production.run_path(first.raw, first.config, first.as_of, model=None, today=first.today)
    last = np.array([made.bars.date[stop - 1] for stop in made.bars.offsets[1:]])
    assert (last < made.bars.last_day - 30).any()  # a delisted ticker
    assert made.labeled["censored"].any()
    assert made.labeled["outcome_class"].isna().any()
    assert made.rejects["reason"].str.startswith("contradicts").any()
    assert made.rejects["reason"].str.startswith("bar of today").any()
    assert "pattern_in_earlier_split" in made.manifest.excluded


def test_a_sample_touches_every_stage():
    registry = load_mutations()
    chosen = choose(list(registry), len(STAGES))
    assert {registry[name].stage for name in chosen} == set(STAGES)
    with pytest.raises(ConfigError):
        choose(list(registry), 0)


def test_unknown_leaks_and_empty_suites_are_refused():
    with pytest.raises(ConfigError, match="no such planted leak"):
        run_mutations(1, ("simulated",), leaks=["nothing"], clean_runs=0)
    with pytest.raises(ConfigError, match="at least one seed"):
        run_mutations(0, ("simulated",), clean_runs=0)


def test_a_quick_run_asks_everything_and_the_exhaustive_replays_last():
    names = list(load_checks())
    ordered = in_order([EXHAUSTIVE[1], "nothing_lies_in_two_members"], names)
    assert sorted(ordered) == sorted(names)
    assert ordered[0] == "nothing_lies_in_two_members"
    assert ordered[-2:] == [EXHAUSTIVE[1], EXHAUSTIVE[0]]


def test_a_clean_run_asks_every_check_that_applies():
    made = run_task(Task("clean", "", "simulated", 1000, False))
    assert made.fired == []
    left_out = {"every_check_can_fail", *(n for n, c in load_checks().items() if c.needs & set(STORED_NEEDS))}
    assert set(made.asked) == set(load_checks()) - left_out
    assert made.cpu_seconds > 0


def test_a_suite_holds_every_leak_on_every_universe_and_its_benign_mutant():
    names = list(load_mutations())
    tasks = suite_tasks(names, ("simulated", "real"), [0, 1, 2], clean_runs=200, benign=True, table=True)
    audits = sum(leak.stage == "audit" for leak in load_mutations().values())
    assert sum(t.what == "planted" and t.quick for t in tasks) == 6 * len(names) - 3 * audits
    assert sum(t.what in ("clean", "baseline") for t in tasks) == 200
    assert sum(t.what == "benign" for t in tasks) == 2 * len(names)
    assert sum(t.what == "planted" and not t.quick for t in tasks) == len(names)
    assert len(set(tasks)) == len(tasks)


def test_processor_time_is_that_of_this_process_and_its_children():
    own = time.process_time()
    assert processor_seconds() >= own - 0.1  # the children's is added; the two clocks tick differently


def outcome(what: str, leak: str, fired: list[str], *, quick: bool = True) -> Outcome:
    return Outcome(Task(what, leak, "simulated", 0, quick), fired, {"a": 1.0}, dict.fromkeys(fired, "a finding"))


def test_a_check_that_also_fires_without_the_leak_detects_nothing():
    made = [
        outcome("baseline", "", ["noisy"], quick=False),
        outcome("planted", "centred_window", ["noisy"]),
        outcome("planted", "filled_backward", ["noisy", "sharp"]),
        outcome("clean", "", []),
        outcome("benign", "centred_window", ["noisy"]),
    ]
    result = summarise(made, (), 1.0)
    assert (result["planted"], result["detected"]) == (2, 1)
    assert result["not_detected"] == ["centred_window (simulated 0)"]
    assert (result["clean_runs"], result["false_alarms"]) == (2, 1)
    assert result["benign_alarms"] == 1
    assert "**none**" in to_markdown(result)


@pytest.mark.slow
def test_a_sample_of_leaks_of_every_stage_is_noticed_and_clean_runs_raise_no_alarm():
    # One leak of each stage that needs no check of the checks.
    leaks = [
        "universe_of_survivors",
        "next_bar_in_a_single_cell",
        "sampling_by_the_next_bar",
        "label_known_when_decided",
        "mask_shifted_by_one",
        "purge_half_open",
        "stopped_early_on_test_rows",
        "report_on_train_rows",
    ]
    result = run_mutations(1, ("simulated",), leaks=leaks, clean_runs=5, benign=False, table=False, jobs=2)
    assert result["planted"] == len(leaks)
    assert result["detected"] == len(leaks), result["not_detected"]
    assert result["clean_runs"] == 5
    assert result["false_alarms"] == 0, result["alarms"]
    text = to_markdown(result)
    assert all(name in text for name in leaks)


def test_real_bars_make_a_universe_too(real_data_dir):
    assert "real" in available_kinds()
    universe = make_universe("real", 0)
    made = production.run_path(universe.raw, universe.config, universe.as_of, model=None, today=universe.today)
    assert made.manifest.rows["train"] >= 80


def test_the_published_list_of_checks_is_that_of_the_registry():
    document = (Path(k4_pipeline.__file__).parents[1] / "docs" / "leakage.md").read_text()
    assert published(document, "checks", checks_in_words()) == document, (
        "run: python -m k4_pipeline_tests.mutations.publish"
    )


def test_text_is_published_between_its_marks_only():
    document = "before\n<!-- x: begin, generated -->\nold\n<!-- x: end -->\nafter\n"
    assert published(document, "x", "new") == (
        "before\n<!-- x: begin, generated -->\n\nnew\n\n<!-- x: end -->\nafter\n"
    )
    with pytest.raises(ValueError, match="lacks the marks"):
        published(document, "y", "new")


def test_a_sample_of_tickers_reaches_the_last_day_of_the_universe():
    # The clean universe in which a sample of delisted tickers alone once raised a false alarm.
    universe = make_universe("simulated", 1065, True)
    made = production.run_path(universe.raw, universe.config, universe.as_of, model=None, today=universe.today)
    for salt in range(30):
        context = AuditContext(made, AuditSample(tickers=1, seed=salt))
        part = made.bars.subset(context.sample_tickers(12))
        assert part.last_day == made.bars.last_day


def test_close_scores_of_a_weak_model_raise_no_alarm(real_data_dir):
    # The clean universe in which scores that tie in single precision once looked as if measured on other rows.
    assert run_task(Task("clean", "", "real", 1018, False)).fired == []
