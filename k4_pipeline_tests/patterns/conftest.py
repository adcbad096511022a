"""The real bars, read once for all pattern tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from k4_pipeline.market.bars import Bars
from k4_pipeline_tests.patterns.worlds import clean_real_bars


@pytest.fixture(scope="session")
def real_bars(real_data_dir: Path) -> Bars:
    return clean_real_bars(real_data_dir)
