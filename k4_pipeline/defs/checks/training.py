"""Propositions about dataset_split, trained_model and predictions."""

from __future__ import annotations

from typing import Any

import pandas as pd

from k4_pipeline.config import KEYS, ScalerConfig, SplitConfig, from_dict
from k4_pipeline.defs.checks.controls import CONTROL_PROPOSITIONS
from k4_pipeline.defs.checks.factory import Evidence, Proposition, checks_for, schema_proposition
from k4_pipeline.defs.checks.leakage import MODEL_PROOF, PREDICTION_PROOF, SPLIT_PROOF
from k4_pipeline.defs.staging import load_json, load_panel, load_table
from k4_pipeline.verdict import Verdict

MODEL_INPUTS = ("sequences", "market_features", "context_features", "training_windows")


def _split_schema(evidence: Evidence) -> Any:
    from k4_pipeline.schemas.dataset_split import DATASET_SPLIT

    return DATASET_SPLIT


def _predictions_schema(evidence: Evidence) -> Any:
    from k4_pipeline.schemas.predictions import PREDICTIONS

    return PREDICTIONS


def _split_is_sound(evidence: Evidence) -> Verdict:
    from k4_pipeline.splits.manifest import SplitManifest
    from k4_pipeline.splits.verify import verify_split

    manifest = SplitManifest.from_json(evidence.ref.path("split.json").read_text())
    found = verify_split(evidence.table, manifest, evidence.input_table("labeled_snapshots"))
    if manifest.as_of != evidence.ref.partition:
        found.append(f"the manifest is of {manifest.as_of}, the partition of {evidence.ref.partition}")
    return Verdict.of("every_exclusion_has_a_reason_that_holds", len(evidence.table), found)


