"""Fitting one as-of date and scoring with what was fitted: scaler, members, calibrator. No file, no Dagster.

The assets and the leakage audit both go through here, so that what the audit fits again is what production fits. Steps
are called through their modules (`ensemble.fit_network`, never a name imported from it): an edited function is seen by
both.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from k4_pipeline.config import K4, KEYS, N_CLASSES, SPLIT_NAMES, PipelineConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.evaluation import calibration, predict_table, tiers
from k4_pipeline.features.context import MARKET_MEANS
from k4_pipeline.market.bars import to_days
from k4_pipeline.models.ensemble import TABULAR_KINDS, Ensemble, TextModel
from k4_pipeline.patterns import sampling
from k4_pipeline.pipeline import ensemble
from k4_pipeline.pipeline.members import member_of, rows_of, seen
from k4_pipeline.pipeline.sources import Rows
from k4_pipeline.pipeline.tables import Stored
from k4_pipeline.progress import Progress
from k4_pipeline.sequences import dataset, scaler
from k4_pipeline.sequences.assemble import SequenceIndex
from k4_pipeline.splits import walk_forward
from k4_pipeline.splits.boundaries import SplitBoundaries
from k4_pipeline.training import predict as prediction
from k4_pipeline.training.resume import Resume
from k4_pipeline.training.seeding import resolve_device

ONCE = ("gradient_boosting",)  # fitted on the train rows alone: a refit made it worse
PREDICTED_KEYS = ["ticker", "pattern_id", "start_date", "snapshot_date", "split"]


@dataclass(frozen=True)
class Candidate:
    """A trained and calibrated model, with what it records of the rows it saw."""

    model: Ensemble
    calibrator: calibration.Calibrator
    members: list[dict[str, Any]]  # one record per member, as validation saw it
    class_counts: list[int]  # of the train rows
    seen: dict[str, Any]
    handed: dict[str, pd.DataFrame]  # by member: keys and label_end_date of every row that was handed to a fit
    p_calibration: pd.DataFrame  # rows no member was fitted or stopped on: keys, class, p_raw_0 .. p_raw_5
    certificates: tiers.Certificates  # what those rows prove of the validated members
    device: str
    seconds: float

    @property
    def lead(self) -> dict[str, Any]:
        """The record of the first network; of the first member where there is none."""
        return lead_of(self.members)


def lead_of(members: list[dict[str, Any]]) -> dict[str, Any]:
    """The first member with a history, else the first."""
    return next((m for m in members if m.get("history")), members[0])


def rows_for(
    tables: Stored,
    rows: np.ndarray,
    table: pd.DataFrame,
    fitted_scaler: scaler.Scaler,
    *,
    context: bool,
    market: bool = True,
) -> Rows:
    """Rows of the sequence table, which all need a known class, with the columns of their split rows."""
    return Rows(
        tables.panel,
        tables.index,
        rows,
        fitted_scaler,
        table["outcome_class"].to_numpy(dtype=np.int64),
        table["weight"].to_numpy(dtype=np.float32),
        tables.context if context else None,
        () if market else MARKET_MEANS,
    )


def member_dataset(
    tables: Stored, name: str, fitted_scaler: scaler.Scaler
) -> tuple[dataset.SequenceDataset, pd.DataFrame]:
    """The rows of one member of the split as the training code reads them, and their split rows."""
    rows, table = member_of(tables.split, tables.sequences, name)
    return rows_for(tables, rows, table, fitted_scaler, context=tables.context is not None).sequences(), table


def panel_on(device: torch.device, panel: np.ndarray) -> torch.Tensor | None:
    """The panel as a tensor on a GPU, to be shared by every set of rows; None on a CPU, where it is read as it is."""
    return None if device.type == "cpu" else torch.tensor(np.asarray(panel), device=device)


def for_stopping(table: pd.DataFrame, frac: float) -> np.ndarray:
    """Rows (n,) bool of a validation table that early stopping looks at: whole tickers, chosen by the hash of the name.

    The others are for the calibrator. With `frac` 1 all rows are for both, with 0 none is for stopping.
    """
    if frac >= 1.0:
        return np.ones(len(table), dtype=bool)
    names, codes = np.unique(table["ticker"].to_numpy(dtype=object), return_inverse=True)
    share = np.array([int(hashlib.sha256(str(n).encode()).hexdigest()[:8], 16) / 16**8 for n in names])
    return (share < frac)[codes]


def calibration_rows(table: pd.DataFrame, frac: float) -> np.ndarray:
    """Rows (n,) bool of a validation table that the calibrator is fitted on."""
    stopping = for_stopping(table, frac)
    return stopping if frac >= 1.0 or stopping.all() else ~stopping


def _windows(
    tables: Stored, fitted_scaler: scaler.Scaler, config: PipelineConfig, day: int, bounds: SplitBoundaries
) -> tuple[Rows | None, pd.DataFrame | None]:
    """The windows known before `day`, at most `windows.max_rows` of them, and their rows of the table."""
    if not config.recipe.pretrain_epochs:
        return None, None
    if tables.windows is None:
        raise ConfigError("recipe.pretrain_epochs needs the training windows; materialize training_windows")
    table = tables.windows
    known = np.flatnonzero(walk_forward.known_before(table, day, bounds))
    tickers = table["ticker"].to_numpy(dtype=object)[known]
    days = to_days(table["snapshot_date"].to_numpy())[known]
    rows = sampling.thinned(config.windows.seed, tickers, days, known, config.windows.max_rows)
    found = Rows(
        tables.panel,
        SequenceIndex.from_frame(table, tables.index.close),
        rows,
        fitted_scaler,
        table["outcome_class"].to_numpy(dtype=np.int64, na_value=-1)[rows],
        None,
        tables.context if config.recipe.context else None,
        () if config.recipe.market_context else MARKET_MEANS,
    )
    return found, table.iloc[rows]


def _refit_table(tables: Stored, config: PipelineConfig, bounds: SplitBoundaries) -> pd.DataFrame:
    """The split rows known at as_of, with the weights of a train set that holds them all."""
    table = tables.split.copy()
    chosen = walk_forward.known_at_as_of(table, bounds)
    table["split"] = np.where(chosen, SPLIT_NAMES[0], "excluded")
    table["weight"] = walk_forward.train_weights(table, config.split)
    return table[chosen]


def fit(
    tables: Stored,
    fitted_scaler: scaler.Scaler,
    config: PipelineConfig,
    *,
    progress: Progress | None = None,
    resume: Resume | None = None,
) -> Candidate:
    """The members on the train rows, stopped on validation rows; the calibrator on the other validation rows; with
    `recipe.refit` the networks once more on every row known at as_of.

    Test rows are never read. With `resume` a fit that was killed goes on where it was, to the same bits.
    """
    begin, recipe = time.perf_counter(), config.recipe
    train_rows, train_table = member_of(tables.split, tables.sequences, SPLIT_NAMES[0])
    rows, validation_table = member_of(tables.split, tables.sequences, SPLIT_NAMES[1])
    use = {"context": recipe.context, "market": recipe.market_context}
    train_set = rows_for(tables, train_rows, train_table, fitted_scaler, **use)
    stopping = for_stopping(validation_table, recipe.stopping_frac)
    stop_set = None
    if stopping.any():
        stop_set = rows_for(tables, rows[stopping], validation_table[stopping], fitted_scaler, **use)
    plan = ensemble.planned(config)
    turns = iter(ensemble.shares(progress, len(plan) * (1 + recipe.refit)))
    device = resolve_device(config.training.device)
    panel = panel_on(device, tables.panel)
    handed = {"train": train_table, "validation": validation_table}
    bounds = SplitBoundaries.of(tables.as_of, config.split) if recipe.pretrain_epochs or recipe.refit else None
    windows, taken = (
        (None, None) if bounds is None else _windows(tables, fitted_scaler, config, bounds.train_end, bounds)
    )
    if taken is not None:
        handed["windows"] = taken

    first: list[ensemble.Member] = []
    for kind, seed in plan:
        turn = next(turns)
        if kind in TABULAR_KINDS:
            first.append(ensemble.fit_tabular(kind, seed, config, train_set, windows))
            if turn is not None:
                turn(1, 1)
        else:
            first.append(
                ensemble.fit_network(
                    kind,
                    seed,
                    config,
                    train_set,
                    windows,
                    stop_set,
                    panel=panel,
                    progress=turn,
                    resume=None if resume is None else resume.phase(f"{kind}-{seed}".replace("_", "-")),
                )
            )
    kinds, members = [m.kind for m in first], [m.module for m in first]
    model = Ensemble(kinds, members, config=config.model)
    if recipe.refit and any(kind not in ONCE for kind in kinds):
        assert bounds is not None
        table = _refit_table(tables, config, bounds)
        again_rows, table = rows_of(tables.sequences, table)
        again_set = rows_for(tables, again_rows, table, fitted_scaler, **use)
        windows, taken = _windows(tables, fitted_scaler, config, bounds.as_of, bounds)
        handed["refit"] = table
        if taken is not None:
            handed["refit windows"] = taken
        final: list[nn.Module] = []
        for member in first:
            turn = next(turns)
            if isinstance(member.module, TextModel):
                again = TextModel(member.kind, member.module.fitted().to_json())
                if member.kind not in ONCE:
                    seed = int(member.record["seed"])
                    again = ensemble.fit_tabular(member.kind, seed, config, again_set, windows).module  # type: ignore[assignment]
                final.append(again)
                if turn is not None:
                    turn(1, 1)
                continue
            epochs, seed = int(member.record["best_epoch"]), int(member.record["seed"])
            made = ensemble.fit_network(
                member.kind,
                seed,
                config,
                again_set,
                windows,
                None,
                epochs=epochs,
                panel=panel,
                progress=turn,
                resume=None if resume is None else resume.phase(f"{member.kind}-{seed}-refit".replace("_", "-")),
            )
            final.append(made.module)
        model = Ensemble(kinds, final, members, config.model, both=recipe.average_refit)
    model.eval()
    held = calibration_rows(validation_table, recipe.stopping_frac)
    held_rows, held_table = rows[held], validation_table[held].reset_index(drop=True)
    held_set = rows_for(tables, held_rows, held_table, fitted_scaler, **use).sequences()
    # on the CPU, as predictions are made every night and as the audit fits the calibrator again, bit for bit
    p_raw = prediction.predict_probabilities(model.validated(), held_set, device="cpu")
    model.to(device)
    y = held_table["outcome_class"].to_numpy(dtype=np.int64)
    calibrator = calibration.fit_calibrator(p_raw, y, keys=held_table[KEYS], method=recipe.calibration)
    columns = {f"p_raw_{i}": p_raw[:, i].astype(np.float64) for i in range(N_CLASSES)}
    kept = held_table[[*KEYS, "pattern_id", "label_end_date", "outcome_class"]].assign(**columns)
    counts = np.bincount(train_set.targets, minlength=N_CLASSES).tolist()  # type: ignore[arg-type]
    certificates = certified(kept, calibrator, counts, config, unseen=recipe.stopping_frac < 1.0)
    return Candidate(
        model,
        calibrator,
        members=[m.record for m in first],
        class_counts=counts,
        seen={name: seen(table) for name, table in handed.items()},
        handed={name: table[[*KEYS, "label_end_date"]] for name, table in handed.items()},
        p_calibration=kept,
        certificates=certificates,
        device=str(device),
        seconds=time.perf_counter() - begin,
    )


def certified(
    held: pd.DataFrame,
    calibrator: calibration.Calibrator,
    class_counts: list[int],
    config: PipelineConfig,
    *,
    unseen: bool,
) -> tiers.Certificates:
    """The tiers that the calibration rows prove, from the scores of the members as validation saw them.

    Nothing is certified on rows that early stopping looked at (`unseen` False).
    """
    if not unseen:
        why = (
            "No tier: early stopping looked at every validation row (recipe.stopping_frac 1), so none was left unseen."
        )
        return tiers.Certificates.none(why)
    p = calibrator.transform(held[list(predict_table.RAW_COLUMNS)].to_numpy())
    return tiers.certificates(held, p[:, K4], class_counts, config.tiers, min_train_k4=config.recipe.min_train_k4)


def too_few_k4(class_counts: list[int], config: PipelineConfig) -> str:
    """Why nothing above AVOID may be said, in a sentence; "" when the model saw enough K4 rows."""
    count, least = int(class_counts[K4]), config.recipe.min_train_k4
    if count >= least:
        return ""
    return (
        f"The model saw {count} K4 rows in training; {least} are needed (recipe.min_train_k4), so it gives no tier "
        "above AVOID and replaces no champion."
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
    context: np.ndarray | None = None,
    certificates: Sequence[tiers.Certificate] = (),
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The predictions table of the sequence `rows` (n,); `keys` (n rows, `PREDICTED_KEYS`) in the same order.

    `context` (n_bars, k) has one row per row of `panel`; models without context leave it alone. `certificates` are
    those of the validated members, whose score alone gives the tier.
    """
    data = Rows(panel, index, rows, fitted_scaler, context=context).sequences()
    p_raw = prediction.predict_probabilities(model, data, progress=progress)
    table = predict_table.build_predictions(keys[PREDICTED_KEYS], p_raw, calibrator, config.signals)
    proved = model.validated() if isinstance(model, Ensemble) else model
    p_proved = p_raw if proved is model else prediction.predict_probabilities(proved, data)
    return predict_table.with_tiers(table, calibrator.transform(p_proved)[:, K4], certificates)
