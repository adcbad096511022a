"""The real bars, read once for all pattern tests, and a small labelled universe for those of snapshot files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from k4_pipeline.market.bars import Bars
from k4_pipeline.patterns.labels import label_snapshots
from k4_pipeline.patterns.snapshots import make_snapshots
from k4_pipeline_tests.patterns.snapshot_files import LABELS
from k4_pipeline_tests.patterns.worlds import SMALL, clean_real_bars, random_bars


@pytest.fixture(scope="session")
def real_bars(real_data_dir: Path) -> Bars:
    return clean_real_bars(real_data_dir)


@pytest.fixture(scope="module")
def bars() -> Bars:
    return random_bars(30, n_tickers=9)


@pytest.fixture(scope="module")
def labeled(bars) -> pd.DataFrame:
    return label_snapshots(bars, make_snapshots(bars, SMALL), LABELS)
