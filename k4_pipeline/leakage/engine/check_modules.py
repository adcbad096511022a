"""Imports every module that registers checks, in the order in which they are run: cheap and telling ones first."""

from __future__ import annotations

import importlib

MODULES = (
    "settings_checks",
    "source_checks",
    "rederived_checks",
    "page_checks",
    "split_checks",
    "label_checks",
    "calendar_checks",
    "rejection_checks",
    "input_checks",
    "scan_checks",
    "snapshot_file_checks",
    "prediction_checks",
    "report_checks",
    "metric_checks",
    "fitted_checks",
    "validation_independence",
    "handed_checks",
    "replay_at_cutoffs",
    "sealed_checks",
    "signal_checks",
    "serving_checks",
    "list_checks",
    "export_checks",
    "record_checks",
    "trading_checks",
    "replay_per_bar",
    "invariance",
    "bar_checks",
    "univariate_tests",
    "provenance",
    "extra_checks",
    "integrity_trials",
    "self_test",
)


def import_all() -> None:
    """Fill `audit.CHECKS`."""
    for name in MODULES:
        importlib.import_module(f"k4_pipeline.leakage.checks.{name}")
