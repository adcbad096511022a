"""`k4 bench memory`: every size is measured in its own process; bad sizes and a full disk are refused."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from typer.testing import CliRunner

from k4_pipeline.bench import memory
from k4_pipeline.cli import app
from k4_pipeline.config import CleaningConfig, SimulationConfig, SourceConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.sources import read_bars
from k4_pipeline.storage import write_parquet


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = read_bars(SourceConfig(), SimulationConfig(n_tickers=6, n_bars=700))
    bars = clean_bars(raw, CleaningConfig()).bars
    return write_parquet(bars.to_frame(), tmp_path_factory.mktemp("bars") / "bars.parquet")


def test_two_sizes_are_measured_from_the_shell(table: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "memory", "--bars", str(table), "--copies", "1,3", "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    one, three = result["sizes"]["1x"], result["sizes"]["3x"]
    assert three["bars"] == 3 * one["bars"]
    assert three["tickers"] == 3 * one["tickers"]
    assert three["share_available"] == pytest.approx(one["share_available"])
    assert 0.5 < one["share_available"] < 1
    assert result["bars_growth"] == 3
    for row in (one, three):
        assert 0 < row["peak_before_mib"] <= row["peak_writing_mib"] <= row["peak_mib"]
        assert row["write_s"] > 0
        assert row["read_s"] > 0


@pytest.mark.parametrize("copies", ["", "0,1", "1,x"])
def test_sizes_that_are_none_are_refused(table: Path, copies: str) -> None:
    done = CliRunner().invoke(app, ["bench", "memory", "--bars", str(table), "--copies", copies])
    assert done.exit_code == 1
    assert "expected whole numbers" in done.output


def test_a_disk_without_room_is_named_before_anything_is_written(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1, 1, 1000))
    with pytest.raises(BadInputError, match="set TMPDIR to a disk with room"):
        memory._check_room(str(table), 16, str(tmp_path))
