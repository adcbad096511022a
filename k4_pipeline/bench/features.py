"""`k4 bench features`: the 55 market channels against polars `.over("ticker")` and pandas groupby-rolling.

Ours computes all 55 channels each time; the rivals only those all three can say, which favours them. Before anything
is timed, all three are compared with features/reference.py: a wrong result has no speed. Every repeat times them in
turn, on the same cores, from arrays in memory to float32. Ours fills a buffer made once, as the panel writer does; with
a new one each time (`ours_fresh_s`) it also waits for the system to hand out that memory.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from k4_pipeline._numba import n_threads
from k4_pipeline.bench import features_pandas, features_polars
from k4_pipeline.bench.environment import environment
from k4_pipeline.config import CleaningConfig, SimulationConfig, SourceConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.features.compute import compute_market_features
from k4_pipeline.features.reference import MarketReference
from k4_pipeline.features.spec import MARKET_COLUMN, MARKET_FEATURES, MARKET_NAMES
from k4_pipeline.market.bars import Bars
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.sources import read_bars

# Not said in polars or pandas: the ADX's seeding and tie rule, slopes, the age of a rolling minimum.
OURS_ALONE = (
    "current_adx",
    "adx_slope_20d",
    "consolidation_quality_score",
    "bbw_slope_20d",
    "volume_trend_10d",
    "days_since_bbw_low",
)
SHARED = [name for name in MARKET_NAMES if name not in OURS_ALONE]
_PANDAS_REPEATS = 3  # a repeat takes minutes on three million bars
# Carried sums and unrounded ties make the libraries differ from the table here and there.
_MIN_AGREEMENT = 0.99


def run(bars: Path | str | None = None, repeats: int = 5) -> dict[str, Any]:
    """Median seconds and ratios (rival's time / ours); `bars` a long table, else simulated.

    `ratio_polars`, `ratio_pandas`: on the shared channels, ours computing all 55. `rows_features_per_s`: bars times
    channels per second. `agreement_*`: the smallest share, over channels, of values equal to the reference to 1e-5.
    `cpu_s`: processor seconds of all threads, which a busy machine disturbs less. Needs polars.
    """
    os.environ.setdefault("POLARS_MAX_THREADS", str(n_threads()))
    source = SourceConfig() if bars is None else SourceConfig(source="table", path=str(bars))
    data = clean_bars(read_bars(source, SimulationConfig()), CleaningConfig()).bars
    polars_frame, pandas_frame = features_polars.frame(data), features_pandas.frame(data)
    out = np.zeros((len(data), len(MARKET_FEATURES)), dtype=np.float32)
    work: dict[str, Callable[[], Any]] = {
        "ours": lambda: compute_market_features(data, out=out),
        "ours_fresh": lambda: compute_market_features(data),
        "polars": lambda: features_polars.compute(polars_frame, SHARED),
        "pandas": lambda: features_pandas.compute(pandas_frame, SHARED),
    }
    agreement = _agreements(data)
    wall: dict[str, list[float]] = {name: [] for name in work}
    cpu: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats):
        for name, function in work.items():
            if name == "pandas" and repeat >= _PANDAS_REPEATS:
                continue
            # A rival's threads return its memory for a while after it is done: nobody is to pay for another's.
            gc.collect()
            compute_market_features(data, out=out)
            wall_begin, cpu_begin = time.perf_counter(), time.process_time()
            function()
            wall[name].append(time.perf_counter() - wall_begin)
            cpu[name].append(time.process_time() - cpu_begin)
    median = {name: statistics.median(values) for name, values in wall.items()}
    cpu_median = {name: statistics.median(values) for name, values in cpu.items()}
    return {
        "ratio_polars": median["polars"] / median["ours"],
        "ratio_pandas": median["pandas"] / median["ours"],
        "rows_features_per_s": len(data) * len(MARKET_FEATURES) / median["ours"],
        "ours_s": median["ours"],
        "ours_fresh_s": median["ours_fresh"],
        "polars_s": median["polars"],
        "pandas_s": median["pandas"],
        "agreement_ours": agreement["ours"],
        "agreement_polars": agreement["polars"],
        "agreement_pandas": agreement["pandas"],
        "bars": len(data),
        "tickers": data.n_tickers,
        "channels_ours": len(MARKET_FEATURES),
        "channels_shared": len(SHARED),
        "channels_ours_alone": list(OURS_ALONE),
        "cpu_s": cpu_median,
        "repeats": {name: len(values) for name, values in wall.items()},
        "threads": n_threads(),
        "polars": importlib.metadata.version("polars"),
        "pandas": importlib.metadata.version("pandas"),
        **environment(torch.device("cpu")),
    }


def _agreements(data: Bars) -> dict[str, float]:
    """Smallest share over channels of values that agree with features/reference.py to 1e-5, on up to 50 tickers.

    Raises `BadInputError` naming channel and share when one falls below 99%. Compiles and warms up all three.
    """
    some = data.subset(data.tickers[:: max(1, data.n_tickers // 50)])
    reference = np.concatenate([_reference(some, ticker) for ticker in some.tickers])
    made = {
        "ours": (compute_market_features(some), list(MARKET_NAMES)),
        "polars": (features_polars.compute(features_polars.frame(some), SHARED).to_numpy(), SHARED),
        "pandas": (features_pandas.compute(features_pandas.frame(some), SHARED).to_numpy(), SHARED),
    }
    out = {}
    for who, (values, names) in made.items():
        shares = {}
        for i, name in enumerate(names):
            expected = reference[:, MARKET_COLUMN[name]]
            there = ~np.isnan(expected)
            size = np.maximum(np.abs(expected), 1e-3 * np.median(np.abs(expected[there]))) if there.any() else 1.0
            equal = np.abs(expected - values[:, i]) <= 1e-5 * size
            shares[name] = float(equal[there].mean()) if there.any() else 1.0
        worst = min(shares, key=shares.__getitem__)
        if shares[worst] < _MIN_AGREEMENT:
            raise BadInputError(
                f"{who} agrees on {shares[worst]:.2%} of {worst}, expected {_MIN_AGREEMENT:.0%}: nothing was measured"
            )
        out[who] = shares[worst]
    return out


def _reference(bars: Bars, ticker: str) -> np.ndarray:
    rows = bars.ticker_slice(ticker)
    return MarketReference(*(getattr(bars, name)[rows] for name in ("high", "low", "close", "volume"))).table()
