"""What is wrong in a command line is said before anything is read, in one sentence that names what to do."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from k4_pipeline.cli import app

NEED_CUDA = (
    ["run", "--device", "cuda"],
    ["walk-forward", "--device", "cuda", "--from", "2015", "--to", "2015"],
    ["tune", "--device", "cuda", "--as-of", "2015"],
)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["run", "--path", "nosuch.parquet"], "--path nosuch.parquet: there is no such file or folder"),
        (["data", "check", "--path", "nosuch.parquet"], "nosuch.parquet does not exist; give the path of a Parquet"),
        (["walk-forward", "--path", "Makefil", "--from", "2015", "--to", "2015"], "no such file or folder"),
        (["run", "--source", "folder"], "needs --path"),
        (["run", "--preset", "huge"], "use one of micro, tiny, compact, small"),
        (["run", "--as-of", "soon"], "--as-of 'soon' is no date"),
        (["run", "--as-of", ""], "--as-of '' is no date"),
        (["run", "--as-of", "2999-01-01"], "lies in the future; give a date up to"),
        (["run", "--snapshots", ""], "there is no such file"),
        (["compare", "", "2015-01-01"], "'' is neither an as-of date"),
        (["run", "--start", "yesterday"], "--start 'yesterday' is no date"),
        (["run", "--snapshots", "nosuch.csv"], "--snapshots nosuch.csv: there is no such file"),
        (["run", "--device", "tpu"], "use one of auto, cpu, cuda"),
        *((command, "sees no CUDA device") for command in NEED_CUDA if not torch.cuda.is_available()),
        (["run", "--test-months", "999"], "it must be at most 240"),
        (["run", "--labels", "nope"], "use one of race_100, rare_30"),
    ],
)
def test_a_mistake_is_refused_at_once_and_leaves_no_settings(tmp_path, arguments, message):
    done = CliRunner().invoke(app, arguments, env={"K4_HOME": str(tmp_path / "home")})
    assert done.exit_code == 1
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home" / "settings.json").exists()
