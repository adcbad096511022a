"""The production path in memory, from raw bars to metrics: what the audit runs again on changed inputs.

Every step calls the production function through its module (`compute.compute_market_features`, never a name imported
from it), so that whatever is patched into a production module takes effect here as well. The steps are functions of
their own because a replay rarely needs all of them. Joining rows by key, fitting on the members of a split and scoring
are those of the assets (`fitting/`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from k4_pipeline.config import PipelineConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.evaluation import calibration, tiers, validation
from k4_pipeline.features import compute, context as features_context
from k4_pipeline.market import cleaning, parsing
from k4_pipeline.market.bars import Bars, DayLike, to_day, to_days
from k4_pipeline.market.sources.base import RawBars
from k4_pipeline.models.ensemble import Ensemble
from k4_pipeline.patterns import labels, snapshots
from k4_pipeline.pipeline import fit as candidate, tables as stored_tables, training_windows
from k4_pipeline.pipeline.members import member_of, seen as seen
from k4_pipeline.sequences import assemble, dataset, model_inputs, scaler, windows
from k4_pipeline.splits import walk_forward


@dataclass
class Fitted:
    """Everything that was fitted or chosen for one as-of date, with the keys and dates of the rows it saw."""

    scaler: scaler.Scaler
    model: nn.Module
    calibrator: calibration.Calibrator
    as_of: str
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    monitor_name: str = ""
    members: list[dict[str, Any]] = field(default_factory=list)  # the record of every member
    class_counts: list[int] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)  # rows, key hashes and date ranges of train and validation
    certificates: tiers.Certificates = field(default_factory=tiers.Certificates.none)

    @property
    def validated(self) -> nn.Module:
        """The model that never saw a validation row: what validation rows are scored with."""
        return self.model.validated() if isinstance(self.model, Ensemble) else self.model


@dataclass
class PipelineRun:
    """The tables of one run. Row i of `panel` is row i of `bars`; `inputs` has one row per row of `sequences`."""

    config: PipelineConfig
    as_of: str | None
    raw: RawBars | None
    bars: Bars
    rejects: pd.DataFrame | None
    panel: np.ndarray  # (n_bars, 55) float32
    snapshots: pd.DataFrame
    labeled: pd.DataFrame
    sequences: pd.DataFrame
    split: pd.DataFrame | None = None
    manifest: Any = None
    fitted: Fitted | None = None
    predictions: pd.DataFrame | None = None  # the test rows
    scored: pd.DataFrame | None = None  # test rows with a known label
    metrics: dict[str, Any] | None = None
    context: np.ndarray | None = None  # (n_bars, N_CONTEXT) float32
    windows: pd.DataFrame | None = None  # the training windows whose label is known
    given: pd.DataFrame | None = None  # snapshots read from a file; None: they are scanned from the bars
    _cache: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def index(self) -> assemble.SequenceIndex:
        """The sequences as arrays, as production indexes them."""
        if "index" not in self._cache:
            self._cache["index"] = assemble.SequenceIndex.from_frame(self.sequences, self.bars.close)
        return self._cache["index"]

    def canonical(self, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Canonical sequences (n, 50, 69) and masks (n, 50) of `rows`, all by default."""
        return assemble.assemble_canonical(self.panel, self.index, self._rows(rows))

    def inputs(self, rows: np.ndarray | None = None, *, with_scaler: scaler.Scaler | None = None) -> tuple[Any, Any]:
        """Model inputs (n, 50, 69) and masks of `rows` under the fitted scaler (or `with_scaler`)."""
        chosen = with_scaler or self.need_fitted().scaler
        return model_inputs.assemble_inputs(self.panel, self.index, self._rows(rows), chosen)

    def _rows(self, rows: np.ndarray | None) -> np.ndarray:
        return np.arange(len(self.sequences)) if rows is None else np.asarray(rows, dtype=np.int64)

    def unfitted(self, **changes: Any) -> PipelineRun:
        """A copy with other values in some fields, and nothing that was fitted or follows from a fit."""
        return replace(self, fitted=None, predictions=None, scored=None, metrics=None, _cache={}, **changes)

    def need_fitted(self) -> Fitted:
        """What was fitted; `BadInputError` when the path stopped before."""
        if self.fitted is None:
            raise BadInputError("this path was run without a model; run it with an as_of and a model")
        return self.fitted


def cut_raw(raw: RawBars, upto: DayLike) -> RawBars:
    """Only the rows dated `upto` or earlier, as sent; rows whose date cannot be read stay: cleaning rejects them."""
    day = parsing.days(raw.frame["date"], raw.frame["source"], raw.frame["ticker"])
    return replace(raw, frame=raw.frame[day <= to_day(upto)].reset_index(drop=True))


def clean(raw: RawBars, config: PipelineConfig, today: dt.date | None = None) -> cleaning.CleanResult:
    """Bars and rejects."""
    return cleaning.clean_bars(raw, config.cleaning, today=today)


def label(bars: Bars, made: pd.DataFrame, config: PipelineConfig) -> pd.DataFrame:
    """The labelled snapshots."""
    return labels.label_snapshots(bars, made, config.labels, default_exchange=config.cleaning.default_exchange)


def known_rows(given: pd.DataFrame, bars: Bars) -> pd.DataFrame:
    """Those snapshots of a file that were there at the close of the last bar: the ones whose bar exists."""
    there = bars.locate(given["ticker"], to_days(given["snapshot_date"])) >= 0
    return given[there].reset_index(drop=True)


