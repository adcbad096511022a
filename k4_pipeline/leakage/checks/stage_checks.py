"""The checks of the audit that are cheap enough to block an asset, by stage: one call, one `Verdict`.

Each function takes the stored tables of its stage and fills in what is not there yet with production functions on a few
tickers, then runs checks of the registry. The whole audit (`k4 audit`) looks at more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import pandas as pd

from k4_pipeline.config import PipelineConfig
from k4_pipeline.features import compute
from k4_pipeline.leakage.engine.audit import AuditContext, AuditSample, run_checks
from k4_pipeline.leakage.engine.compare import ROW_NUMBERS
from k4_pipeline.market.bars import Bars
from k4_pipeline.pipeline import stages as production
from k4_pipeline.pipeline.stages import PipelineRun
from k4_pipeline.sequences import windows
from k4_pipeline.verdict import Verdict

TICKERS = 12
SAMPLE = AuditSample(cell_cuts=100, cut_dates=3, corrupted_dates=1, label_rows=5000, refit=False)


def combined(name: str, context: AuditContext, checks: Iterable[str]) -> Verdict:
    """Several checks as one verdict; a check that does not apply counts as a failure, for it was asked for by name."""
    report = run_checks(context, checks)
    findings = [f"{v.name}: {text}" for v in report.verdicts for text in v.findings]
    findings += [
        f"{check}: not evaluated, it {reason}"
        for check, reason in {**report.not_applicable, **report.not_proved}.items()
    ]
    cases = {v.name: v.cases for v in report.verdicts}
    verdict = Verdict.of(name, min(cases.values(), default=0) and sum(cases.values()), findings, **cases)
    return dataclasses.replace(verdict, passed=verdict.holds and report.passed)


def _few(bars: Bars, snapshots: pd.DataFrame, seed: int) -> list[str]:
    """Tickers with snapshots, at random, and one that reaches the last day of the universe."""
    with_rows = sorted(set(snapshots["ticker"].astype(object)))
    chosen = np.random.default_rng(seed).choice(with_rows, min(TICKERS, len(with_rows)), replace=False)
    last = bars.date[bars.offsets[1:] - 1] == bars.last_day
    return sorted({*map(str, chosen), str(bars.tickers[np.flatnonzero(last)[0]])})


def data_context(
    bars: Bars,
    snapshots: pd.DataFrame,
    config: PipelineConfig,
    *,
    sequences: pd.DataFrame | None = None,
    of_file: bool = False,
    seed: int = 0,
) -> AuditContext:
    """A context of a few tickers from stored bars and snapshots, and stored sequences when given."""
    tickers = _few(bars, snapshots, seed)
    kept = bars.subset(tickers)
    made = snapshots[snapshots["ticker"].isin(tickers)].reset_index(drop=True)
    if sequences is None:
        index = windows.index_sequences(kept, made)
    else:
        index = _renumbered(sequences, bars, tickers)
    full = PipelineRun(
        config=config,
        as_of=None,
        raw=None,
        bars=kept,
        rejects=None,
        panel=compute.compute_market_features(kept),
        snapshots=made,
        labeled=production.label(kept, made, config),
        sequences=index,
        given=made if of_file else None,
    )
    return AuditContext(full, dataclasses.replace(SAMPLE, seed=seed))


def _renumbered(sequences: pd.DataFrame, bars: Bars, tickers: list[str]) -> pd.DataFrame:
    kept = np.repeat(np.isin(bars.tickers, np.array(tickers, dtype=object)), np.diff(bars.offsets))
    moved = np.cumsum(kept) - 1
    out = sequences[sequences["ticker"].isin(tickers)].reset_index(drop=True)
    for column in ROW_NUMBERS:
        out[column] = moved[out[column].to_numpy()]
    return out


def snapshots_do_not_depend_on_later_bars(
    bars: Bars, snapshots: pd.DataFrame, config: PipelineConfig, *, of_file: bool = False
) -> Verdict:
    """Stored snapshots of a few tickers are reproduced at every one of their dates as the last bar."""
    name = "snapshots_do_not_depend_on_later_bars"
    checks = ["everything_is_reproduced_from_bars_cut_at_a_date", "nothing_changes_when_later_bars_are_corrupted"]
    if not of_file:
        checks += ["every_snapshot_is_reproduced_as_the_last_bar", "every_snapshot_follows_from_its_qualifying_bars"]
    return combined(name, data_context(bars, snapshots, config, of_file=of_file), checks)


def sequences_do_not_depend_on_later_bars(
    bars: Bars, snapshots: pd.DataFrame, sequences: pd.DataFrame, config: PipelineConfig, *, of_file: bool = False
) -> Verdict:
    """Stored windows, masks and geometry of a few tickers are reproduced when later bars are cut or corrupted."""
    name = "sequences_do_not_depend_on_later_bars"
    checks = ["everything_is_reproduced_from_bars_cut_at_a_date", "nothing_changes_when_later_bars_are_corrupted"]
    if not of_file:
        checks.append("every_snapshot_is_reproduced_as_the_last_bar")
    return combined(name, data_context(bars, snapshots, config, sequences=sequences, of_file=of_file), checks)


def labels_are_those_of_an_independent_race(
    bars: Bars, snapshots: pd.DataFrame, labeled: pd.DataFrame, config: PipelineConfig, *, classes_of_file: bool = False
) -> Verdict:
    """Stored labels against a second implementation, and their dates against cut bars.

    `classes_of_file`: the classes were given with the snapshots and cannot be raced; their dates still are, where the
    bars give a label too.
    """
    if classes_of_file:
        raced = production.label(bars, snapshots, config)["outcome_class"]
        both = (raced.notna() & labeled["outcome_class"].notna()).to_numpy()
        labeled = labeled.assign(outcome_class=raced)[both].reset_index(drop=True)
        snapshots = snapshots[both].reset_index(drop=True)
    full = PipelineRun(config, None, None, bars, None, np.empty((0, 0)), snapshots, labeled, snapshots)
    name = "labels_are_those_of_an_independent_race"
    checks = [name, "every_label_is_known_on_its_date_and_not_before"]
    return combined(name, AuditContext(full, SAMPLE), checks)


def membership_follows_from_dates_and_bars(
    bars: Bars,
    snapshots: pd.DataFrame,
    labeled: pd.DataFrame,
    sequences: pd.DataFrame,
    split: pd.DataFrame,
    as_of: str,
    config: PipelineConfig,
) -> Verdict:
    """Stored membership, purge margins from bars, and no ticker tested under another name."""
    full = PipelineRun(config, as_of, None, bars, None, np.empty((0, 0)), snapshots, labeled, sequences, split=split)
    checks = [
        "membership_follows_from_dates_alone",
        "purge_margins_hold_when_recomputed_from_bars",
        "nothing_lies_in_two_members",
        "no_ticker_is_tested_under_another_name",
    ]
    return combined("membership_follows_from_dates_and_bars", AuditContext(full, SAMPLE), checks)


def model_was_fitted_on_permitted_rows(full: PipelineRun) -> Verdict:
    """Scaler, best epoch and calibrator of a stored model, recomputed from exactly the rows they may have seen."""
    checks = [
        "the_scaler_comes_from_train_rows_alone",
        "the_best_epoch_was_chosen_on_validation_rows",
        "the_calibrator_comes_from_validation_rows_alone",
        "what_was_seen_is_what_was_permitted",
    ]
    return combined("model_was_fitted_on_permitted_rows", AuditContext(full, SAMPLE), checks)


def predictions_are_of_the_stored_model_row_by_row(full: PipelineRun) -> Verdict:
    """Stored predictions: for whom, batch by batch, and from independently computed inputs."""
    checks = [
        "predictions_are_for_later_rows_only",
        "predictions_do_not_depend_on_their_batch",
        "predictions_follow_from_the_stored_model",
    ]
    return combined("predictions_are_of_the_stored_model_row_by_row", AuditContext(full, SAMPLE), checks)
