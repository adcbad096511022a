"""The recipe as a whole: members, phases, refit, calibration rows, and the audit of an ensemble."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from k4_pipeline.config import ModelConfig, PipelineConfig, RecipeConfig, WindowConfig, model_preset
from k4_pipeline.errors import ConfigError
from k4_pipeline.leakage.engine import audit
from k4_pipeline.leakage.engine.small import SMALL_AS_OF, small_config
from k4_pipeline.leakage.oracles.membership import oracle_calibration, oracle_stopping
from k4_pipeline.market.sources import read_bars
from k4_pipeline.models.ensemble import Ensemble
from k4_pipeline.pipeline import ensemble, fit as candidate, stages
from k4_pipeline.pipeline.members import member_of
from k4_pipeline.storage.keys import keys_hash
from k4_pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from k4_pipeline.training.predict import predict_probabilities

KINDS = [
    "mamba_attention",
    "mamba_attention_without_context",
    "bilstm",
    "no_sequence",
    "tabm",
    "extra_trees",
    "gradient_boosting",
    "logit",
]


def small_ensemble() -> PipelineConfig:
    """Every kind of member, as small as it gets."""
    made = model_preset("default")
    recipe = dataclasses.replace(
        made["recipe"],
        members=("network", "network_without_context", *KINDS[2:]),
        boosting_rounds=5,
        forest_trees=10,
        pretrain_epochs=1,
        stopping_frac=0.5,
    )
    return dataclasses.replace(
        small_config(0),
        model=ModelConfig(preset="micro"),
        recipe=recipe,
        loss=made["loss"],
        training=dataclasses.replace(made["training"], epochs=2, device="cpu"),
        windows=WindowConfig(density=0.5),
    )


@pytest.fixture(scope="module")
def audited() -> audit.AuditContext:
    audit.load_checks()
    config = small_ensemble()
    raw = read_bars(config.source, config.simulation)
    sample = dataclasses.replace(audit.AuditSample(), refit=True)
    return audit.make_context(raw, config, SMALL_AS_OF, sample=sample)


@pytest.fixture(scope="module")
def made(audited) -> candidate.Candidate:
    full = audited.full
    return candidate.fit(stages.tables(full), full.need_fitted().scaler, full.config)


@pytest.mark.parametrize("member", ["tabm", "extra_trees"])
def test_a_member_that_needs_the_context_is_refused_without_it(member):
    config = dataclasses.replace(PipelineConfig(), recipe=RecipeConfig(members=("network", member)))
    with pytest.raises(ConfigError, match=f"names {member}, which read the context.*recipe.context=true"):
        ensemble.planned(config)


def test_every_kind_is_fitted_and_the_networks_twice(made):
    assert made.model.kinds == KINDS
    assert made.model.validated_members is not None
    for kind, first, final in zip(KINDS, made.model.validated_members, made.model.members):
        same = all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), final.state_dict().values()))
        assert same == (kind == "gradient_boosting"), kind
    assert all(m["window_rows"] > 50 for m in made.members[:5])


def test_the_same_fit_gives_the_same_bits(audited, made):
    stored, again = audited.full.need_fitted().model.state_dict(), made.model.state_dict()
    assert stored.keys() == again.keys()
    assert all(torch.equal(stored[name], again[name]) for name in stored)


def test_stopping_and_calibration_share_no_ticker(audited, made):
    full = audited.full
    _, validation = member_of(full.split, full.sequences, "validation")
    stopping = candidate.for_stopping(validation, 0.5)
    held = validation[~stopping]
    assert not set(validation.loc[stopping, "ticker"]) & set(held["ticker"])
    assert made.calibrator.meta["keys_hash"] == keys_hash(held)
    assert list(made.p_calibration["ticker"]) == list(held["ticker"])
    assert made.members[0]["validation_rows"] == stopping.sum()
    assert candidate.for_stopping(validation, 1.0).all()
    assert not candidate.for_stopping(validation, 0.0).any()
    assert candidate.calibration_rows(validation, 0.0).all()
    assert candidate.calibration_rows(validation, 1.0).all()
    for frac in (0.0, 0.3, 0.5, 1.0):
        assert (oracle_stopping(validation["ticker"], frac) == candidate.for_stopping(validation, frac)).all()
        assert (oracle_calibration(validation["ticker"], frac) == candidate.calibration_rows(validation, frac)).all()


def test_what_each_phase_was_handed_was_known_in_time(audited, made):
    as_of = pd.Timestamp(SMALL_AS_OF)
    split = audited.config.split
    start = as_of - pd.DateOffset(months=split.validation_months)
    assert made.handed["windows"]["label_end_date"].max() < start - pd.Timedelta(days=split.embargo_days)
    assert made.handed["refit windows"]["label_end_date"].max() < as_of
    assert made.handed["refit"]["label_end_date"].max() < as_of
    assert len(made.handed["refit"]) > len(made.handed["train"])
    assert made.handed["refit windows"]["label_end_date"].max() > made.handed["windows"]["label_end_date"].max()


def test_an_ensemble_survives_its_checkpoint(audited, made, tmp_path):
    save_checkpoint(tmp_path, made.model, {})
    loaded, _ = load_checkpoint(tmp_path)
    data, _ = candidate.member_dataset(stages.tables(audited.full), "validation", audited.full.need_fitted().scaler)
    assert np.array_equal(predict_probabilities(made.model, data), predict_probabilities(loaded, data))
    assert isinstance(loaded, Ensemble)
    assert np.array_equal(
        predict_probabilities(made.model.validated(), data), predict_probabilities(loaded.validated(), data)
    )


def test_the_average_is_that_of_the_members_kind_by_kind(audited, made):
    data, _ = candidate.member_dataset(stages.tables(audited.full), "validation", audited.full.need_fitted().scaler)
    modules = [*made.model.members, *made.model.validated_members]
    parts = [predict_probabilities(member, data) for member in modules]
    assert np.allclose(predict_probabilities(made.model, data), np.mean(parts, axis=0), atol=1e-6)


def test_the_audit_of_an_ensemble_holds(audited):
    names = [
        "everything_is_reproduced_from_bars_cut_at_a_date",
        "nothing_depends_on_other_tickers",
        "fitting_reads_only_rows_known_at_as_of",
        "everything_fitted_comes_from_the_permitted_rows_alone",
        "the_best_epoch_was_chosen_on_validation_rows",
        "the_calibrator_comes_from_validation_rows_alone",
        "what_was_seen_is_what_was_permitted",
        "validation_rows_move_no_weight",
        "predictions_follow_from_the_stored_model",
        "predictions_do_not_depend_on_their_batch",
        "predictions_are_reproduced_from_bars_cut_at_a_date",
    ]
    report = audit.run_checks(audited, names)
    assert report.passed, {v.name: v.findings for v in report.verdicts if not v.holds}
    assert not report.not_applicable


@pytest.mark.parametrize("corrupt", ["context", "windows", "member"])
def test_the_audit_notices_corrupted_context_windows_and_members(audited, corrupt):
    full = audited.full
    if corrupt == "context":
        values = np.array(full.context)
        values[full.bars.date < full.bars.last_day - 400] += 0.5
        changed, names = {"context": values}, ["everything_is_reproduced_from_bars_cut_at_a_date"]
    elif corrupt == "windows":
        table = full.windows.copy()
        table["outcome_class"] = (5 - table["outcome_class"]).astype("Int8")
        changed, names = {"windows": table}, ["everything_is_reproduced_from_bars_cut_at_a_date"]
    else:
        fitted = full.need_fitted()
        members = [fitted.model.members[i] for i in (0, 0, *range(2, len(KINDS)))]
        model = Ensemble(KINDS, members, list(fitted.model.validated_members), ModelConfig())
        changed = {"fitted": dataclasses.replace(fitted, model=model)}
        names = ["everything_fitted_comes_from_the_permitted_rows_alone"]
    report = audit.run_checks(audited.with_full(**changed), names)
    assert report.failed == names


def test_without_stopping_all_epochs_are_run_and_all_validation_rows_calibrate(audited):
    full = audited.full
    recipe = dataclasses.replace(full.config.recipe, members=("no_sequence",), stopping_frac=0.0, refit=False, seeds=2)
    config = dataclasses.replace(full.config, recipe=recipe)
    found = candidate.fit(stages.tables(full), full.need_fitted().scaler, config)
    assert [m["best_epoch"] for m in found.members] == [2, 2]
    assert [m["seed"] for m in found.members] == [0, 1000]
    assert found.seen["validation"]["rows"] == len(found.p_calibration)
    assert found.model.validated() is found.model
    assert json.dumps(found.members, allow_nan=False)


def test_too_few_k4_rows_are_said_in_one_line(audited, made):
    assert candidate.too_few_k4(made.class_counts, audited.config) == ""
    assert "saw 3 K4 rows" in candidate.too_few_k4([100, 50, 20, 9, 3, 40], audited.config)


@pytest.mark.parametrize(
    ("rows", "repeat", "epochs"), [(300, True, 4), (33_000, True, 3), (90_000, True, 2), (300, False, 2)]
)
def test_few_windows_are_seen_more_often_by_networks_of_sequences_but_never_more_than_twice_as_often(
    rows, repeat, epochs
):
    made = model_preset("default")
    assert ensemble._pretraining(made["training"], made["recipe"], rows, repeat=repeat).epochs == epochs
