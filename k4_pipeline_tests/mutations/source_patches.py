"""Leaks as patches of the source, by the kind of mistake or deceit; and clean variants that must raise no alarm.

An edit is (file below the package, text, text instead); the text stands in the file exactly once, which a test checks.
"""

from __future__ import annotations

from k4_pipeline_tests.mutations import (
    patches_held_out,
    patches_of_data,
    patches_of_fits,
    patches_of_functions,
    patches_of_reports,
    patches_of_results,
    patches_of_sources,
    patches_red_team,
)
from k4_pipeline_tests.mutations.patch_tools import CleanVariant, Edit, SourceLeak

__all__ = ["CLEAN", "LEAKS", "CleanVariant", "Edit", "SourceLeak"]

PATCHES = (
    *patches_of_data.LEAKS,
    *patches_of_results.LEAKS,
    *patches_of_fits.LEAKS,
    *patches_of_reports.LEAKS,
    *patches_of_sources.LEAKS,
    *patches_held_out.LEAKS,
    *patches_red_team.LEAKS,
)
LEAKS = (*PATCHES, *patches_of_functions.LEAKS)

CLEAN = (
    CleanVariant("as_it_is"),
    CleanVariant("another_seed", ("--seed", "5")),
    CleanVariant("bf16", ("--set", "training.precision=bf16")),
    CleanVariant("null_world", ("--world", "null", "--tickers", "16", "--bars", "760")),
    CleanVariant("simulated", ("--world", "squeeze", "--tickers", "16", "--bars", "760")),
    CleanVariant("bilstm", ("--architecture", "bilstm")),
    CleanVariant("tiny", ("--preset", "tiny")),
    CleanVariant("loss_monitor", ("--set", "training.monitor=loss")),
    CleanVariant("recall_monitor", ("--set", "training.monitor=k4_recall")),
    CleanVariant("weights", ("--set", "split.weight_by_uniqueness=true")),
    CleanVariant("first_breach", ("--labeling", "first_breach")),
    CleanVariant("on_closes", ("--set", "labels.measured_on=close")),
    CleanVariant("train_years", ("--set", "split.train_years=1")),
    CleanVariant("long_embargo", ("--set", "split.embargo_days=20")),
    CleanVariant("short_test", ("--test-months", "3")),
    CleanVariant("more_snapshots", ("--set", "patterns.sample_probability=0.6")),
    CleanVariant("small_batches", ("--set", "training.batch_size=32")),
    CleanVariant("six_tickers", ("--set", "source.tickers=SIM0000,SIM0001,SIM0002,SIM0003,SIM0004,SIM0005")),
    CleanVariant("third_seed", ("--seed", "11")),
    CleanVariant("fast_recipe", ("--model-preset", "fast")),
    CleanVariant("original_recipe", ("--model-preset", "original")),
    CleanVariant("more_draws", ("--set", "integrity.bootstrap_draws=40")),
    CleanVariant("other_sampling", ("--set", "patterns.sampling_seed=3")),
    CleanVariant("half_for_stopping", ("--set", "recipe.stopping_frac=0.5")),
    CleanVariant("no_refit", ("--set", "recipe.refit=false", "--set", "recipe.average_refit=false")),
    CleanVariant("no_context", ("--set", "recipe.context=false", "--set", "recipe.members=network")),
    CleanVariant("two_seeds", ("--set", "recipe.seeds=2")),
    CleanVariant("trees_and_logit", ("--set", "recipe.members=extra_trees,logit")),
    CleanVariant("no_average_of_weights", ("--set", "training.ema_decay=0")),
    CleanVariant("narrow_clip", ("--set", "scaler.clip_sigmas=4")),
    CleanVariant("unbalanced", ("--set", "loss.balance=none")),
    CleanVariant("quick_deaths", ("--set", "labels.delisted_after_sessions=5")),
    CleanVariant("strict_ranges", ("--set", "cleaning.range_tolerance=0")),
    CleanVariant("no_embargo", ("--set", "split.embargo_days=0")),
    CleanVariant("six_months_of_test", ("--test-months", "6")),
    CleanVariant("more_windows", ("--set", "windows.density=0.5", "--set", "windows.min_history_bars=150")),
    CleanVariant("easy_tiers", ("--set", "tiers.confidence=0.8", "--set", "recipe.min_train_k4=1")),
    CleanVariant("longer_lists", ("--set", "trading.list_frac=0.2")),
    CleanVariant("one_ticker_less", ("--set", "split.validation_months=8")),
    CleanVariant("pattern_lives_shorter", ("--set", "patterns.max_active_bars=20")),
)
