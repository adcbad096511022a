"""Names of the asset graph: what is partitioned, which group each asset belongs to, in what order things are made."""

from __future__ import annotations

ASSET_ORDER = (
    "daily_bars",
    "snapshots",
    "labeled_snapshots",
    "market_features",
    "sequences",
    "context_features",
    "training_windows",
    "dataset_split",
    "trained_model",
    "predictions",
    "validation_report",
    "walk_forward_report",
    "champion_model",
    "signals",
    "prediction_ledger",
    "drift",
    "signal_outcomes",
    "todays_list",
)
PARTITIONED_ASSETS = frozenset({"dataset_split", "trained_model", "predictions", "validation_report"})
GROUPS = {
    "daily_bars": "market",
    "night_bars": "market",
    "snapshots": "patterns",
    "labeled_snapshots": "patterns",
    "market_features": "features",
    "sequences": "features",
    "context_features": "features",
    "training_windows": "patterns",
    "dataset_split": "training",
    "trained_model": "training",
    "predictions": "evaluation",
    "validation_report": "evaluation",
    "walk_forward_report": "evaluation",
    "champion_model": "serving",
    "signals": "serving",
    "prediction_ledger": "serving",
    "drift": "serving",
    "signal_outcomes": "serving",
    "todays_list": "serving",
}
# The champion is frozen and not among them; fresh labels are there for whoever looks, nothing is trained on them.
FULL_NIGHT_ASSETS = (
    "daily_bars",
    "snapshots",
    "labeled_snapshots",
    "market_features",
    "sequences",
    "context_features",
    "signals",
    "prediction_ledger",
    "drift",
    "signal_outcomes",
    "todays_list",
)
# What is new since the last full run, and nothing else.
NIGHTLY_ASSETS = ("night_bars", "signals", "prediction_ledger", "drift", "signal_outcomes", "todays_list")
RETRAIN_ASSETS = tuple(name for name in ASSET_ORDER if name != "walk_forward_report")
