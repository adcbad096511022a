"""Checkpoints: what is saved comes back, and whatever does not match is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from k4_pipeline.config import ModelConfig
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.models import build_model
from k4_pipeline.training import checkpoint, load_checkpoint, predict_probabilities, save_checkpoint
from k4_pipeline.training.checkpoint import META_FILE, WEIGHTS_FILE, read_meta
from k4_pipeline_tests.training.toy import toy_source

META = {"scaler_json": '{"center": [0.0]}', "split_fingerprint": "s1", "as_of": "2020-01-01", "history": [{"epoch": 1}]}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "m", build_model(ModelConfig(preset="tiny", backend="naive")), META)
    return tmp_path / "m"


@pytest.mark.parametrize("architecture", ["mamba_attention", "bilstm"])
def test_a_saved_model_comes_back_bit_for_bit(tmp_path: Path, architecture: str) -> None:
    model = build_model(ModelConfig(architecture=architecture, preset="tiny", backend="auto"))
    source = toy_source(20, length=8)
    before = predict_probabilities(model, source)
    path = save_checkpoint(tmp_path, model, META)
    loaded, meta = load_checkpoint(tmp_path)
    assert path == tmp_path / META_FILE
    assert np.array_equal(predict_probabilities(loaded, source), before)
    assert not loaded.training
    assert {key: meta[key] for key in META} == META
    assert meta["versions"]["torch"] == torch.__version__
    assert sorted(p.name for p in tmp_path.iterdir()) == [META_FILE, WEIGHTS_FILE]


def test_a_backend_of_another_machine_does_not_stop_loading(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, build_model(ModelConfig(preset="tiny", backend="triton")), META)
    loaded, meta = load_checkpoint(tmp_path)
    assert loaded.config.backend == "auto"
    assert meta["model"]["config"]["backend"] == "triton"


def _written_by_another_version(folder: Path, **settings: object) -> None:
    record = json.loads((folder / META_FILE).read_text())
    record["model"]["config"] |= settings
    record["versions"]["k4_pipeline"] = "0.0.9"
    record["meta_sha256"] = checkpoint._meta_hash(record)
    (folder / META_FILE).write_text(json.dumps(record))


def test_a_removed_setting_that_was_off_is_left_out_and_said(saved: Path) -> None:
    before, _ = load_checkpoint(saved)
    _written_by_another_version(saved, rotary=False, window=None)
    with pytest.warns(UserWarning, match="rotary, window is no setting any more"):
        after, _ = load_checkpoint(saved)
    source = toy_source(5, length=8)
    assert np.array_equal(predict_probabilities(after, source), predict_probabilities(before, source))


@pytest.mark.parametrize("settings", [{"rotary": True}, {"window": 7}, {"preset": "gigantic"}])
def test_a_removed_setting_that_was_on_is_refused_with_a_remedy(saved: Path, settings: dict[str, object]) -> None:
    _written_by_another_version(saved, **settings)
    with pytest.raises(StaleArtifactError, match=r"0\.0\.9.*" + next(iter(settings)) + r".*train again \(`k4 run`"):
        load_checkpoint(saved)


def test_every_flipped_bit_of_the_weights_is_noticed(saved: Path) -> None:
    data = bytearray((saved / WEIGHTS_FILE).read_bytes())
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(data), 50):
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(rng.integers(8))
        (saved / WEIGHTS_FILE).write_bytes(flipped)
        with pytest.raises(StaleArtifactError, match="sha256 of the weights"):
            load_checkpoint(saved)


def test_an_edited_record_is_refused(saved: Path) -> None:
    meta = json.loads((saved / META_FILE).read_text())
    meta["split_fingerprint"] = "s2"
    (saved / META_FILE).write_text(json.dumps(meta))
    with pytest.raises(StaleArtifactError, match=r"sha256 of model\.json"):
        load_checkpoint(saved)


def test_weights_and_record_of_different_runs_are_refused(saved: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_checkpoint(tmp_path / "other", build_model(ModelConfig(preset="tiny")), META)
    (saved / WEIGHTS_FILE).write_bytes((tmp_path / "other" / WEIGHTS_FILE).read_bytes())
    with pytest.raises(StaleArtifactError, match="half written"):
        load_checkpoint(saved)


def test_a_changed_feature_list_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, build_model(ModelConfig(preset="tiny")), {**META, "feature_list_hash": "old"})
    with pytest.raises(StaleArtifactError, match="the feature list is old, expected"):
        load_checkpoint(tmp_path)


def test_missing_and_broken_files_are_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(StaleArtifactError, match=r"model\.json is missing"):
        load_checkpoint(tmp_path / "nowhere")
    (saved / WEIGHTS_FILE).unlink()
    with pytest.raises(StaleArtifactError, match=r"model\.safetensors is missing"):
        load_checkpoint(saved)
    (saved / META_FILE).write_text("{")
    with pytest.raises(StaleArtifactError, match="damaged"):
        read_meta(saved)


def test_a_record_with_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path, build_model(ModelConfig(preset="tiny")), {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_saving_over_an_older_model_replaces_both_files(saved: Path) -> None:
    torch.manual_seed(2)
    model = build_model(ModelConfig(preset="tiny"))
    save_checkpoint(saved, model, {**META, "as_of": "2021-01-01"})
    loaded, meta = load_checkpoint(saved)
    assert meta["as_of"] == "2021-01-01"
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
