"""The code location loads fast, without heavy libraries, and holds exactly the graph of the design."""

from __future__ import annotations

import dataclasses
import datetime as dt
import subprocess
import sys
import time
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.dependency import NodeHandle

from k4_pipeline.config import CleaningConfig
from k4_pipeline.definitions import build_defs, defs
from k4_pipeline.defs.graph import (
    ASSET_ORDER,
    FULL_NIGHT_ASSETS,
    GROUPS,
    NIGHTLY_ASSETS,
    PARTITIONED_ASSETS,
    RETRAIN_ASSETS,
)
from k4_pipeline.defs.jobs import SELECTIONS
from k4_pipeline.defs.partitions import as_of_partitions, newest_labelled_as_of
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.retraining import too_little_data
from k4_pipeline.defs.schedules import zone_of
from k4_pipeline.settings import Settings

DEPS = {
    "daily_bars": set(),
    "snapshots": {"daily_bars"},
    "labeled_snapshots": {"daily_bars", "snapshots"},
    "market_features": {"daily_bars"},
    "sequences": {"daily_bars", "snapshots"},
    "context_features": {"daily_bars"},
    "training_windows": {"daily_bars"},
    "dataset_split": {"labeled_snapshots", "sequences", "market_features"},
    "trained_model": {"dataset_split", "sequences", "market_features", "context_features", "training_windows"},
    "predictions": {"trained_model", "dataset_split", "sequences", "market_features", "context_features"},
    "validation_report": {
        "predictions",
        "trained_model",
        "dataset_split",
        "labeled_snapshots",
        "sequences",
        "market_features",
        "context_features",
        "daily_bars",
    },
    "walk_forward_report": {"validation_report"},
    "champion_model": {"trained_model", "validation_report"},
    "night_bars": {"daily_bars"},
    "signals": {"daily_bars", "night_bars", "champion_model"},
    "prediction_ledger": {"signals", "champion_model"},
    "drift": {"signals", "prediction_ledger", "champion_model"},
    "signal_outcomes": {"prediction_ledger", "drift", "daily_bars", "night_bars", "champion_model"},
    "todays_list": {"signals", "daily_bars", "night_bars", "champion_model"},
}
CHECKS = {
    "daily_bars": {
        "daily_bars_match_their_schema",
        "no_bar_lies_in_the_future",
        "every_row_read_is_kept_or_rejected",
        "few_rows_were_refused",
        "refused_rows_have_nothing_in_common",
        "bars_are_daily_and_on_sessions",
    },
    "market_features": {
        "market_features_match_their_schema",
        "every_panel_row_is_its_bar",
        "no_channel_changes_when_later_bars_are_cut",
        "no_channel_changes_when_later_bars_are_corrupted",
        "no_channel_depends_on_other_tickers",
        "no_invariant_channel_changes_with_the_price_scale",
        "no_channel_needs_more_history_than_it_declares",
    },
    "snapshots": {
        "snapshots_match_their_schema",
        "every_snapshot_knows_only_its_past",
        "universe_coverage",
        "snapshots_do_not_depend_on_later_bars",
    },
    "labeled_snapshots": {
        "labeled_snapshots_match_their_schema",
        "labeled_snapshots_are_the_snapshots_row_for_row",
        "every_label_window_starts_after_its_snapshot",
        "labels_are_those_of_an_independent_race",
    },
    "sequences": {
        "sequences_match_their_schema",
        "sequences_are_the_snapshots_row_for_row",
        "every_sequence_ends_at_its_snapshot",
        "sequences_do_not_depend_on_later_bars",
    },
    "context_features": {
        "every_context_row_is_its_bar",
        "no_context_feature_changes_when_later_bars_are_cut",
    },
    "training_windows": {
        "training_windows_match_their_schema",
        "training_windows_do_not_depend_on_later_bars",
    },
    "dataset_split": {
        "dataset_split_matches_its_schema",
        "purge_holds",
        "no_pattern_in_two_splits",
        "every_exclusion_has_a_reason_that_holds",
        "scaler_was_fitted_on_train_only",
        "membership_follows_from_dates_and_bars",
    },
    "trained_model": {
        "trained_model_matches_its_record",
        "model_and_data_fingerprints_match",
        "calibrator_was_fitted_on_validation_only",
        "model_was_fitted_on_permitted_rows",
        "rows_seen_are_those_permitted",
        "shuffled_labels_teach_nothing",
        "labels_one_horizon_late_teach_nothing",
        "reversed_time_teaches_nothing",
        "a_martingale_teaches_nothing",
    },
    "predictions": {
        "predictions_match_their_schema",
        "probabilities_sum_to_one",
        "predictions_are_for_snapshots_after_as_of",
        "every_test_snapshot_is_predicted_once",
        "predictions_are_of_the_stored_model_row_by_row",
    },
    "validation_report": {
        "validation_report_matches_its_schema",
        "dates_of_all_rows_stand_in_order",
        "accuracy_does_not_drop_after_the_median_date",
        "k4_recall_is_consistent_over_time",
        "expected_value_correlates_with_what_followed",
        "class_mix_does_not_drift",
    },
    "walk_forward_report": {"walk_forward_report_matches_its_schema", "every_row_is_its_stored_report"},
    "champion_model": {"champion_is_a_model_that_was_validated", "champion_passed_every_check"},
    "signals": {
        "signals_match_their_schema",
        "every_signal_is_of_the_last_day",
        "every_signal_follows_from_its_probabilities",
        "signals_equal_a_full_computation",
    },
    "night_bars": {
        "every_new_bar_follows_the_last_known_day",
        "a_sample_equals_its_whole_history_read_again",
        "the_newest_session_is_complete",
    },
    "prediction_ledger": {
        "the_ledger_is_whole",
        "every_signal_is_in_the_ledger",
        "tonight_says_what_was_said_before",
    },
    "drift": {"what_was_scored_looks_like_the_train_rows"},
    "signal_outcomes": {"certificates_hold"},
    "todays_list": {"every_reason_adds_up", "similar_patterns_had_ended_before"},
}
NOT_BLOCKING = {
    "few_rows_were_refused",
    "refused_rows_have_nothing_in_common",
    "bars_are_daily_and_on_sessions",
    "accuracy_does_not_drop_after_the_median_date",
    "k4_recall_is_consistent_over_time",
    "expected_value_correlates_with_what_followed",
    "class_mix_does_not_drift",
    "champion_passed_every_check",
    "tonight_says_what_was_said_before",
    "certificates_hold",
    "what_was_scored_looks_like_the_train_rows",
    "every_reason_adds_up",
    "the_newest_session_is_complete",
    "freshness_check",
}


