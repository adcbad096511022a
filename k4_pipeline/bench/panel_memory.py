"""Peak memory and time of writing and reading the panel on 1x, 4x, 16x copies of a universe: flat, and linear.

Every size runs in a process of its own, whose peak resident memory is taken from the operating system. The copies are
the same bars under other names, streamed from the file again for each copy.
"""

from __future__ import annotations

import itertools
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from k4_pipeline.features.panel import read_panel, write_panel_stream
from k4_pipeline.features.stream import bars_in_chunks
from k4_pipeline.market.bars import Bars


def _copies(path: str, copies: int) -> Iterator[Bars]:
    for copy in range(copies):
        for chunk in bars_in_chunks(path):
            names = np.array([f"{copy:03d}~{name}" for name in chunk.tickers], dtype=object)
            yield replace(chunk, tickers=names)


def _measure(path: str, copies: int, folder: str) -> dict[str, float]:
    # One small chunk first: imports and compiled kernels are not part of what grows.
    write_panel_stream(itertools.islice(_copies(path, 1), 1), Path(folder), bars_fingerprint="warm-up")
    base = _peak_mib()
    begin = time.perf_counter()
    write_panel_stream(_copies(path, copies), Path(folder), bars_fingerprint="bench")
    written = time.perf_counter()
    write_peak = _peak_mib()
    panel = read_panel(Path(folder))
    total = 0.0
    for start in range(0, len(panel), 1 << 16):
        # A copy a chunk: what a consumer does that does not keep the map's pages.
        total += float(np.nansum(np.array(panel.values[start : start + (1 << 16), 0]), dtype=np.float64))
    return {
        "bars": len(panel),
        "write_s": written - begin,
        "read_s": time.perf_counter() - written,
        "peak_before_mib": base,
        "peak_mib": write_peak,
        "panel_mib": panel.values.nbytes / 2**20,
        "checksum": total,
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(bars: Path | str, copies: Sequence[int] = (1, 4, 16)) -> dict[str, Any]:
    """One row per size: bars, seconds to write and to read, peak MiB while writing; and the growth from first to last.

    `bars`: a Parquet table sorted by (ticker, date). Needs room on disk for the largest panel, 220 bytes a bar.
    """
    rows = {}
    context = multiprocessing.get_context("spawn")
    for count in copies:
        with tempfile.TemporaryDirectory() as folder, context.Pool(1) as pool:
            rows[f"{count}x"] = pool.apply(_measure, (str(bars), count, folder))
    first, last = rows[f"{copies[0]}x"], rows[f"{copies[-1]}x"]
    return {
        "sizes": rows,
        "peak_growth": last["peak_mib"] / first["peak_mib"],
        "write_time_growth": last["write_s"] / first["write_s"],
        "bars_growth": last["bars"] / first["bars"],
    }
