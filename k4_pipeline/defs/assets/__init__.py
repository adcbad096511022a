"""All assets of the graph, one per file."""

from k4_pipeline.defs.assets.champion_model import champion_model
from k4_pipeline.defs.assets.context_features import context_features
from k4_pipeline.defs.assets.daily_bars import daily_bars
from k4_pipeline.defs.assets.dataset_split import dataset_split
from k4_pipeline.defs.assets.drift import drift
from k4_pipeline.defs.assets.labeled_snapshots import labeled_snapshots
from k4_pipeline.defs.assets.market_features import market_features
from k4_pipeline.defs.assets.night_bars import night_bars
from k4_pipeline.defs.assets.prediction_ledger import prediction_ledger
from k4_pipeline.defs.assets.predictions import predictions
from k4_pipeline.defs.assets.sequences import sequences
from k4_pipeline.defs.assets.signal_outcomes import signal_outcomes
from k4_pipeline.defs.assets.signals import signals
from k4_pipeline.defs.assets.snapshots import snapshots
from k4_pipeline.defs.assets.todays_list import todays_list
from k4_pipeline.defs.assets.trained_model import trained_model
from k4_pipeline.defs.assets.training_windows import training_windows
from k4_pipeline.defs.assets.validation_report import validation_report
from k4_pipeline.defs.assets.walk_forward_report import walk_forward_report

ASSETS = [
    daily_bars,
    night_bars,
    snapshots,
    labeled_snapshots,
    market_features,
    sequences,
    context_features,
    training_windows,
    dataset_split,
    trained_model,
    predictions,
    validation_report,
    walk_forward_report,
    champion_model,
    signals,
    prediction_ledger,
    drift,
    signal_outcomes,
    todays_list,
]

__all__ = ["ASSETS"]
