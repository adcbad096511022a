"""`k4 bench memory`: peak memory and time of the feature panel on 1x, 4x, 16x copies of a universe: flat, and linear.

From bars on disk to a panel on disk and through it once more, by the code the `market_features` asset runs. Every size
runs in a process of its own, whose peak resident memory (mapped files included) the operating system tells. The copies
are the same bars under other names, read from the file again for each copy.
"""

from __future__ import annotations

import itertools
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from k4_pipeline._numba import n_threads
from k4_pipeline.bench.environment import environment
from k4_pipeline.config import CleaningConfig, SimulationConfig, SourceConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.features.panel import read_panel, write_panel_stream
from k4_pipeline.features.stream import bars_in_chunks
from k4_pipeline.market.bars import Bars
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.sources import read_bars
from k4_pipeline.storage import write_parquet

_BYTES_PER_BAR = 256  # of panel, keys and temporary columns, generously
_STATUS = Path("/proc/self/status")


def run(bars: Path | str | None = None, copies: Sequence[int] = (1, 4, 16), repeats: int = 1) -> dict[str, Any]:
    """One row per size under `sizes`, and how much more the last needs than the first.

    `bars`: a Parquet table sorted by (ticker, date), else simulated ones. `peak_mib` is that of the whole process,
    `peak_before_mib` what imports and one small chunk had taken before. `peak_growth` should be near 1,
    `time_per_bar_growth` too. With `repeats` the median time and the highest peak of several runs count. Raises
    `BadInputError` when the disk of the temporary folder (TMPDIR) has no room for the largest panel.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = str(bars) if bars is not None else simulated_bars(Path(folder))
        rows = {f"{count}x": _repeated(path, count, folder, repeats) for count in copies}
    first, last = rows[f"{copies[0]}x"], rows[f"{copies[-1]}x"]
    return {
        "sizes": rows,
        "bars_growth": last["bars"] / first["bars"],
        "peak_growth": last["peak_mib"] / first["peak_mib"],
        "write_time_growth": last["write_s"] / first["write_s"],
        "read_time_growth": last["read_s"] / first["read_s"],
        "time_per_bar_growth": last["ns_per_bar"] / first["ns_per_bar"],
        "threads": n_threads(),
        **environment(torch.device("cpu")),
    }


def simulated_bars(folder: Path) -> str:
    """Cleaned bars of the simulated market as a table; returns its path."""
    raw = read_bars(SourceConfig(), SimulationConfig())
    return str(write_parquet(clean_bars(raw, CleaningConfig()).bars.to_frame(), folder / "bars.parquet"))


def _repeated(path: str, copies: int, folder: str, repeats: int) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    runs = []
    for _ in range(repeats):
        # The executor's process ends by itself: a pool would wait for one that ignores SIGTERM, as its parent may.
        with tempfile.TemporaryDirectory(dir=folder) as own, ProcessPoolExecutor(1, mp_context=context) as pool:
            runs.append(pool.submit(_measure, path, copies, own).result())
    row = sorted(runs, key=lambda r: r["ns_per_bar"])[len(runs) // 2]
    return {**row, "peak_mib": max(r["peak_mib"] for r in runs)}


def copies_of(path: str, copies: int) -> Iterator[Bars]:
    """The bars of a table so many times over, under other names, a few tickers at a time."""
    for copy in range(copies):
        for chunk in bars_in_chunks(path):
            names = np.array([f"{copy:03d}~{name}" for name in chunk.tickers], dtype=object)
            yield replace(chunk, tickers=names)


def _measure(path: str, copies: int, folder: str) -> dict[str, float]:
    # One small chunk first: imports and compiled kernels are not part of what grows.
    write_panel_stream(itertools.islice(copies_of(path, 1), 1), Path(folder))
    _check_room(path, copies, folder)
    before = peak_mib()
    begin, cpu = time.perf_counter(), time.process_time()
    write_panel_stream(copies_of(path, copies), Path(folder))
    written = time.perf_counter()
    write_peak = peak_mib()
    panel = read_panel(Path(folder))
    there = 0
    for _, block in panel.blocks():
        there += int(np.count_nonzero(block == block))
    read, cpu = time.perf_counter(), time.process_time() - cpu
    return {
        "bars": len(panel),
        "tickers": len(panel.tickers),
        "write_s": written - begin,
        "read_s": read - written,
        "cpu_s": cpu,
        "ns_per_bar": (read - begin) * 1e9 / len(panel),
        "peak_before_mib": before,
        "peak_writing_mib": write_peak,
        "peak_mib": peak_mib(),
        "panel_mib": panel.values.nbytes / 2**20,
        "share_available": there / panel.values.size,
    }


def _check_room(path: str, copies: int, folder: str) -> None:
    need = sum(len(chunk) for chunk in bars_in_chunks(path)) * copies * _BYTES_PER_BAR
    free = shutil.disk_usage(folder).free
    if free < need:
        raise BadInputError(
            f"{copies} copies need {need / 2**30:.1f} GiB below {folder}, which has {free / 2**30:.1f} GiB free; "
            "set TMPDIR to a disk with room or give fewer copies"
        )


def peak_mib() -> float:
    """Highest resident memory of this process so far. Of its own life only: a child inherits `ru_maxrss`."""
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