def _purge(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.propositions import purge_holds

    config = from_dict(SplitConfig, evidence.json("config.json")["split"])
    return purge_holds(evidence.table, evidence.json("split.json"), config)


def _no_pattern_twice(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.propositions import no_pattern_in_two_splits

    return no_pattern_in_two_splits(evidence.table)


def _scaler(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.propositions import scaler_was_fitted_on_train_only
    from k4_pipeline.sequences.standardisation import Scaler

    return scaler_was_fitted_on_train_only(
        Scaler.from_json(evidence.ref.path("scaler.json").read_text()),
        load_panel(evidence.input("market_features")),
        evidence.input_table("sequences"),
        evidence.table,
        from_dict(ScalerConfig, evidence.json("config.json")["scaler"]),
    )


def _fingerprints(evidence: Evidence) -> Verdict:
    from k4_pipeline.features.spec import feature_list_hash
    from k4_pipeline.leakage.checks.propositions import model_and_data_fingerprints_match
    from k4_pipeline.sequences.standardisation import Scaler
    from k4_pipeline.training.checkpoint import load_checkpoint

    _, meta = load_checkpoint(evidence.ref.dir)
    split = evidence.input("dataset_split")
    scaler = Scaler.from_json(split.path("scaler.json").read_text())
    recorded = {
        "dataset_split": meta["split_fingerprint"],
        **{name: meta["fingerprints"][name] for name in MODEL_INPUTS},
        "scaler": meta["scaler_hash"],
        "features": meta["feature_list_hash"],
    }
    actual = {
        "dataset_split": split.fingerprint,
        **{name: evidence.input(name).fingerprint for name in MODEL_INPUTS},
        "scaler": scaler.hash(),
        "features": feature_list_hash(),
    }
    return model_and_data_fingerprints_match(recorded, actual)


def _rows_seen(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.propositions import rows_seen_are_those_permitted
    from k4_pipeline.pipeline.model_files import SEEN_ROWS

    seen, split = load_table(evidence.ref, SEEN_ROWS), evidence.input_table("dataset_split")
    return rows_seen_are_those_permitted(seen, split, pd.Timestamp(evidence.ref.partition))


def _calibrated_on_validation(evidence: Evidence) -> Verdict:
    from k4_pipeline.evaluation.calibration import Calibrator
    from k4_pipeline.leakage.oracles.membership import oracle_calibration
    from k4_pipeline.storage.keys import keys_hash

    split = evidence.input_table("dataset_split")
    rows = split[split["split"] == "validation"]
    frac = float(evidence.json("config.json")["recipe"]["stopping_frac"])
    rows = rows[oracle_calibration(rows["ticker"], frac)]
    calibrator = Calibrator.from_json(evidence.ref.path("calibrator.json").read_text())
    expected, stored = keys_hash(rows), calibrator.meta["keys_hash"]
    findings = []
    if stored != expected:
        findings.append(f"the calibrator saw rows {stored}; the validation rows are {expected}")
    return Verdict.of("calibrator_was_fitted_on_validation_only", len(rows), findings)


def _sum_to_one(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.propositions import probabilities_sum_to_one

    return probabilities_sum_to_one(evidence.table)


def _after_as_of(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.propositions import predictions_are_for_snapshots_after_as_of

    return predictions_are_for_snapshots_after_as_of(evidence.table, pd.Timestamp(evidence.ref.partition))


def _every_test_row_once(evidence: Evidence) -> Verdict:
    keys = KEYS
    split = load_table(evidence.input("dataset_split"))
    test = split.loc[split["split"] == "test", keys]
    joined = test.merge(evidence.table[keys], on=keys, how="outer", indicator=True)
    odd = joined[joined["_merge"] != "both"]
    findings = [f"{row} stands in {row.pop('_merge')}" for row in odd.head(5).astype(str).to_dict("records")]
    if evidence.table.duplicated(keys).any():
        findings.append("a snapshot is predicted twice")
    return Verdict.of("every_test_snapshot_is_predicted_once", len(test), findings)


def _model_record(evidence: Evidence) -> Verdict:
    """The stored settings are those of the asset's own record, and training ended on a finite loss."""
    meta, config = load_json(evidence.ref, "model.json"), evidence.json("config.json")
    findings = [f"{name} differs from config.json" for name in config if meta["config"][name] != config[name]]
    history = meta["history"]
    findings += [f"epoch {h['epoch']}: train loss {h['train_loss']}" for h in history if h["train_loss"] is None]
    return Verdict.of("trained_model_matches_its_record", len(config) + len(history), findings)


CHECKS = [
    checks_for(
        "dataset_split",
        [
            schema_proposition("dataset_split", _split_schema),
            Proposition(
                "purge_holds",
                _purge,
                description="Train labels end before validation minus the embargo, validation labels before as_of.",
            ),
            Proposition(
                "no_pattern_in_two_splits",
                _no_pattern_twice,
                description="No pattern_id lies in two of train, validation and test.",
            ),
            Proposition(
                "every_exclusion_has_a_reason_that_holds",
                _split_is_sound,
                description="Membership, exclusions, weights and manifest recomputed from the stored dates.",
            ),
            Proposition(
                "scaler_was_fitted_on_train_only",
                _scaler,
                description="Refitting on the train rows alone gives the stored scaler, to the bit.",
            ),
            SPLIT_PROOF,
        ],
    ),
    checks_for(
        "trained_model",
        [
            Proposition(
                "trained_model_matches_its_record",
                _model_record,
                description="The checkpoint's settings are the run's, and every epoch has a finite loss.",
            ),
            Proposition(
                "model_and_data_fingerprints_match",
                _fingerprints,
                description="Weights, split, sequences, features and scaler are those the model's record names.",
            ),
            Proposition(
                "calibrator_was_fitted_on_validation_only",
                _calibrated_on_validation,
                description="The hash of the rows the calibrator saw is that of the validation rows.",
            ),
            Proposition(
                "rows_seen_are_those_permitted",
                _rows_seen,
                description="Keys and dates of every row handed to a fit are those of the train and validation rows.",
            ),
            MODEL_PROOF,
            *CONTROL_PROPOSITIONS,
        ],
    ),
    checks_for(
        "predictions",
        [
            schema_proposition("predictions", _predictions_schema),
            Proposition(
                "probabilities_sum_to_one",
                _sum_to_one,
                description="Raw and calibrated values are probabilities, each row summing to one.",
            ),
            Proposition(
                "predictions_are_for_snapshots_after_as_of",
                _after_as_of,
                description="A model of as-of date T scores only snapshots dated T or later.",
            ),
            Proposition(
                "every_test_snapshot_is_predicted_once",
                _every_test_row_once,
                description="The predictions are exactly the test rows of the split.",
            ),
            PREDICTION_PROOF,
        ],
    ),
]
