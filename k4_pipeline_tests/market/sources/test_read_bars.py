"""The dispatch between sources."""

from __future__ import annotations

import pytest

from k4_pipeline.config import SimulationConfig, SourceConfig
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.market.sources import RAW_COLUMNS, read_bars
from k4_pipeline_tests.market.crafted import raw_frame


def test_folder_and_table_are_read_with_the_tickers_of_the_config(tmp_path):
    frame = raw_frame().drop(columns="source")
    frame.to_parquet(tmp_path / "long.parquet")
    (tmp_path / "in").mkdir()
    frame.drop(columns="ticker").to_csv(tmp_path / "in" / "AAA.csv", index=False)
    for source, path in (("table", "long.parquet"), ("folder", "in")):
        config = SourceConfig(source=source, path=str(tmp_path / path), tickers=("AAA", "ZZZ"))
        raw = read_bars(config, SimulationConfig())
        assert len(raw.frame) == 30
        assert "ZZZ" in raw.problems[0]


def test_the_simulated_market_is_the_default():
    raw = read_bars(SourceConfig(), SimulationConfig(n_tickers=3, n_bars=60))
    assert tuple(raw.frame.columns) == RAW_COLUMNS
    assert len(raw.frame) > 0


@pytest.mark.parametrize("source", ["folder", "table"])
def test_a_missing_path_is_told(source):
    with pytest.raises(BadInputError, match="--path"):
        read_bars(SourceConfig(source=source), SimulationConfig())


def test_an_unknown_source_is_told():
    with pytest.raises(ConfigError, match="'ftp' is unknown"):
        read_bars(SourceConfig(source="ftp"), SimulationConfig())  # type: ignore[arg-type]
