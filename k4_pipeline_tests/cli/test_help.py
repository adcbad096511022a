"""`k4 --help` is quick and imports nothing heavy; every command is listed, can be imported and explains itself."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from k4_pipeline import __version__
from k4_pipeline.cli import Commands, app

HEAVY = ("torch", "dagster", "pandas", "numba", "pyarrow", "plotly", "sklearn")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_imports_no_heavy_library_and_takes_little_time():
    code = f"""
import resource, sys
from k4_pipeline.cli import app
try:
    app(["--help"])
except SystemExit:
    pass
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, file=sys.stderr)
"""
    done = python(code)
    loaded, seconds = done.stderr.splitlines()[-2:]
    assert loaded == "[]"
    assert float(seconds) < 0.4  # processor time: other work on the machine does not count
    assert all(name in done.stdout for name in Commands.table)


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
