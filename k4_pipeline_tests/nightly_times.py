"""How long `k4 nightly` takes for one new session of real bars, by size of the universe, on two cores.

`python -m k4_pipeline_tests.nightly_times --tickers 93 1625 7000 --out FILE.json` needs `K4_REAL_DATA`. Above 1,625
tickers
the files are repeated under other names. A model of the default preset serves; every home has had its full run, and a
night that is not counted, before one session is added.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from k4_pipeline.config import PipelineConfig, SourceConfig
from k4_pipeline.defs.graph import FULL_NIGHT_ASSETS
from k4_pipeline.defs.instance import create_home
from k4_pipeline.defs.run import run_graph
from k4_pipeline.options import apply_options
from k4_pipeline.settings import Settings, load_settings, save_settings
from k4_pipeline_tests.serving_home import serve_a_model

REPEATS = 3


def real_bars(n_tickers: int) -> pd.DataFrame:
    """Real bars of so many tickers, copies renamed."""
    folder = Path(os.environ["K4_REAL_DATA"])
    small, *more = (folder / f"us_daily_bars{name}.parquet" for name in ("_small", "", "_more"))
    bars = pd.read_parquet(small if n_tickers <= 93 else more[0])
    if n_tickers > bars["ticker"].nunique():
        bars = pd.concat([bars, pd.read_parquet(more[1])], ignore_index=True)
    parts, known = [bars], bars["ticker"].nunique()
    while known * len(parts) < n_tickers:
        parts.append(bars.assign(ticker=bars["ticker"] + f"X{len(parts)}"))
    every = pd.concat(parts, ignore_index=True)
    names = every["ticker"].unique()[:n_tickers]
    every = every[every["ticker"].isin(set(names))]
    every["date"] = pd.to_datetime(every["date"])
    return every.sort_values(["ticker", "date"], ignore_index=True)


def a_model(folder: Path) -> Path:
    """A home in which a model of the default preset serves, trained shortly on the small file."""
    home, config = folder / "model", apply_options(PipelineConfig(), {"model_preset": "default"})
    file = Path(os.environ["K4_REAL_DATA"]) / "us_daily_bars_small.parquet"
    config = dataclasses.replace(
        config,
        source=SourceConfig(source="table", path=str(file)),
        training=dataclasses.replace(config.training, epochs=1),
        recipe=dataclasses.replace(config.recipe, pretrain_epochs=1, min_train_k4=0),
        windows=dataclasses.replace(config.windows, max_rows=5000),
    )
    serve_a_model(home, config, "2016-01-01")
    return home


def measured(
    folder: Path, model: Path, n_tickers: int, cores: str, save: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Wall and processor seconds of one new session, the median of `REPEATS` sessions; `save` gets what is known so
    far."""
    bars, file, home = real_bars(n_tickers), folder / "bars.parquet", folder / f"home{n_tickers}"
    last = bars["date"].value_counts().sort_index()
    days = last[last > 0.5 * last.tail(250).max()].index[-REPEATS - 2 :]
    shutil.copytree(model, home)
    config = load_settings(home).config
    settings = Settings(home, dataclasses.replace(config, source=SourceConfig(source="table", path=str(file))))
    save_settings(settings)
    create_home(settings)

    def until(day: pd.Timestamp) -> None:
        bars[bars["date"] <= day].to_parquet(file, index=False)

    until(days[0])
    began = time.monotonic()
    outcome = run_graph(settings, FULL_NIGHT_ASSETS, as_of=None, log=folder / "full.log")
    row: dict[str, Any] = {"tickers": n_tickers, "bars": len(bars), "full_run_s": round(time.monotonic() - began, 1)}
    if not outcome.success:
        return {**row, "errors": outcome.errors}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("K4_")} | {"K4_HOME": str(home)}
    command = ["taskset", "-c", cores, sys.executable, "-m", "k4_pipeline.cli", "nightly", "--json", "--no-full"]
    nights: list[dict[str, Any]] = []
    for n, day in enumerate(days[1:]):
        until(day)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode not in (0, 3):
            return {**row, "errors": [done.stdout[-2000:], done.stderr[-2000:]]}
        said = json.loads(done.stdout)
        if n:  # the first one compiles
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            facts = {name: said[name] for name in ("night", "new_bars", "open_patterns", "seconds")}
            nights.append({"wall_s": round(wall, 2), "processor_s": round(used, 2), **facts})
        save({**row, "nights": nights})
    middle = sorted(nights, key=lambda night: night["wall_s"])[len(nights) // 2]
    return {**row, **middle, "nights": nights}


def main() -> None:
    """One size after the other; written after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tickers", type=int, nargs="+", default=[93])
    parser.add_argument("--cores", default="0,1", help="of taskset")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []

    def write(unfinished: list[dict[str, Any]]) -> None:
        asked.out.write_text(json.dumps([*rows, *unfinished], indent=1))

    with tempfile.TemporaryDirectory() as name:
        model = a_model(Path(name))
        for n in asked.tickers:
            rows.append(measured(Path(name), model, n, asked.cores, lambda row: write([row])))
            write([])
            print(json.dumps({k: v for k, v in rows[-1].items() if k != "nights"}), flush=True)


if __name__ == "__main__":
    main()
