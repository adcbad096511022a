"""Tonight's signals from tonight's bars: what the nightly run, `k4 run` and the job in the UI all call.

A feature reads the bars of its own ticker alone, so only tickers with an open pattern get features, from their whole
history: a night costs what is open, not what is listed. The context compares the tickers of one date, so it is computed
for the last bar of every ticker. Both are equal, to the bit, to the rows that a full computation has there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from k4_pipeline.config import PipelineConfig
from k4_pipeline.features.context import N_CONTEXT, last_day_context
from k4_pipeline.features.panel import FeaturePanel
from k4_pipeline.market.bars import Bars
from k4_pipeline.patterns.snapshots import active_snapshots
from k4_pipeline.sequences.windows import index_sequences

Progress = Callable[[int, int], None] | None


@dataclass(frozen=True, eq=False)
class OpenPatterns:
    """The patterns open on the last day with all that a model reads of them; rows count in `bars`."""

    snapshots: pd.DataFrame
    bars: Bars  # of the tickers with an open pattern; of one ticker where none is open
    panel: FeaturePanel
    sequences: pd.DataFrame
    context: np.ndarray  # (len(bars), N_CONTEXT), NaN but on the snapshot bars


def open_patterns(bars: Bars, config: PipelineConfig, *, progress: Progress = None) -> OpenPatterns:
    """Find what is open at the close of the last day and compute its inputs."""
    found = active_snapshots(bars, config.patterns, progress=progress)
    part = bars.subset(found["ticker"] if len(found) else bars.tickers[:1])
    sequences = index_sequences(part, found)
    context = np.full((len(part), N_CONTEXT), np.nan, dtype=np.float32)
    if len(found):
        names, values = last_day_context(bars)
        place = {name: i for i, name in enumerate(names)}
        context[sequences["end_row"].to_numpy()] = values[[place[t] for t in found["ticker"]]]
    return OpenPatterns(found, part, FeaturePanel.from_bars(part), sequences, context)


def score_open(
    found: OpenPatterns, model_folder: Path, config: PipelineConfig, *, progress: Progress = None
) -> pd.DataFrame:
    """The predictions table of the open patterns under the model in `model_folder`."""
    from k4_pipeline.pipeline.model_files import score_snapshots  # brings torch

    return score_snapshots(
        model_folder,
        wanted=found.snapshots.assign(split="open"),
        sequences=found.sequences,
        panel=found.panel,
        context=found.context,
        config=config,
        progress=progress,
    )
