"""Bundles: the same model inputs after compaction, no test labels, and a launch from a shell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from k4_pipeline.config import LossConfig, ModelConfig, TrainConfig
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.training import load_checkpoint, predict_probabilities
from k4_pipeline.training.__main__ import PREDICTIONS_FILE, main
from k4_pipeline.training.bundle import ARRAYS_FILE, META_FILE, Bundle, Member, compact, read_bundle, write_bundle
from k4_pipeline_tests.training.panels import random_index, random_panel, scaler_for


def make_bundle(exact_close: bool = True) -> Bundle:
    panel, close = random_panel(3000)
    index = random_index(panel, close if exact_close else None, n=60)
    rng = np.random.default_rng(0)
    order = rng.permutation(60)
    return Bundle(
        panel=panel,
        index=index,
        scaler=scaler_for(panel, index),
        train=Member(order[:30], rng.integers(0, 6, 30), np.full(30, 0.5, np.float32)),
        validation=Member(order[30:40], np.arange(10) % 6),
        predict=Member(order[40:50], np.zeros(10, np.int64)),
        model=ModelConfig(preset="tiny"),
        training=TrainConfig(epochs=2, batch_size=16, device="cpu", seed=3),
        loss=LossConfig(gamma_neg=2.0),
        meta={"as_of": "2020-01-01", "split_fingerprint": "abc"},
    )


@pytest.mark.parametrize("exact_close", [True, False])
def test_compaction_changes_no_bit_of_the_model_inputs(exact_close: bool) -> None:
    bundle = make_bundle(exact_close)
    panel, index = compact(bundle.panel, bundle.index)
    assert len(panel) < len(bundle.panel)
    small = Bundle(**{**vars(bundle), "panel": panel, "index": index})
    everything = Member(np.arange(60))
    before, after = (b.dataset(everything).batch(np.arange(60)) for b in (bundle, small))
    assert np.array_equal(before.x.numpy(), after.x.numpy())
    assert np.array_equal(before.mask.numpy(), after.mask.numpy())


@pytest.mark.parametrize("exact_close", [True, False])
def test_a_bundle_comes_back_with_the_same_batches_and_settings(tmp_path: Path, exact_close: bool) -> None:
    bundle = make_bundle(exact_close)
    write_bundle(tmp_path, bundle)
    again = read_bundle(tmp_path)
    assert (again.model, again.training, again.loss, again.meta) == (
        bundle.model,
        bundle.training,
        bundle.loss,
        bundle.meta,
    )
    assert len(again.index) == 50  # ten sequences are in no member
    for name in ("train", "validation", "predict"):
        ours, theirs = getattr(bundle, name), getattr(again, name)
        everything = np.arange(len(ours.rows))
        before, after = bundle.dataset(ours).batch(everything), again.dataset(theirs).batch(everything)
        assert np.array_equal(before.x.numpy(), after.x.numpy())
        assert np.array_equal(before.w.numpy(), after.w.numpy())
        assert (after.y is None) == (name == "predict")  # the labels of the rows to predict did not travel
    assert again.predict.targets is None


def test_a_damaged_or_missing_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StaleArtifactError, match=r"bundle\.json is missing"):
        read_bundle(tmp_path)
    write_bundle(tmp_path, make_bundle())
    data = bytearray((tmp_path / ARRAYS_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / ARRAYS_FILE).write_bytes(data)
    with pytest.raises(StaleArtifactError, match="sha256 of the arrays"):
        read_bundle(tmp_path)
    (tmp_path / META_FILE).write_text("{")
    with pytest.raises(StaleArtifactError, match="damaged"):
        read_bundle(tmp_path)


def test_a_bundle_of_another_feature_list_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path, make_bundle())
    record = json.loads((tmp_path / META_FILE).read_text())
    (tmp_path / META_FILE).write_text(json.dumps({**record, "feature_list_hash": "old"}))
    with pytest.raises(StaleArtifactError, match="feature list is old"):
        read_bundle(tmp_path)


def test_the_command_trains_writes_a_checkpoint_and_predicts(tmp_path: Path) -> None:
    bundle = make_bundle()
    write_bundle(tmp_path / "in", bundle)
    command = [sys.executable, "-m", "k4_pipeline.training", "--data", str(tmp_path / "in"), "--out"]
    done = subprocess.run(
        [*command, str(tmp_path / "out"), "--epochs", "1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["train_rows"] == 30
    assert "step 2 of 2" in done.stderr
    model, meta = load_checkpoint(tmp_path / "out", expected={"split_fingerprint": "abc", "as_of": "2020-01-01"})
    assert meta["config"]["training"]["epochs"] == 1
    assert meta["scaler_hash"] == bundle.scaler.hash()
    p = safetensors.numpy.load_file(tmp_path / "out" / PREDICTIONS_FILE)["p"]
    expected = predict_probabilities(model, bundle.dataset(bundle.predict))
    np.testing.assert_allclose(p, expected, atol=1e-6)  # the other process may use another number of threads


def test_the_command_says_what_is_wrong_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "error: no training bundle" in capsys.readouterr().err
