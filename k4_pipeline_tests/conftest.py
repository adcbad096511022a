"""Fixtures shared by all tests: where the real bars lie, and a thread count that suits parallel test workers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # One worker per core already: threads inside a worker would only get in each other's way.
    os.environ.setdefault("K4_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYTHONHASHSEED", "0")


@pytest.fixture(scope="session")
def real_data_dir() -> Path:
    """The folder of real daily bars named by K4_REAL_DATA; without it the test is skipped, with this reason."""
    value = os.environ.get("K4_REAL_DATA", "")
    if not value:
        pytest.skip("K4_REAL_DATA is not set: set it to the folder that holds us_daily_bars_small.parquet")
    folder = Path(value).resolve()
    if not (folder / "us_daily_bars_small.parquet").is_file():
        pytest.fail(f"K4_REAL_DATA={value} holds no us_daily_bars_small.parquet")
    return folder
