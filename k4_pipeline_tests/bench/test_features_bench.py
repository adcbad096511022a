"""The feature benchmark: the rivals compute the same channels, and a wrong result is not timed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from k4_pipeline.bench import features
from k4_pipeline.errors import BadInputError
from k4_pipeline.market import calendar
from k4_pipeline.market.bars import to_dates
from k4_pipeline.storage import write_parquet
from k4_pipeline_tests.features.conftest import bars_of, random_ticker


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tickers as one long table, on sessions of their exchange: the benchmark cleans what it reads."""
    days = calendar.sessions("XNYS", "2010-01-01", "2013-12-31")[:700]
    frame = bars_of({f"T{i}": random_ticker(i, len(days)) for i in range(3)}).to_frame()
    frame["date"] = np.tile(to_dates(days), 3)
    return write_parquet(frame, tmp_path_factory.mktemp("bars") / "bars.parquet")


def test_polars_and_pandas_agree_and_the_result_is_json(table: Path) -> None:
    result = json.loads(json.dumps(features.run(table, repeats=2)))
    assert result["agreement_ours"] > 0.999
    assert result["agreement_polars"] > 0.999
    assert result["agreement_pandas"] > 0.999
    assert result["channels_ours"] == 55
    assert result["channels_shared"] + len(result["channels_ours_alone"]) == 55
    for key in ("ratio_polars", "ratio_pandas", "rows_features_per_s"):
        assert result[key] > 0


def test_a_rival_that_computes_something_else_stops_the_benchmark(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = features.features_pandas.compute

    def wrong(frame, names):  # type: ignore[no-untyped-def]
        out = real(frame, names)
        out["ma_20"] *= 1.001
        return out

    monkeypatch.setattr(features.features_pandas, "compute", wrong)
    with pytest.raises(BadInputError, match="ma_20"):
        features.run(table, repeats=1)
