"""What every baseline, and on a simulated market the truth, says of the test rows of one as-of date."""

from __future__ import annotations

import functools
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS, SPLIT_NAMES, LossConfig, PipelineConfig, SimulationConfig, TrainConfig
from k4_pipeline.evaluation import calibration
from k4_pipeline.evaluation.baselines import Task, score_all
from k4_pipeline.evaluation.scores import BEST_POSSIBLE, Scores, score_columns
from k4_pipeline.evaluation.volatility import WINDOWS, volatility_at
from k4_pipeline.market.bars import Bars
from k4_pipeline.pipeline import fit as candidate
from k4_pipeline.pipeline.members import align, member_of
from k4_pipeline.pipeline.sources import Rows
from k4_pipeline.pipeline.tables import Stored
from k4_pipeline.pipeline.tabular import tabular_inputs
from k4_pipeline.progress import Progress
from k4_pipeline.sequences.assemble import END
from k4_pipeline.sequences.standardisation import Scaler
from k4_pipeline.training import loop, predict as prediction
from k4_pipeline.training.seeding import resolve_device
from k4_pipeline.training.source import BatchSource

TRAIN, VALIDATION, TEST = SPLIT_NAMES
SEQUENCE_EPOCHS = 8


def baseline_table(
    tables: Stored,
    fitted_scaler: Scaler,
    config: PipelineConfig,
    bars: Bars,
    labeled: pd.DataFrame,
    *,
    context: np.ndarray | None = None,
    names: tuple[str, ...] | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row per test snapshot: keys, volatility of 20, 60 and 250 bars, and each method's score and probabilities.

    Learned is from the train and validation rows; the class of a test row is never read. `context` (n_bars, k) is
    computed when it is not given; `names`: the baselines wanted, all by default. `labeled` is read for the boundaries
    of the snapshots that the simulation is continued from.
    """
    at = {name: member_of(tables.split, tables.sequences, name) for name in SPLIT_NAMES}
    known = np.concatenate([at[TRAIN][0], at[VALIDATION][0]])
    wanted, keys = at[TEST]
    y = np.concatenate([at[name][1]["outcome_class"].to_numpy(np.int64) for name in (TRAIN, VALIDATION)])
    ends = tables.index.rows[:, END]
    volatility = {
        bars_back: (volatility_at(bars, ends[known], bars_back), volatility_at(bars, ends[wanted], bars_back))
        for bars_back in WINDOWS
    }

    def tabular() -> tuple[np.ndarray, np.ndarray]:
        from k4_pipeline.features.context import compute_context

        of_bars = compute_context(bars) if context is None else context
        both = tabular_inputs(tables.panel, tables.index, np.concatenate([known, wanted]), of_bars)[0]
        return both[: len(known)], both[len(known) :]

    task = Task(
        y, len(wanted), volatility, tabular, lambda kind: _sequence(kind, tables, fitted_scaler, config, wanted)
    )
    table = keys[KEYS].reset_index(drop=True)
    for bars_back in WINDOWS:
        table[f"volatility_{bars_back}"] = volatility[bars_back][1]
    parts = [score_columns(name, scores) for name, scores in score_all(task, names, progress).items()]
    best = best_possible(config, keys, labeled)
    if best is not None:
        parts.append(score_columns(BEST_POSSIBLE, best))
    return pd.concat([table, *parts], axis=1)


def _sequence(
    architecture: str, tables: Stored, fitted_scaler: Scaler, config: PipelineConfig, wanted: np.ndarray
) -> np.ndarray:
    """Calibrated probabilities (n, 6) of a plain network of that architecture: cross-entropy, stopped on its loss."""
    device = resolve_device(config.training.device)
    panel = candidate.panel_on(device, tables.panel)

    def rows_of(name: str) -> tuple[BatchSource, pd.DataFrame]:
        rows, table = member_of(tables.split, tables.sequences, name)
        found = candidate.rows_for(tables, rows, table, fitted_scaler, context=False)  # the sequence alone
        return found.source(architecture, device, panel), table

    train_set, _ = rows_of(TRAIN)
    validation_set, table = rows_of(VALIDATION)
    training = TrainConfig(
        seed=config.training.seed,
        epochs=SEQUENCE_EPOCHS,
        patience=2,
        monitor="loss",
        device=config.training.device,
    )
    loss = LossConfig(gamma_neg=0.0, label_smoothing=0.0, class_weights=(1.0,) * 6)
    model = replace(config.model, architecture=architecture)  # type: ignore[arg-type]
    try:
        fitted = loop.train(model, training, loss, train_set, validation_set).model
    except loop.TrainingDivergedError as problem:
        if device.type == "cpu":
            raise
        warnings.warn(f"the {architecture} of the baselines is trained again on the CPU: {problem}", stacklevel=2)
        on_cpu = replace(config, training=replace(config.training, device="cpu"))
        return _sequence(architecture, tables, fitted_scaler, on_cpu, wanted)
    y = table["outcome_class"].to_numpy(np.int64)
    held = prediction.predict_probabilities(fitted, validation_set)
    calibrator = calibration.fit_calibrator(held, y, keys=table[KEYS], method="level")
    data = Rows(tables.panel, tables.index, wanted, fitted_scaler).source(architecture, device, panel)
    return calibrator.transform(prediction.predict_probabilities(fitted, data))


@functools.lru_cache(maxsize=1)
def _truth(simulation: SimulationConfig) -> Any:
    from k4_pipeline.market.sources.simulated import simulate_with_truth

    return simulate_with_truth(simulation)[1]


def simulated_truth(config: PipelineConfig) -> Any:
    """The hidden side of the simulated market; None where the bars were not simulated here."""
    if config.source.source != "simulated" or config.source.snapshots_path:
        return None
    return _truth(config.simulation)


def best_possible(config: PipelineConfig, keys: pd.DataFrame, labeled: pd.DataFrame) -> Scores | None:
    """The true class probabilities of simulated snapshots; None where the bars were not simulated here."""
    truth = simulated_truth(config)
    if truth is None or not len(keys):
        return None
    from k4_pipeline.evaluation.truth import true_class_probabilities

    boxes = keys[KEYS].reset_index(drop=True)
    boxes[["upper", "lower"]] = align(boxes, labeled, ["upper", "lower"])
    return Scores.of(true_class_probabilities(truth, boxes, config.labels))
