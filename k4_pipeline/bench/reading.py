"""`k4 bench reading`: reading and cleaning of a folder of CSV files and of one long Parquet table, as a run does both.

The bars are random walks on the sessions of New York, prices with two decimals. Every measurement has a process of its
own; its peak memory is given above what the imports take, as a multiple of the table of bars that was read.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import multiprocessing
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import torch

from k4_pipeline.bench.environment import environment
from k4_pipeline.config import CleaningConfig, SimulationConfig, SourceConfig
from k4_pipeline.market import calendar
from k4_pipeline.market.bars import to_dates
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.sources import read_bars

_BYTES_PER_BAR = 6 * 8 + 2 * 4  # date, prices and volume of 8 bytes, ticker and file as codes of 4
_NOW = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)


def run(
    files: int = 1600, csv_rows: int = 3_060_000, parquet_rows: int = 8_500_000, repeats: int = 1
) -> dict[str, Any]:
    """Seconds (by the clock and of all processors) and peak memory of `csv_folder`, of the same folder
    `csv_folder_unchanged` since it was read before, and of `parquet_table`."""
    out: dict[str, Any] = {"files": files, "csv_rows": csv_rows, "parquet_rows": parquet_rows}
    with tempfile.TemporaryDirectory(prefix="k4-bench-") as folder:
        root = Path(folder)
        (root / "csv").mkdir()
        each = csv_rows // files
        for i in range(files):
            csv.write_csv(_walk(i, each, with_ticker=False), root / "csv" / f"T{i:04d}.csv")
        tickers = max(1, parquet_rows // 2000)
        table = pa.concat_tables([_walk(i, parquet_rows // tickers, with_ticker=True) for i in range(tickers)])
        pq.write_table(table, root / "table.parquet")
        del table
        kept = root / "kept"
        cases = {
            "csv_folder": (SourceConfig("folder", str(root / "csv")), None),
            "csv_folder_first": (SourceConfig("folder", str(root / "csv")), kept),
            "csv_folder_unchanged": (SourceConfig("folder", str(root / "csv")), kept),
            "parquet_table": (SourceConfig("table", str(root / "table.parquet")), None),
        }
        for name, (source, raw_dir) in cases.items():
            once = name == "csv_folder_first"  # what it keeps is there the second time
            measured = [_in_own_process(source, raw_dir) for _ in range(1 if once else repeats)]
            out[f"{name}_seconds"] = round(statistics.median(m["seconds"] for m in measured), 2)
            out[f"{name}_cpu_seconds"] = round(statistics.median(m["cpu_seconds"] for m in measured), 2)
            out[f"{name}_rows"] = measured[0]["rows"]
            out[f"{name}_memory_ratio"] = round(max(m["memory_ratio"] for m in measured), 2)
    return out | {"environment": environment(torch.device("cpu"))}


def _in_own_process(source: SourceConfig, raw_dir: Path | None) -> dict[str, float]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, source, raw_dir).result()


def _measure(source: SourceConfig, raw_dir: Path | None) -> dict[str, float]:
    calendar.sessions("XNYS", "2020-01-02", "2020-01-03")  # a run has it loaded by then
    before, began, worked = _peak_bytes(anew=True), time.perf_counter(), time.process_time()
    raw = read_bars(source, SimulationConfig(), raw_dir=raw_dir)
    result = clean_bars(raw, CleaningConfig(), today=_NOW.date(), now=_NOW)
    seconds = time.perf_counter() - began
    n = len(result.bars)
    cpu = time.process_time() - worked
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "rows": n,
        "memory_ratio": (_peak_bytes() - before) / (n * _BYTES_PER_BAR),
    }


def _peak_bytes(*, anew: bool = False) -> int:
    """Peak memory of this process; `anew`: counted from now on, where the kernel allows it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if anew:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    line = next(text for text in status.read_text().splitlines() if text.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _walk(seed: int, rows: int, *, with_ticker: bool) -> pa.Table:
    """One ticker: columns ticker (when asked for), date, open, high, low, close, volume."""
    rng = np.random.default_rng(seed)
    days = calendar.sessions("XNYS", "1990-01-02", "2025-12-30")[-rows:]
    close = np.round(20 * np.exp(np.cumsum(rng.normal(0, 0.015, len(days)))) + 1, 2)
    opened = np.round(close * rng.uniform(0.99, 1.01, len(days)), 2)
    high, low = np.round(np.maximum(opened, close) + 0.05, 2), np.round(np.minimum(opened, close) - 0.05, 2)
    volume = rng.integers(10_000, 5_000_000, len(days))
    columns = {"date": pa.array(to_dates(days)).cast(pa.date32()), "open": opened, "high": high, "low": low}
    columns |= {"close": close, "volume": volume}
    return pa.table({"ticker": pa.array([f"T{seed:04d}"] * len(days)), **columns} if with_ticker else columns)
