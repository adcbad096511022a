"""Propositions that replay or recompute a stored version: the cheap part of the leakage audit, as blocking checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from k4_pipeline.config import PipelineConfig
from k4_pipeline.defs.checks.factory import Evidence, Proposition
from k4_pipeline.defs.staging import load_bars
from k4_pipeline.storage import ArtifactRef
from k4_pipeline.verdict import Verdict

if TYPE_CHECKING:
    from k4_pipeline.pipeline.stages import PipelineRun

DATA = ("daily_bars", "snapshots", "labeled_snapshots", "market_features", "sequences")
FOR_MODELS = ("context_features", "training_windows")


def _refs(evidence: Evidence, *names: str) -> dict[str, ArtifactRef]:
    """The data assets and, of the same partition, `names`; the version under test is the newest, not yet promoted."""
    fitted = evidence.ref.asset in ("trained_model", "predictions")
    refs = {name: evidence.store.current(name) for name in (*DATA, *(FOR_MODELS if fitted else ()))}
    refs |= {name: evidence.input(name) for name in names if name != evidence.ref.asset}
    return {**refs, evidence.ref.asset: evidence.ref}


def _config(evidence: Evidence, refs: dict[str, ArtifactRef]) -> PipelineConfig:
    from k4_pipeline.leakage.engine.artifacts import recorded_config

    return recorded_config(evidence.config, refs)


def path_of_partition(evidence: Evidence, *names: str) -> PipelineRun:
    """The stored tables behind the version under test, in the form the proof works with; read once per check op."""
    from k4_pipeline.leakage.engine.artifacts import path_of

    key = "path " + " ".join(names)
    if key not in evidence.kept:
        refs = _refs(evidence, *names)
        evidence.kept[key] = path_of(refs, _config(evidence, refs), evidence.ref.partition)
    return evidence.kept[key]


def _snapshots(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.stage_checks import snapshots_do_not_depend_on_later_bars

    refs = {"daily_bars": evidence.input("daily_bars"), "snapshots": evidence.ref}
    return snapshots_do_not_depend_on_later_bars(
        load_bars(refs["daily_bars"]),
        evidence.table,
        _config(evidence, refs),
        of_file="counts" in evidence.ref.meta,
    )


def _labels(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.stage_checks import labels_are_those_of_an_independent_race

    refs = {name: evidence.input(name) for name in ("daily_bars", "snapshots")}
    config = _config(evidence, {**refs, "labeled_snapshots": evidence.ref})
    table, made = evidence.table, evidence.input_table("snapshots")
    bars, of_file = load_bars(refs["daily_bars"]), "outcomes.parquet" in refs["snapshots"].files
    return labels_are_those_of_an_independent_race(bars, made, table, config, classes_of_file=of_file)


def _sequences(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.stage_checks import sequences_do_not_depend_on_later_bars

    refs = {name: evidence.input(name) for name in ("daily_bars", "snapshots")}
    return sequences_do_not_depend_on_later_bars(
        load_bars(refs["daily_bars"]),
        evidence.input_table("snapshots"),
        evidence.table,
        _config(evidence, refs),
        of_file="counts" in refs["snapshots"].meta,
    )


def _membership(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.stage_checks import membership_follows_from_dates_and_bars
    from k4_pipeline.storage import read_parquet

    refs = _refs(evidence)
    tables = {n: read_parquet(refs[n].path(f"{n}.parquet")) for n in ("snapshots", "labeled_snapshots", "sequences")}
    return membership_follows_from_dates_and_bars(
        load_bars(refs["daily_bars"]),
        tables["snapshots"],
        tables["labeled_snapshots"],
        tables["sequences"],
        evidence.table,
        str(evidence.ref.partition),
        _config(evidence, refs),
    )


def _model(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.stage_checks import model_was_fitted_on_permitted_rows

    return model_was_fitted_on_permitted_rows(path_of_partition(evidence, "dataset_split"))


def _predictions(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.stage_checks import predictions_are_of_the_stored_model_row_by_row

    return predictions_are_of_the_stored_model_row_by_row(path_of_partition(evidence, "dataset_split", "trained_model"))


SNAPSHOT_PROOF = Proposition(
    "snapshots_do_not_depend_on_later_bars",
    _snapshots,
    description="Snapshots of sampled tickers are reproduced, to the bit, with each of their bars as the last one.",
)
LABEL_PROOF = Proposition(
    "labels_are_those_of_an_independent_race",
    _labels,
    description="A second implementation gives the same classes and dates; on bars cut at its date a label is there, a "
    "session before it is not.",
)
SEQUENCE_PROOF = Proposition(
    "sequences_do_not_depend_on_later_bars",
    _sequences,
    description="Windows, masks and geometry of sampled tickers are reproduced when later bars are cut or corrupted.",
)
SPLIT_PROOF = Proposition(
    "membership_follows_from_dates_and_bars",
    _membership,
    description="Membership by a second implementation, purge raced again from bars, no ticker under two names.",
)
MODEL_PROOF = Proposition(
    "model_was_fitted_on_permitted_rows",
    _model,
    description="Scaler, best epoch and calibrator recomputed from exactly the rows they may have seen.",
)
PREDICTION_PROOF = Proposition(
    "predictions_are_of_the_stored_model_row_by_row",
    _predictions,
    description="Scores from independently computed inputs, the same alone and in company, for later rows only.",
)
