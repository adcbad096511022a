"""Every `k4 bench` subcommand reaches a `run` that takes the options it is given; scan and train run for real here."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from k4_pipeline.bench import __main__ as runner, processes, reading, scan, train
from k4_pipeline.cli import bench as cli_bench

# `scale` measures sizes of the universe, not repeats, and needs the whole pipeline: it has a test of its own.
COMMANDS = [
    command.callback.__name__  # type: ignore[union-attr]
    for command in cli_bench.app.registered_commands
    if command.callback.__name__ != "scale"  # type: ignore[union-attr]
]


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, object]]:
    """The options that reach `run`, by module; nothing is measured."""
    seen: dict[str, dict[str, object]] = {}
    for name in COMMANDS:
        module = importlib.import_module(f"k4_pipeline.bench.{name}")
        signature = inspect.signature(module.run)

        def run(*args: object, _name: str = name, _signature: inspect.Signature = signature, **options: object):  # type: ignore[no-untyped-def]
            seen[_name] = _signature.bind(*args, **options).arguments
            return {"done": True}

        monkeypatch.setattr(module, "run", run)
    return seen


def test_there_is_a_command_for_each_benchmark() -> None:
    assert sorted([*COMMANDS, "processes"]) == sorted(runner.NAMES)  # that one is started by torch.distributed.run
    assert {"features", "memory", "reading", "scan", "sequences", "train"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_module_of_a_command_accepts_every_option_the_command_passes(
    name: str, passed: dict[str, dict[str, object]]
) -> None:
    own = {"features": ["--bars", "x.parquet"], "sequences": ["--bars", "x.parquet"], "memory": ["--bars", "x.parquet"]}
    own["reading"] = ["--files", "7"]
    options = [*own.get(name, ["--device", "cpu"]), "--repeats", "2"]
    result = CliRunner().invoke(cli_bench.app, [name, *options, "--json"])
    assert result.exit_code == 0, result.output
    assert passed[name]["repeats"] == 2
    assert len(passed[name]) == {"memory": 3, "reading": 4}.get(name, 2)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_plain_runner_passes_the_same_options(name: str, passed: dict[str, dict[str, object]]) -> None:
    option = "--bars" if name in ("features", "sequences", "memory") else "--device"
    module = importlib.import_module(f"k4_pipeline.bench.{name}")
    module.run.__signature__ = inspect.Signature(  # the stand-in takes anything; the runner asks what it takes
        [inspect.Parameter(p, inspect.Parameter.KEYWORD_ONLY) for p in (option[2:], "repeats")]
    )
    given = [] if name == "reading" else [option, "cpu"]
    assert runner.main([name, *given, "--repeats", "3", "--json"]) == 0
    assert passed[name]["repeats"] == 3


def test_the_plain_runner_refuses_an_option_the_benchmark_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        runner.main(["scan", "--bars", "x.parquet"])
    assert "scan has no option --bars" in capsys.readouterr().err


def test_reading_is_measured_on_the_rows_that_were_written() -> None:
    result = reading.run(files=3, csv_rows=900, parquet_rows=4000)
    rows = {name: result[f"{name}_rows"] for name in ("csv_folder", "csv_folder_unchanged", "parquet_table")}
    assert rows == {"csv_folder": 900, "csv_folder_unchanged": 900, "parquet_table": 4000}
    json.dumps(result, allow_nan=False)


def test_the_scan_is_measured_after_it_has_proved_right() -> None:
    result = scan.run("cpu", 2, batch=4, length=7, d_inner=16, seconds=0.0)
    assert result["correct"]
    rows = {row["backend"]: row for row in result["rows"]}
    assert {"naive", "cpu"} <= set(rows)
    assert result["ratio_cpu_over_naive"] == pytest.approx(
        rows["naive"]["forward_backward_ms"] / rows["cpu"]["forward_backward_ms"]
    )
    json.dumps(result, allow_nan=False)


def test_a_scan_that_is_wrong_gets_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "correctness", lambda backend, dtype, where: {"ok": backend != "cpu", "errors": {}})
    result = scan.run("cpu", 1, batch=2, length=3, d_inner=16, seconds=0.0)
    assert not result["correct"]
    assert result["ratio_cpu_over_naive"] is None


def test_the_training_benchmark_prints_through_the_plain_runner(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = train.run

    def small(device: str = "auto", repeats: int = 5) -> dict[str, object]:
        return real(device, repeats, batch=4)

    monkeypatch.setattr(train, "run", small)
    assert runner.main(["train", "--device", "cpu", "--repeats", "1"]) == 0
    lines = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines() if " " in line)
    assert float(lines["samples_per_s.mamba_cpu"]) > 0


def test_the_plain_runner_needs_neither_dagster_nor_typer() -> None:
    code = (
        "import sys\n"
        "for name in ('dagster', 'typer', 'rich', 'pandera', 'talib'): sys.modules[name] = None\n"
        "import k4_pipeline.bench.__main__, k4_pipeline.bench.scan, k4_pipeline.bench.train\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_training_by_processes_is_timed_after_the_first_epoch() -> None:
    found = processes.run(device="cpu", batch=8, rows=24)
    assert (found["processes"], found["rows"], len(found["losses"])) == (1, 24, processes.EPOCHS)
    assert found["samples_per_s"] > 0
    assert np.isfinite(found["losses"]).all()
