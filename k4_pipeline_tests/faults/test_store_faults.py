"""Kills and errors of the disk at every call that changes a file, and one flipped bit in every type of file.

A sample by default; all points and 1,000 flips of each type with K4_FAULTS=all (`make faults`).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from k4_pipeline.errors import ConfigError, StaleArtifactError
from k4_pipeline.evaluation import champion
from k4_pipeline.settings import load_settings
from k4_pipeline.storage import ArtifactStore
from k4_pipeline.training.resume import Resume
from k4_pipeline_tests.faults.at_every_call import transaction

ALL = os.environ.get("K4_FAULTS") == "all"
FLIPS = 1000 if ALL else 60


def test_old_or_new_and_whole_and_the_same_hashes_after_a_rerun(tmp_path: Path) -> None:
    how = "all" if ALL else "sample"
    command = [sys.executable, "-m", "k4_pipeline_tests.faults.at_every_call", str(tmp_path), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for what, found in json.loads(done.stdout).items():
        assert found["wrong"] == [], what
        assert found["points"] >= (80 if ALL else 3), what
        assert found["old"] > 0, what


def _read_all(home: Path, resume: Resume) -> None:
    """Everything a user or the next run reads."""
    store = ArtifactStore(home / "artifacts")
    for asset, partition in (("table", None), (champion.CHAMPION, None), (champion.ARCHIVE, None)):
        for key in store.partitions(asset) or [partition]:
            store.last_good(asset, key).verify()
            store.history(asset, key)
    assert champion.serving(store) is not None
    load_settings(home, {})
    if resume.load() is None:
        raise StaleArtifactError("the state of the training is damaged and is not continued")


FILES = {
    "table": "artifacts/table/_/v*/table.parquet",
    "json of a version": "artifacts/table/_/v*/facts.json",
    "manifest": "artifacts/table/_/v*/manifest.json",
    "state": "artifacts/table/_/state.json",
    "champion": "artifacts/champion_model/_/v*/champion.json",
    "manifest of the champion": "artifacts/champion_model/_/v*/manifest.json",
    "state of the champion": "artifacts/champion_model/_/state.json",
    "settings": "settings.json",
    "state of a training": "unfinished/fit.state",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("flips")
    transaction(home, "new")
    Resume(home / "unfinished", "key").save({"w": torch.arange(32.0)}, {"epoch": 3})
    return home


@pytest.mark.parametrize("kind", FILES)
def test_no_flipped_bit_is_read_in_silence(home: Path, kind: str) -> None:
    (path,) = home.glob(FILES[kind])
    data, resume = path.read_bytes(), Resume(home / "unfinished", "key")
    _read_all(home, resume)
    draw, silent = random.Random(kind), []
    for bit in draw.sample(range(len(data) * 8), min(FLIPS, len(data) * 8)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            _read_all(home, resume)
            silent.append(bit)
        except (StaleArtifactError, ConfigError):
            pass
    path.write_bytes(data)
    _read_all(home, resume)
    assert silent == []


def test_the_state_of_a_training_is_whole_after_any_kill(tmp_path: Path) -> None:
    resume = Resume(tmp_path, "key")
    resume.save({"w": torch.zeros(4)}, {"epoch": 1})
    (tmp_path / f".{resume.file.name}.999999-abc.tmp").write_bytes(b"half")  # killed while writing
    tensors, facts = resume.load() or ({}, {})
    assert facts == {"epoch": 1}
    assert torch.equal(tensors["w"], torch.zeros(4))