def build(
    bars: Bars,
    config: PipelineConfig,
    *,
    raw: RawBars | None = None,
    rejects: Any = None,
    given: pd.DataFrame | None = None,
    for_models: bool = True,
) -> PipelineRun:
    """Everything up to the sequences, which needs no as-of date; `for_models`: context and training windows as well."""
    panel = compute.compute_market_features(bars)
    made = snapshots.make_snapshots(bars, config.patterns) if given is None else known_rows(given, bars)
    return PipelineRun(
        config=config,
        as_of=None,
        raw=raw,
        bars=bars,
        rejects=rejects,
        panel=panel,
        snapshots=made,
        labeled=label(bars, made, config),
        sequences=windows.index_sequences(bars, made),
        context=features_context.compute_context(bars) if for_models else None,
        windows=training_windows.index_windows(bars, config) if for_models else None,
        given=given,
    )


def build_again(full: PipelineRun, bars: Bars) -> PipelineRun:
    """`build` on other bars with the settings (and the snapshot file) of `full`."""
    return build(bars, full.config, given=full.given, for_models=full.context is not None)


def build_from_raw(
    raw: RawBars | Bars,
    config: PipelineConfig,
    *,
    today: dt.date | None = None,
    given: pd.DataFrame | None = None,
    for_models: bool = True,
) -> PipelineRun:
    """`build` after cleaning; `Bars` are taken as already clean."""
    if isinstance(raw, Bars):
        return build(raw, config, given=given, for_models=for_models)
    cleaned = clean(raw, config, today)
    return build(cleaned.bars, config, raw=raw, rejects=cleaned.rejects, given=given, for_models=for_models)


def tables(path: PipelineRun) -> stored_tables.Stored:
    """What a fit reads of this path."""
    assert path.split is not None
    return stored_tables.Stored(
        path.split, path.sequences, path.panel, path.index, path.context, path.windows, str(path.as_of)
    )


def members(path: PipelineRun, name: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Rows of `sequences` that the split calls `name`, ascending, and their split rows in the same order (by key)."""
    assert path.split is not None
    return member_of(path.split, path.sequences, name)


def member_dataset(path: PipelineRun, name: str, fitted_scaler: scaler.Scaler) -> dataset.SequenceDataset:
    """The labelled rows of one member in the form that the training code reads."""
    return candidate.member_dataset(tables(path), name, fitted_scaler)[0]


def split_at(path: PipelineRun, as_of: DayLike) -> PipelineRun:
    """The path with membership for one as-of date."""
    path.split, path.manifest = walk_forward.split_snapshots(path.labeled, as_of, path.config.split)
    path.as_of = path.manifest.as_of
    return path


def fit(path: PipelineRun) -> Fitted:
    """Scaler on train, weights on train stopped on validation, calibrator on validation. Test rows are never read."""
    stored = tables(path)
    fitted_scaler = stored_tables.fit_scaler(stored, path.config)
    made = candidate.fit(stored, fitted_scaler, path.config)
    return Fitted(
        scaler=fitted_scaler,
        model=made.model,
        calibrator=made.calibrator,
        as_of=str(path.as_of),
        history=made.lead.get("history", []),
        best_epoch=made.lead.get("best_epoch", 0),
        monitor_name=made.lead.get("monitor_name", ""),
        members=made.members,
        class_counts=made.class_counts,
        record=made.seen,
        certificates=made.certificates,
    )


def predict(path: PipelineRun, keys: pd.DataFrame, rows: np.ndarray, fitted: Fitted) -> pd.DataFrame:
    """The predictions table of sequence `rows`; `keys` has ticker, pattern_id, start_date, snapshot_date, split."""
    return candidate.score(
        keys,
        rows,
        panel=path.panel,
        index=path.index,
        fitted_scaler=fitted.scaler,
        model=fitted.model,
        calibrator=fitted.calibrator,
        config=path.config,
        context=path.context,
        certificates=fitted.certificates.tiers,
    )


def predict_member(path: PipelineRun, name: str, fitted: Fitted) -> pd.DataFrame:
    """The predictions of one member of the split."""
    rows, table = members(path, name)
    return predict(path, table, rows, fitted)


def score(path: PipelineRun) -> PipelineRun:
    """Predictions of the test rows, and metrics of those whose label is known (None when there are none)."""
    path.predictions = predict_member(path, "test", path.need_fitted())
    path.scored = validation.score_labelled(path.predictions, path.labeled, path.sequences, path.panel)
    path.metrics = validation.evaluate_scored(path.scored, path.config) if len(path.scored) else None
    return path


def run_path(
    raw: RawBars | Bars,
    config: PipelineConfig,
    as_of: DayLike | None,
    *,
    model: Fitted | str | None = "train",
    upto: DayLike | None = None,
    today: dt.date | None = None,
) -> PipelineRun:
    """Raw bars (or clean `Bars`) to metrics.

    `model`: "train" fits scaler, weights and calibrator; a `Fitted` is used as it is; None stops after the split.
    `as_of` None stops after the sequences. `upto` first drops every bar dated later: the world as it was that evening.
    """
    if upto is not None:
        raw = raw.until(upto) if isinstance(raw, Bars) else cut_raw(raw, upto)
    path = build_from_raw(raw, config, today=today)
    if as_of is None:
        return path
    split_at(path, as_of)
    if model is None:
        return path
    path.fitted = fit(path) if isinstance(model, str) else model
    return score(path)
