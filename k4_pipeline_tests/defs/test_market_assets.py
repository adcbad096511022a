"""`daily_bars` and `market_features` through the graph: a revised history is listed, the panel is checked in parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.defs.checks.features import some_tickers
from k4_pipeline.defs.instance import create_home
from k4_pipeline.defs.run import run_graph
from k4_pipeline.features.panel import read_panel
from k4_pipeline.options import apply_options
from k4_pipeline.settings import Settings
from k4_pipeline.storage import read_parquet
from k4_pipeline.storage.artifacts import ArtifactStore


def bars(n_tickers: int = 3, n_bars: int = 900) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frames = []
    for i in range(n_tickers):
        close = 20 * np.exp(np.cumsum(rng.normal(0, 0.02, n_bars)))
        dates = pd.bdate_range("2015-01-01", periods=n_bars)
        frame = pd.DataFrame({"ticker": f"T{i}", "date": dates, "open": close, "high": close * 1.01})
        frames.append(frame.assign(low=close * 0.98, close=close, volume=rng.integers(1000, 9000, n_bars)))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[ArtifactStore, pd.DataFrame]:
    """Two runs of the first two assets; before the second the source lowered one close."""
    folder: Path = tmp_path_factory.mktemp("home")
    table = bars()
    settings = Settings(
        folder, apply_options(Settings(folder).config, {"source": "table", "path": folder / "bars.csv"})
    )
    create_home(settings)
    for close in (table["close"], table["close"].where(table.index != 5, table["close"] * 0.999)):
        table.assign(close=close).to_csv(folder / "bars.csv", index=False)
        outcome = run_graph(
            settings, ("daily_bars", "market_features"), as_of=None, progress=None, log=folder / "run.log"
        )
        assert outcome.success, outcome.errors
    return ArtifactStore(settings.artifacts_dir), table


def test_a_bar_the_source_later_sends_differently_is_listed_with_both_values_and_both_times(runs):
    store, table = runs
    log = read_parquet(store.current("daily_bars").path("revisions.parquet"))
    assert log[["ticker", "kind", "column"]].to_numpy().tolist() == [["T0", "changed", "close"]]
    assert log["date"].iloc[0] == table["date"].iloc[5]
    assert log["old"].iloc[0] == pytest.approx(table["close"].iloc[5])
    assert log["new"].iloc[0] == pytest.approx(table["close"].iloc[5] * 0.999)
    assert log["known_from"].iloc[0] < log["revised_at"].iloc[0]


def test_the_panel_of_the_graph_belongs_to_its_bars_and_its_checks_count_cases(runs):
    store, table = runs
    ref = store.current("market_features")
    panel = read_panel(ref.dir)
    assert len(panel) == ref.meta["rows"] == len(table)
    verdicts = store.verdict(ref)
    assert verdicts is not None
    text = str(verdicts)
    for name in ("every_panel_row_is_its_bar", "no_channel_changes_when_later_bars_are_cut"):
        assert name in text


def test_proofs_choose_from_the_longest_tickers_and_a_seeded_sample():
    lengths = np.arange(1000)
    chosen = some_tickers(lengths)
    assert (np.diff(chosen) > 0).all()
    assert set(range(976, 1000)) <= set(chosen)
    assert 100 < len(chosen) <= 128
    assert some_tickers(lengths).tolist() == chosen.tolist()
    assert some_tickers(lengths[:50]).tolist() == list(range(50))
