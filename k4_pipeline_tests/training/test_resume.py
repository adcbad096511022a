"""A training that is killed goes on where it was and ends with the bits of one that never stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from k4_pipeline.config import LossConfig, ModelConfig, TrainConfig
from k4_pipeline.training import TrainingDivergedError, train
from k4_pipeline.training.resume import Resume
from k4_pipeline_tests.training.toy import toy_source

CONFIG = TrainConfig(epochs=6, batch_size=32, patience=6, device="cpu")
MODELS = [ModelConfig(architecture=a, preset="tiny", dropout=0.1) for a in ("mamba_attention", "bilstm")]

CHILD = """
import sys
from pathlib import Path
from k4_pipeline_tests.training.test_resume import fit, MODELS
from k4_pipeline.training.resume import Resume
folder, model, kill_at = Path(sys.argv[1]), MODELS[int(sys.argv[2])], int(sys.argv[3])
import os, signal
def progress(done, total):
    if done == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
fit(model, Resume(folder, "key"), progress)
"""


def fit(model=MODELS[0], resume=None, progress=None, config=CONFIG):
    """Train on a toy set: 96 rows, 3 steps an epoch."""
    sets = toy_source(96, length=10), toy_source(96, seed=1, length=10)
    return train(model, config, LossConfig(), *sets, resume=resume, progress=progress)


def same_bits(first, second) -> bool:
    """Equal weights (bit by bit), history and choice of the epoch."""
    weights = first.model.state_dict(), second.model.state_dict()
    return (
        all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
        and first.history == second.history
        and first.best_epoch == second.best_epoch
    )


@pytest.mark.parametrize("number", range(len(MODELS)))
def test_a_training_killed_with_sigkill_ends_with_the_same_bits(tmp_path: Path, number: int) -> None:
    threads = str(torch.get_num_threads())
    for kill_at in (8, 13):  # inside the third epoch, then inside the fifth of what goes on
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(tmp_path), str(number), str(kill_at)],
            env={**os.environ, "OMP_NUM_THREADS": threads},
            check=False,
        )
        assert done.returncode == -signal.SIGKILL
    steps: list[int] = []
    resume = Resume(tmp_path, "key")
    resumed = fit(MODELS[number], resume, lambda done, total: steps.append(done))
    assert steps[0] == 13  # four epochs of three steps were not done again
    assert same_bits(resumed, fit(MODELS[number]))


def test_a_finished_part_is_read_back_without_another_step(tmp_path: Path) -> None:
    part = Resume(tmp_path, "key").phase("seed-1")
    first = fit(resume=part)
    steps: list[int] = []
    second = fit(resume=part, progress=lambda done, total: steps.append(done))
    assert same_bits(first, second)
    assert steps == [18]  # the closing report alone


def test_early_stopping_stands_after_resuming(tmp_path: Path) -> None:
    config = TrainConfig(epochs=30, batch_size=32, patience=1, device="cpu")
    first = fit(resume=Resume(tmp_path, "key"), config=config)
    assert first.stopped_early
    assert same_bits(first, fit(resume=Resume(tmp_path, "key"), config=config))


@pytest.mark.parametrize("other", ["key", "bits", "cut"])
def test_a_state_of_another_fit_or_a_damaged_one_is_not_continued(tmp_path: Path, other: str) -> None:
    resume = Resume(tmp_path, "key")
    fit(resume=resume)
    if other == "key":
        resume = Resume(tmp_path, "another")
    elif other == "bits":
        data = bytearray(resume.file.read_bytes())
        data[len(data) // 2] ^= 4
        resume.file.write_bytes(data)
    else:
        resume.file.write_bytes(resume.file.read_bytes()[:-100])
    assert resume.load() is None
    steps: list[int] = []
    assert same_bits(fit(resume=resume, progress=lambda done, total: steps.append(done)), fit())
    assert steps[0] == 1


def test_no_flipped_bit_of_the_state_is_read_in_silence(tmp_path: Path) -> None:
    resume = Resume(tmp_path, "key")
    resume.save({"model.w": torch.arange(64.0)}, {"history": [{"loss": 0.5}]})
    data = resume.file.read_bytes()
    for bit in range(0, len(data) * 8, 7):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        resume.file.write_bytes(flipped)
        assert resume.load() is None, bit


def test_a_loss_that_is_not_finite_keeps_its_batch(tmp_path: Path) -> None:
    bad, resume = toy_source(96, length=10), Resume(tmp_path, "key")
    bad.x[5, -1, 3] = float("nan")
    with pytest.raises(TrainingDivergedError, match="the batch is kept in") as caught:
        train(MODELS[0], CONFIG, LossConfig(), bad, toy_source(96, seed=1, length=10), resume=resume)
    assert "the inputs themselves hold NaN" in str(caught.value)
    batch = safetensors.torch.load_file(resume.diverged_batch)
    assert 5 in batch["rows"].tolist()
    assert torch.isnan(batch["x"]).sum() == 1
    with safetensors.safe_open(resume.diverged_batch, "pt") as file:
        assert json.loads(file.metadata()["epoch"]) == 1