@pytest.fixture(scope="module")
def graph():
    return defs.resolve_asset_graph()


def test_the_graph_has_the_designed_assets_with_their_inputs(graph):
    found = {
        key.to_user_string(): {p.to_user_string() for p in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert found == DEPS
    # A full run reads the whole source: nothing is to be added.
    assert {*ASSET_ORDER, "night_bars"} == set(DEPS)


def test_every_asset_has_group_description_owner_and_kinds(graph):
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.group_name == GROUPS[key.to_user_string()]
        assert len(node.description) > 40
        assert node.owners
        assert any(tag.startswith("dagster/kind/") for tag in node.tags)


def test_what_depends_on_the_as_of_date_is_partitioned_by_it_and_nothing_else(graph):
    for key in graph.get_all_asset_keys():
        partitions = graph.get(key).partitions_def
        assert (partitions == as_of_partitions) == (key.to_user_string() in PARTITIONED_ASSETS)


def test_every_asset_has_its_checks_named_as_propositions(graph):
    found: dict[str, set[str]] = {}
    for key in graph.asset_check_keys:
        found.setdefault(key.asset_key.to_user_string(), set()).add(key.name)
    freshness = {name: {"freshness_check"} if name in PARTITIONED_ASSETS else set() for name in CHECKS}
    assert found == {n: {*checks, *freshness[n], "stored_bytes_are_those_written"} for n, checks in CHECKS.items()}


def test_what_has_no_partitions_has_a_freshness_policy_and_no_run_asks_how_old_a_partition_is(graph):
    for key in graph.get_all_asset_keys():
        assert (graph.get(key).freshness_policy is None) == (key.to_user_string() in PARTITIONED_ASSETS)
    assert graph.get(dg.AssetKey("signals")).freshness_policy.fail_window.to_timedelta() == dt.timedelta(hours=104)
    for job in ("full_pipeline", "retrain"):
        assert not [node.name for node in defs.resolve_job_def(job).nodes if node.name.startswith("freshness")]


def test_a_night_leaves_the_queue_before_the_rest_of_a_backfill():
    priority = {name: int(defs.resolve_job_def(name).run_tags.get("dagster/priority", 0)) for name in SELECTIONS}
    assert priority["nightly"] > priority["retrain"] > priority["full_pipeline"] == 0


def test_all_checks_block_but_the_ones_that_judge_quality(graph):
    not_blocking = {key.name for key in graph.asset_check_keys if not graph.get_check_spec(key).blocking}
    assert not_blocking == NOT_BLOCKING


def test_jobs_schedules_and_the_alert_sensor_are_there_and_described():
    repository = defs.get_repository_def()
    assert {"full_pipeline", "retrain", "nightly", "nightly_full"} <= set(repository.job_names)
    assert {s.name for s in repository.schedule_defs} == {"nightly_signals", "weekly_full_run", "quarterly_retraining"}
    sensor = repository.get_sensor_def("alerts")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    for item in [*repository.schedule_defs, sensor, *(repository.get_job(n) for n in ("nightly", "retrain"))]:
        assert item.description


def test_the_nightly_job_trains_nothing_and_retraining_makes_a_champion():
    for assets in (NIGHTLY_ASSETS, FULL_NIGHT_ASSETS):
        assert not set(assets) & PARTITIONED_ASSETS
        assert "champion_model" not in assets
        assert {"signals", "prediction_ledger", "signal_outcomes"} <= set(assets)
    assert "daily_bars" in FULL_NIGHT_ASSETS
    assert {"trained_model", "validation_report", "champion_model", "signals"} <= set(RETRAIN_ASSETS)


def test_the_quarter_key_exists_from_its_first_day_on():
    keys = as_of_partitions.get_partition_keys(current_time=dt.datetime(2026, 7, 1, 0, 1, tzinfo=dt.UTC))
    assert keys[0] == "2000-01-01"
    assert keys[-1] == "2026-07-01"
    assert keys[-2] == "2026-04-01"


@pytest.mark.parametrize("today, expected", [("2026-11-23", "2026-01-01"), ("2027-01-02", "2026-04-01")])
def test_retraining_takes_the_newest_quarter_whose_test_span_is_labelled(today, expected):
    assert newest_labelled_as_of(dt.date.fromisoformat(today), 3, 100) == expected
    # 100 sessions are about 145 calendar days: the end of the test span lies that far back.
    end = dt.date.fromisoformat(expected) + dt.timedelta(days=91)
    assert (dt.date.fromisoformat(today) - end).days > 145


def test_the_retraining_schedule_requests_that_partition(tmp_path, monkeypatch):
    monkeypatch.setattr("k4_pipeline.defs.retraining.too_little_data", lambda settings, as_of: "")
    resource = K4Resource.frozen(Settings(tmp_path))
    repository = build_defs({"k4": resource}).get_repository_def()
    schedule = repository.get_schedule_def("quarterly_retraining")
    context = dg.build_schedule_context(
        scheduled_execution_time=dt.datetime(2027, 1, 2, 5, tzinfo=dt.UTC),
        resources={"k4": resource},
        repository_def=repository,
    )
    result = schedule.evaluate_tick(context)
    assert [request.partition_key for request in result.run_requests] == ["2026-04-01"]


@pytest.mark.parametrize(
    "moment, runs",
    [
        ("2026-11-25T05:30", "2026-11-24"),  # winter: half past midnight in New York is 05:30 UTC
        ("2026-07-08T04:30", "2026-07-07"),  # summer: 04:30 UTC
        ("2026-11-27T05:30", None),  # after Thanksgiving
        ("2026-07-04T04:30", None),  # the holiday of a Saturday is kept on the Friday before
    ],
)
def test_the_nightly_schedule_follows_the_calendar_and_the_clock_of_the_exchange(moment, runs, tmp_path):
    resource = K4Resource.frozen(Settings(tmp_path))
    repository = build_defs({"k4": resource}).get_repository_def()
    schedule = repository.get_schedule_def("nightly_signals")
    when = dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC).astimezone(ZoneInfo(schedule.execution_timezone))
    assert (when.hour, when.minute) == (0, 30)
    context = dg.build_schedule_context(
        scheduled_execution_time=when, resources={"k4": resource}, repository_def=repository
    )
    made = schedule.evaluate_tick(context)
    assert [r.run_key for r in made.run_requests] == ([] if runs is None else [f"night-{runs}"])
    assert runs is not None or "had no session" in made.skip_message


@pytest.mark.parametrize("job, assets", [("nightly", NIGHTLY_ASSETS), ("nightly_full", FULL_NIGHT_ASSETS)])
def test_a_night_and_the_weekly_full_run_check_all_they_make(job, assets):
    made = defs.resolve_job_def(job)
    steps = [NodeHandle(name, None) for name in made.graph.node_dict]
    keys = {key for step in steps for key in made.asset_layer.get_selected_entity_keys_for_node(step)}
    checks = {key for key in keys if isinstance(key, dg.AssetCheckKey)}
    assert {key.asset_key.to_user_string() for key in checks} == set(assets)
    every = {key for key in defs.resolve_asset_graph().asset_check_keys if key.asset_key.to_user_string() in assets}
    assert checks == every


def test_east_of_greenwich_the_clock_is_utc_unless_a_bar_is_taken_after_the_close():
    # A bar of today waits for the next date in UTC; half past midnight in Tokyo would come too early for it.
    tokyo = CleaningConfig(default_exchange="XTKS")
    assert zone_of(tokyo) == zone_of(CleaningConfig(default_exchange="XLON")) == "UTC"
    assert zone_of(dataclasses.replace(tokyo, todays_bar="after_close")) == "Asia/Tokyo"
    assert zone_of(CleaningConfig(default_exchange="XTSE")) == "America/Toronto"


def test_retraining_without_data_is_skipped_with_the_reason(tmp_path):
    assert "no labelled snapshots" in too_little_data(Settings(tmp_path), "2026-01-01")


@pytest.mark.slow
def test_the_code_location_loads_fast_and_without_heavy_libraries():
    code = """
import time, sys
begin = time.process_time()
import k4_pipeline.definitions
heavy = {'torch', 'numba', 'sklearn', 'scipy', 'pandera', 'plotly', 'exchange_calendars', 'apprise'}
print(time.process_time() - begin, sorted(heavy & set(sys.modules)))
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, _, loaded = done.stdout.strip().splitlines()[-1].partition(" ")
    assert loaded == "[]"
    assert float(seconds) < 10.0, f"{seconds} s of CPU time; {time.monotonic() - began:.1f} s in all"


def test_resources_can_be_replaced(tmp_path):
    resource = K4Resource.frozen(Settings(tmp_path))
    replaced = build_defs({"k4": resource})
    assert replaced.resources["k4"].settings().home == tmp_path
