"""A training carried elsewhere as a folder gives the bytes of one here, and nothing that was changed is taken over."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from k4_pipeline.config import from_dict
from k4_pipeline.config.model import TrainConfig
from k4_pipeline.errors import BadInputError, ConfigError, StaleArtifactError
from k4_pipeline.features.context_table import CONTEXT_FILE
from k4_pipeline.features.panel import PANEL_FILE
from k4_pipeline.pipeline.job import RESULT_FILE, take_result, write_job
from k4_pipeline.pipeline.model_files import train_candidate
from k4_pipeline.storage import read_parquet
from k4_pipeline.training.__main__ import main
from k4_pipeline_tests.pipeline.small_job import small_job


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A job of the small universe, and what `train_candidate` takes for the same training here."""
    folder = tmp_path_factory.mktemp("job")
    return folder, small_job(folder)


def run(folder, out="out", launcher=()):
    command = [sys.executable, *launcher, "-m", "k4_pipeline.training", folder / "in", "--out", folder / out]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as here: bits depend on it
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, timeout=300, env=one_thread
    )


def test_a_training_in_another_process_gives_the_bytes_of_one_here_and_two_processes_its_losses(job, tmp_path):
    folder, here = job
    (tmp_path / "here").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "two").mkdir()
    expected = train_candidate(tmp_path / "here", **here)
    done = run(folder)
    assert done.returncode == 0, done.stderr
    facts = take_result(folder / "in", folder / "out", tmp_path / "taken")
    assert json.loads(done.stdout)["train_rows"] == facts["train_rows"] == expected["train_rows"]
    names = sorted(p.name for p in (tmp_path / "here").iterdir())
    assert sorted(p.name for p in (tmp_path / "taken").iterdir()) == names
    for name in names:
        assert (tmp_path / "taken" / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name

    together = run(folder, "two", ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"))
    assert together.returncode == 0, together.stderr[-3000:]
    two = take_result(folder / "in", folder / "two", tmp_path / "two")
    assert two["processes"] == 2
    for one_epoch, epoch in zip(facts["history"], two["history"], strict=True):
        assert epoch == pytest.approx(one_epoch, rel=1e-4)

    model = next((folder / "out").glob("*.safetensors"))
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    with pytest.raises(StaleArtifactError, match="not as it was written"):
        take_result(folder / "in", folder / "out", tmp_path / "taken")
    (folder / "out" / RESULT_FILE).unlink()
    with pytest.raises(StaleArtifactError, match="run the training again"):
        take_result(folder / "in", folder / "out", tmp_path / "taken")


def test_no_class_of_a_test_row_travels(job):
    folder, here = job
    split = read_parquet(folder / "in" / "split.parquet")
    assert (here["split"]["split"] == "test").any()
    assert (split["label_end_date"] < pd.Timestamp(here["as_of"])).all()
    assert (read_parquet(folder / "in" / "windows.parquet")["label_end_date"] < pd.Timestamp(here["as_of"])).all()


def test_a_folder_in_use_and_a_damaged_job_are_refused(job, capsys):
    folder, here = job
    common = {name: value for name, value in here.items() if name not in ("panel", "context")}
    with pytest.raises(BadInputError, match="is not empty"):
        write_job(folder / "in", panel_file=folder / PANEL_FILE, context_file=folder / CONTEXT_FILE, **common)
    split = folder / "in" / "split.parquet"
    kept = split.read_bytes()
    split.write_bytes(kept[:-1])
    status = main([str(folder / "in")])
    split.write_bytes(kept)
    assert status == 1
    assert "split.parquet is missing or not as it was written; export the bundle again" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["there", "pipes:", "pipes: ", "bundle:"])
def test_a_place_that_is_none_is_refused(where):
    with pytest.raises(ConfigError, match="use here, subprocess, pipes"):
        from_dict(TrainConfig, {"where": where})
