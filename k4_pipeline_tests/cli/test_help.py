"""`k4 --help` is quick and imports nothing heavy; every command is listed, can be imported and explains itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from k4_pipeline import __version__
from k4_pipeline.cli import Commands, app
from k4_pipeline.cli.ending import NOBODY_READS

HEAVY = ("torch", "dagster", "pandas", "numba", "pyarrow", "plotly", "sklearn")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def loaded_by(*arguments: str) -> tuple[list[str], float, str]:
    """Heavy libraries that a command imports, the processor seconds it takes, and what it prints."""
    done = python(f"""
import resource, sys
from k4_pipeline.cli import app
try:
    app({list(arguments)!r})
except SystemExit:
    pass
used = resource.getrusage(resource.RUSAGE_SELF)
print(*[name for name in {HEAVY!r} if name in sys.modules], used.ru_utime + used.ru_stime, file=sys.stderr)
""")
    *heavy, seconds = done.stderr.splitlines()[-1].split()
    return heavy, float(seconds), done.stdout


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_no_heavy_library_and_take_little_time(option: str) -> None:
    heavy, seconds, said = loaded_by(option)
    assert heavy == []
    assert seconds < 0.4  # processor time: other work on the machine does not count
    assert option == "--version" or all(name in said for name in Commands.table)


@pytest.mark.parametrize("command", ["status", "signals --help", "run --help", "compare --help"])
def test_what_looks_at_no_table_imports_no_heavy_library(command: str, tmp_path: Path) -> None:
    name, *rest = command.split()
    heavy, _, said = loaded_by(name, *(rest or ["--home", str(tmp_path)]))
    assert heavy == []
    assert said


@pytest.mark.parametrize("name", Commands.table)
def test_every_command_explains_itself(name):
    done = CliRunner().invoke(app, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert "Usage" in done.output


def test_an_unknown_command_names_the_way_to_help():
    done = CliRunner().invoke(app, ["nosuch"])
    assert done.exit_code == 2
    assert "No such command 'nosuch'" in done.output


def test_the_version_is_printed():
    assert CliRunner().invoke(app, ["--version"]).stdout.strip() == f"k4 {__version__}"


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["ui", "--port", "99999999"], "less than or equal to 65535"),
        (["walk-forward", "--from", "2010", "--to", "2012", "--workers", "-3"], "greater than or equal to 0"),
        (["bench", "scan", "--repeats", "0"], "greater than or equal to 1"),
        (["signals", "--top", "abc"], "valid integer"),
        (["plot"], "Missing argument"),
        (["status", "extra"], "unexpected extra argument"),
        (["data", "check", "--nope"], "No such option"),
    ],
)
def test_what_is_no_value_of_an_option_is_refused_before_anything_is_loaded(arguments, said):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert said in done.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands_and_options(shell):
    words = {"bash": {"COMP_WORDS": "k4 sta", "COMP_CWORD": "1"}}.get(shell, {"_TYPER_COMPLETE_ARGS": "k4 sta"})
    extra = {"_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_WORD_TO_COMPLETE": "sta"}
    done = CliRunner().invoke(app, [], env={"_K4_COMPLETE": f"complete_{shell}", **words, **extra}, prog_name="k4")
    assert "status" in done.output
    assert "signals" not in done.output


@pytest.mark.parametrize(
    "arguments, kind, said",
    [
        (["signals", "--nope", "--json"], "NoSuchOption", "No such option: --nope"),
        (["signals", "--top", "many", "--json"], "BadParameter", "Invalid value for '--top'"),
        (["champion", "nosuch", "--json"], "UsageError", "No such command 'nosuch'"),
        (["--nope", "--json"], "NoSuchOption", "No such option: --nope"),
        (["plot", "--json"], "MissingParameter", "Missing argument"),
    ],
)
def test_a_program_that_asks_for_json_gets_a_usage_error_as_json(arguments, kind, said):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    found = json.loads(done.stdout)
    assert not found["success"]
    assert found["error"]["type"] == kind
    assert said in found["error"]["message"]
    assert said in done.stderr


def test_a_command_whose_reader_has_gone_ends_quietly():
    for arguments in (["features"], ["features", "--json"], ["--help"], ["run", "--help"], ["champion", "--help"]):
        command = [sys.executable, "-m", "k4_pipeline.cli", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        assert process.stderr.read() == b"", arguments
        assert process.wait() == NOBODY_READS, arguments
