"""The stored tables that a fit reads, and the scaler, which is fitted when the split is made, before any model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS, PipelineConfig
from k4_pipeline.pipeline.members import member_of
from k4_pipeline.sequences import scaler
from k4_pipeline.sequences.assemble import SequenceIndex


@dataclass(frozen=True)
class Stored:
    """The tables a fit reads: membership, sequences (row i of `index` is row i of them) and the feature panel."""

    split: pd.DataFrame
    sequences: pd.DataFrame
    panel: np.ndarray  # (n_bars, 55) float32
    index: SequenceIndex
    context: np.ndarray | None = None  # (n_bars, N_CONTEXT) float32, one row per row of `panel`
    windows: pd.DataFrame | None = None  # the `training_windows` table
    as_of: str = ""


def fit_scaler(tables: Stored, config: PipelineConfig) -> scaler.Scaler:
    """The scaler of the train rows, and of no other row."""
    rows, table = member_of(tables.split, tables.sequences, "train")
    return scaler.fit_scaler(tables.panel, tables.index, rows, config.scaler, keys=table[KEYS])
