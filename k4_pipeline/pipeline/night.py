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

from k4_pipeline.config import KEYS, PipelineConfig
from k4_pipeline.evaluation.screen import screened
from k4_pipeline.evaluation.signal_table import signal_rows
from k4_pipeline.features.context import N_CONTEXT, last_day_context
from k4_pipeline.features.panel import FeaturePanel
from k4_pipeline.market.bars import Bars
from k4_pipeline.patterns.snapshots import active_snapshots
from k4_pipeline.pipeline.second_process import apart
from k4_pipeline.pipeline.stored_bars import night_of
from k4_pipeline.sequences.windows import index_sequences

Progress = Callable[[int, int], None] | None


@dataclass(frozen=True, eq=False)
class OpenPatterns:
    """The patterns open on the last day with what a model reads of them; rows count in `bars`."""

    snapshots: pd.DataFrame
    bars: Bars  # of the tickers with an open pattern; of one ticker where none is open
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
    return OpenPatterns(found, part, sequences, context)


def inputs_of_open(found: OpenPatterns, panel: FeaturePanel, model_folder: Path) -> pd.DataFrame:
    """What a model reads of the last bar of each open pattern: KEYS, pattern_id, then `TABULAR_NAMES`, float32."""
    from k4_pipeline.pipeline.members import rows_of
    from k4_pipeline.pipeline.sources import Rows
    from k4_pipeline.pipeline.tabular import TABULAR_NAMES
    from k4_pipeline.sequences.assemble import SequenceIndex
    from k4_pipeline.sequences.standardisation import Scaler
    from k4_pipeline.training.checkpoint import read_meta

    scaler = Scaler.from_json(read_meta(model_folder)["scaler_json"])
    rows, keys = rows_of(found.sequences, found.snapshots[[*KEYS, "pattern_id"]])
    index = SequenceIndex.from_frame(found.sequences, panel.close)
    values = Rows(panel.values, index, rows, scaler, context=found.context).tabular()
    return pd.concat([keys, pd.DataFrame(values, columns=list(TABULAR_NAMES))], axis=1)


def champion_too_old(as_of: str, night: str, config: PipelineConfig) -> str:
    """Why a champion of `as_of` gives no signals in that night; "" while it may."""
    age, limit = (pd.Timestamp(night) - pd.Timestamp(as_of)).days, config.serving.champion_max_age_days
    if age <= limit:
        return ""
    return (
        f"the champion is of {as_of}, {age} days before {night}; past {limit} days "
        "(serving.champion_max_age_days) it gives "
        "no signals: train a new one with `k4 run`"
    )


def score_open(
    found: OpenPatterns, model_folder: Path, config: PipelineConfig, *, progress: Progress = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The predictions table of the open patterns under the model in `model_folder`, and `inputs_of_open`."""
    from k4_pipeline.pipeline.model_files import score_snapshots  # brings torch

    panel = FeaturePanel.from_bars(found.bars)
    scored = score_snapshots(
        model_folder,
        wanted=found.snapshots.assign(split="open"),
        sequences=found.sequences,
        panel=panel,
        context=found.context,
        config=config,
        progress=progress,
    )
    return scored, inputs_of_open(found, panel, model_folder)


@dataclass(frozen=True, eq=False)
class NightSignals:
    """`table` as evaluation/signal_table.py makes it; `inputs` of the same rows; `none_because` where none may be
    given."""

    table: pd.DataFrame
    inputs: pd.DataFrame
    none_because: str = ""


def signals_of_night(
    bars: Bars,
    model_folder: Path,
    as_of: str,
    config: PipelineConfig,
    progress: Callable[[str], Progress] = lambda text: None,
) -> NightSignals:
    """Every pattern open on the last day, scored by the champion in `model_folder`, refused or left out where due."""
    from k4_pipeline.pipeline.reference import Reference

    why = champion_too_old(as_of, night_of(bars), config)
    found = open_patterns(bars, config, progress=progress("finding open patterns"))
    scored, inputs = apart(score_open, found, model_folder, config, progress=progress("scoring"))
    reference = Reference.read(model_folder)
    beside = inputs[KEYS].assign(refused=pd.Series("", index=inputs.index, dtype="str"))
    if reference is not None and config.serving.refuse_outside and len(inputs):
        rows = inputs[list(reference.names)].to_numpy(dtype=np.float32)
        beside["refused"] = pd.Series(reference.refusals(rows), index=inputs.index, dtype="str")
    beside = pd.concat([beside, screened(found.bars, inputs["ticker"].tolist(), config.serving)], axis=1)
    table = signal_rows(found.snapshots, scored, as_of, stop_loss=config.labels.stop_loss, beside=beside)
    if why:
        return NightSignals(table.iloc[:0], inputs.iloc[:0], why)
    return NightSignals(table, inputs)
