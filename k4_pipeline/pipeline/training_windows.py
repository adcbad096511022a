"""The `training_windows` table: labelled windows with the row numbers and geometry of their sequences."""

from __future__ import annotations

import pandas as pd

from k4_pipeline.config import PipelineConfig
from k4_pipeline.market.bars import Bars, DayLike
from k4_pipeline.patterns import training_windows
from k4_pipeline.sequences import windows

LABEL_COLUMNS = ["outcome_class", "label_end_date", "censored", "label_bars"]


def index_windows(bars: Bars, config: PipelineConfig, *, data_end: DayLike | None = None) -> pd.DataFrame:
    """One row per window whose label is known: the columns of `sequences`, then those of its label.

    `data_end` is the last day of the universe where `bars` are a part of it.

    Nothing of a window is stored but where its bars lie: the tensor is assembled when a batch is read.
    """
    made = training_windows.make_training_windows(
        bars,
        config.windows,
        config.patterns,
        config.labels,
        default_exchange=config.cleaning.default_exchange,
        data_end=data_end,
    )
    table = windows.index_sequences(bars, made)
    table[LABEL_COLUMNS] = made[LABEL_COLUMNS]
    return table
