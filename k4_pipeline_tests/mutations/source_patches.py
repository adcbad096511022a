"""Leaks as patches of the source, by the kind of mistake or deceit; and clean variants that must raise no alarm.

An edit is (file below the package, text, text instead); the text stands in the file exactly once, which a test checks.
"""

from __future__ import annotations

from k4_pipeline_tests.mutations import (
    patches_of_data,
    patches_of_fits,
    patches_of_functions,
    patches_of_reports,
    patches_of_results,
    patches_of_sources,
)
from k4_pipeline_tests.mutations.patch_tools import CleanVariant, Edit, SourceLeak

__all__ = ["CLEAN", "LEAKS", "CleanVariant", "Edit", "SourceLeak"]

PATCHES = (
    *patches_of_data.LEAKS,
    *patches_of_results.LEAKS,
    *patches_of_fits.LEAKS,
    *patches_of_reports.LEAKS,
    *patches_of_sources.LEAKS,
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
)
