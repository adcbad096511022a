"""The plain second reader of sources reads and cuts every kind of file that a run reads."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from k4_pipeline.config import CleaningConfig, SimulationConfig, SourceConfig
from k4_pipeline.leakage.engine.artifacts import source_here
from k4_pipeline.leakage.oracles.reader import cut_file, read_plainly, why_not_plain
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.sources import read_bars
from k4_pipeline_tests.market.crafted import raw_frame

VALUES = ["open", "high", "low", "close", "volume"]


def _stooq(table: pd.DataFrame) -> str:
    text = io.StringIO("")
    text.write("<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n")
    for r in table.itertuples():
        text.write(f"{r.ticker}.US,D,{r.date:%Y%m%d},000000,{r.open},{r.high},{r.low},{r.close},{r.volume},0\n")
    return text.getvalue()


@pytest.fixture
def bars() -> pd.DataFrame:
    table = pd.concat([raw_frame(ticker, 40) for ticker in ("AAA", "BBB")])
    return table[["ticker", "date", *VALUES]].assign(date=pd.to_datetime(table["date"])).reset_index(drop=True)


def _write(kind: str, bars: pd.DataFrame, folder: Path) -> SourceConfig:
    folder.mkdir()
    parts = list(bars.groupby("ticker"))
    if kind == "duckdb":
        import duckdb

        with duckdb.connect(str(folder / "t.duckdb")) as base:
            base.register("given", bars)
            base.execute("create table bars as select * from given; create table notes as select 1 as x")
        return SourceConfig("table", str(folder / "t.duckdb"))
    if kind in ("feather", "parquet"):
        getattr(bars, f"to_{kind}")(folder / f"t.{kind}")
        return SourceConfig("table", str(folder / f"t.{kind}"))
    if kind == "hive":
        for ticker, part in parts:
            (folder / f"ticker={ticker}").mkdir()
            part.drop(columns="ticker").to_parquet(folder / f"ticker={ticker}" / "data_0.parquet", index=False)
        return SourceConfig("folder", str(folder))
    with zipfile.ZipFile(folder / "d_us_txt.zip", "w") as archive:
        for ticker, part in parts:
            archive.writestr(f"data/daily/us/nasdaq stocks/1/{ticker.lower()}.us.txt", _stooq(part))
    return SourceConfig("stooq", str(folder / "d_us_txt.zip"))


@pytest.mark.parametrize("kind", ["duckdb", "feather", "parquet", "hive", "stooq"])
def test_each_kind_of_source_is_read_and_cut_plainly(tmp_path, bars, kind):
    source = _write(kind, bars, tmp_path / "in")
    here = source_here(source)
    assert why_not_plain(here) == ""
    again = read_plainly(here).rename(columns={"day": "date"})[["ticker", "date", *VALUES]]
    wanted = bars.assign(date=bars["date"].dt.strftime("%Y-%m-%d"))
    pd.testing.assert_frame_equal(again, wanted, check_dtype=False)
    day = wanted["date"].iloc[25]
    (tmp_path / "cut").mkdir()
    cut = cut_file(Path(here), day, tmp_path / "cut")
    raw = read_bars(dataclasses.replace(source, path=str(cut)), SimulationConfig())
    kept = clean_bars(raw, CleaningConfig()).bars.to_frame()
    pd.testing.assert_frame_equal(kept, bars[bars["date"] <= day].reset_index(drop=True), check_dtype=False)


def test_a_database_that_cannot_be_opened_is_no_plain_source(tmp_path):
    (tmp_path / "t.duckdb").write_bytes(b"no database")
    assert why_not_plain(str(tmp_path / "t.duckdb"))
    with pytest.raises(ValueError, match=r"t\.duckdb cannot be read"):
        read_plainly(str(tmp_path / "t.duckdb"))
