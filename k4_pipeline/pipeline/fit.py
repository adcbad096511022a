"""Fitting one as-of date and scoring with what was fitted: scaler, weights, calibrator. No file, no Dagster.

The assets and the leakage audit both go through here, so that what the audit fits again is what production fits. Steps
are called through their modules (`loop.train`, never a name imported from it): an edited function is seen by both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from k4_pipeline.config import PipelineConfig
from k4_pipeline.evaluation import calibration, predict_table
from k4_pipeline.pipeline.members import KEYS, member_of, seen
from k4_pipeline.pipeline.tables import Stored
from k4_pipeline.sequences import dataset, scaler
from k4_pipeline.sequences.assemble import SequenceIndex
from k4_pipeline.training import loop
from k4_pipeline.training import predict as prediction
from k4_pipeline.training.resume import Resume

Progress = Callable[[int, int], None] | None
PREDICTED_KEYS = ["ticker", "pattern_id", "start_date", "snapshot_date", "split"]


@dataclass(frozen=True)
class Candidate:
    """A trained and calibrated model, with what it records of the rows it saw."""

    training: Any  # training.loop.TrainResult
    calibrator: calibration.Calibrator
    seen: dict[str, Any]
    handed: dict[str, pd.DataFrame]  # by member: keys and label_end_date of every row that was handed to a fit


def member_dataset(
    tables: Stored, name: str, fitted_scaler: scaler.Scaler
) -> tuple[dataset.SequenceDataset, pd.DataFrame]:
    """The rows of one member as the training code reads them (every one needs a known class), and their split rows."""
    rows, table = member_of(tables.split, tables.sequences, name)
    y = table["outcome_class"].to_numpy(dtype=np.int64)
    weights = table["weight"].to_numpy(dtype=np.float32)
    data = dataset.SequenceDataset(tables.panel, tables.index, rows, fitted_scaler, targets=y, weights=weights)
    return data, table


def fit(
    tables: Stored,
    fitted_scaler: scaler.Scaler,
    config: PipelineConfig,
    *,
    progress: Progress = None,
    resume: Resume | None = None,
) -> Candidate:
    """Weights on the train rows, stopped early on the validation rows, calibrator on the validation rows.

    Test rows are never read. With `resume` a fit that was killed goes on where it was, to the same bits.
    """
    train_set, train_table = member_dataset(tables, "train", fitted_scaler)
    validation_set, validation_table = member_dataset(tables, "validation", fitted_scaler)
    result = loop.train(
        config.model, config.training, config.loss, train_set, validation_set, progress=progress, resume=resume
    )
    p_raw = prediction.predict_probabilities(result.model, validation_set)
    y = validation_table["outcome_class"].to_numpy(dtype=np.int64)
    calibrator = calibration.fit_calibrator(p_raw, y, keys=validation_table[KEYS])
    given = {"train": train_table, "validation": validation_table}
    return Candidate(
        result,
        calibrator,
        seen={name: seen(table) for name, table in given.items()},
        handed={name: table[[*KEYS, "label_end_date"]] for name, table in given.items()},
    )


def score(
    keys: pd.DataFrame,
    rows: np.ndarray,
    *,
    panel: np.ndarray,
    index: SequenceIndex,
    fitted_scaler: scaler.Scaler,
    model: nn.Module,
    calibrator: calibration.Calibrator,
    config: PipelineConfig,
    progress: Progress = None,
) -> pd.DataFrame:
    """The predictions table of the sequence `rows` (n,); `keys` (n rows, `PREDICTED_KEYS`) in the same order."""
    data = dataset.SequenceDataset(panel, index, rows, fitted_scaler)
    p_raw = prediction.predict_probabilities(model, data, progress=progress)
    return predict_table.build_predictions(keys[PREDICTED_KEYS], p_raw, calibrator, config.signals)
