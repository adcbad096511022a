"""Nights one after the other on a growing file of bars: signals are recorded, mature, and are judged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from k4_pipeline.cli import app
from k4_pipeline.config import SimulationConfig
from k4_pipeline.evaluation.ledger import open_ledger
from k4_pipeline.market.sources.simulated import simulate
from k4_pipeline_tests.serving_home import BAR_COLUMNS, config_on, serve_a_model, write_until

NIGHTS = 2
FIRST_NIGHT = -111


def k4(home: Path, *arguments: object, code: int = 0) -> str:
    unset = {name: None for name in os.environ if name.startswith("K4_")}
    done = CliRunner().invoke(app, [str(a) for a in arguments], env={**unset, "K4_HOME": str(home)})
    assert done.exit_code == code, done.output[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def market() -> pd.DataFrame:
    config = SimulationConfig(n_tickers=40, n_bars=1500, dirty=False)
    return simulate(config).frame[BAR_COLUMNS]


@pytest.fixture(scope="module")
def nights(market, tmp_path_factory):
    """A home in which a model serves, two nights, one of them repeated, and one night half a year later."""
    folder = tmp_path_factory.mktemp("nightly")
    file, home = folder / "bars.parquet", folder / "home"
    days = sorted(pd.to_datetime(market["date"]).unique())
    write_until(market, days[FIRST_NIGHT - 1], file)
    serve_a_model(home, config_on(file), "2024-01-01")
    printed = []
    for n in range(NIGHTS):
        write_until(market, days[FIRST_NIGHT + n], file)
        printed.append(json.loads(k4(home, "nightly", "--json")))
    again = json.loads(k4(home, "nightly", "--json"))
    write_until(market, days[-1], file)
    late = json.loads(k4(home, "nightly", "--no-full", "--json"))
    return home, printed, again, late, [str(pd.Timestamp(d).date()) for d in days]


def test_every_night_adds_its_signals_once(nights):
    home, printed, again, late, days = nights
    assert [p["night"] for p in printed] == days[FIRST_NIGHT : FIRST_NIGHT + NIGHTS]
    assert [p["ledger"]["added"] for p in printed] == [p["open_patterns"] for p in printed]
    assert again["ledger"]["added"] == 0
    ledger = open_ledger(home).read()
    assert len(ledger) == late["ledger"]["rows"]
    assert not ledger.duplicated(["night", "ticker", "pattern_id", "model"]).any()
    assert ledger["model"].nunique() == 1
    assert (ledger["night"] == ledger["snapshot_date"]).all()


def test_signals_mature_into_the_outcome_that_their_own_bars_give(nights, market):
    home, printed, _, late, _ = nights
    assert printed[-1]["monitor"]["matured"] == 0
    early = sum(p["open_patterns"] for p in printed)
    assert late["monitor"]["matured"] >= early > 0
    out = home / "joined.parquet"
    shown = json.loads(k4(home, "monitor", "--json", "--out", out))
    assert shown == late["monitor"]
    joined = pd.read_parquet(out)
    row = joined[joined["outcome_class"].notna()].iloc[0]
    bars = market[market["ticker"] == row["ticker"]].sort_values("date").reset_index(drop=True)
    after = bars[pd.to_datetime(bars["date"]) > row["snapshot_date"]].head(100)
    best = after["high"].astype(float).max() / row["upper"] - 1
    lost = after["low"].astype(float).min() < row["lower"] * 0.9
    if row["outcome_class"] == 0:
        assert best < 0.05
        assert not lost
    elif row["outcome_class"] == 5:
        assert lost
    else:
        assert best >= (0.05, 0.15, 0.35, 0.75)[int(row["outcome_class"]) - 1]


def test_the_tables_are_readable_in_80_columns(nights):
    home, *_ = nights
    text = k4(home, "monitor")
    assert "Hit rate by tier" in text
    assert "signals given from" in text


def test_a_home_without_signals_says_what_to_do(tmp_path):
    unset = {name: None for name in os.environ if name.startswith("K4_")}
    done = CliRunner().invoke(app, ["monitor"], env={**unset, "K4_HOME": str(tmp_path)})
    assert done.exit_code == 1
    assert "k4 run" in done.output
