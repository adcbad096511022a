"""`k4 bench scale`: time and peak memory of the data stages over shards, on copies of a universe, with either engine.

From a table of cleaned bars on disk to panel, context, snapshots, labels, sequences and training windows on disk, by
the code that the assets run where the bars are too many for one memory. Every size runs in a process of its own. Copies
are the same bars under other names. With `ray` the workers' memory is that of the largest of them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from k4_pipeline._numba import n_threads
from k4_pipeline.bench.environment import environment
from k4_pipeline.bench.memory import copies_of, peak_mib, simulated_bars
from k4_pipeline.config import ExecutionConfig, PipelineConfig
from k4_pipeline.pipeline.sharded import context, features, patterns
from k4_pipeline.pipeline.sharded.engine import cluster
from k4_pipeline.pipeline.sharded.store import Shards
from k4_pipeline.storage import parquet_writer, write_parquet

BARS_AHEAD = 375_000_000  # 60,000 tickers of 25 years


def run(
    bars: Path | str | None = None,
    copies: Sequence[int] = (1, 4, 16),
    engine: str = "local",
    shard_bars: int = ExecutionConfig.shard_bars,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """One row per size under `sizes`; how time per bar and memory grow; and 375 M bars by the slope of the last two."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(bars) if bars is not None else simulated_bars(Path(folder))
        rows = []
        for count in copies:
            spawn = multiprocessing.get_context("spawn")
            with tempfile.TemporaryDirectory(dir=folder) as own, ProcessPoolExecutor(1, mp_context=spawn) as pool:
                rows.append(pool.submit(_measure, path, count, own, engine, shard_bars).result())
            say(str(rows[-1]))
    first, last = rows[0], rows[-1]
    return {
        "engine": engine,
        "sizes": {f"{count}x": row for count, row in zip(copies, rows, strict=True)},
        "bars_growth": last["bars"] / first["bars"],
        "time_growth": last["seconds"] / first["seconds"],
        "peak_growth": last["peak_mib"] / first["peak_mib"],
        "at_375_million_bars": _ahead(rows),
        "shard_bars": shard_bars,
        "threads": n_threads(),
        **environment(torch.device("cpu")),
    }


def _ahead(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Along the line through the two largest sizes (through nothing and the only one)."""
    last = rows[-1]
    before = rows[-2] if len(rows) > 1 else {"bars": 0, "seconds": 0.0, "peak_mib": 0.0}
    share = (BARS_AHEAD - last["bars"]) / (last["bars"] - before["bars"])
    return {name: last[name] + share * (last[name] - before[name]) for name in ("seconds", "peak_mib")}


def _measure(path: str, copies: int, folder: str, engine: str, shard_bars: int) -> dict[str, Any]:
    place, config = Path(folder), PipelineConfig()
    execution = ExecutionConfig(engine=engine, shard_bars=shard_bars)  # type: ignore[arg-type]
    schema = pa.Table.from_pandas(next(copies_of(path, 1)).to_frame(), preserve_index=False).schema
    with parquet_writer(place / "bars.parquet", schema) as writer:
        for chunk in copies_of(path, copies):
            writer.write_table(pa.Table.from_pandas(chunk.to_frame(), schema=schema, preserve_index=False))
    seconds: dict[str, float] = {}
    before, rows = peak_mib(), {}

    @contextlib.contextmanager
    def timed(name: str) -> Any:
        begin = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - begin, 2)

    with cluster(execution) if engine == "ray" else contextlib.nullcontext():
        with timed("shards"):
            shards = Shards.of(place / "bars.parquet", "0" * 16, execution, str(place / "shards"))
        with timed("market_features"):
            features.write_panel(shards, place)
        with timed("context_features"):
            context.write_context(shards, place)
        with timed("snapshots"):
            made = patterns.scan(shards, config.patterns)
        with timed("labels"):
            labels = patterns.label(shards, made, config.labels, config.cleaning.default_exchange)
        with timed("sequences"):
            sequences = patterns.sequences(shards, made)
        with timed("training_windows"):
            windows = patterns.windows(shards, config)
        for name, table in (("labels", labels), ("sequences", sequences), ("windows", windows)):
            write_parquet(table, place / f"{name}.parquet")
            rows[name] = len(table)
        workers = _workers_mib() if engine == "ray" else 0.0
    return {
        "bars": shards.n_bars,
        "shards": len(shards.entries),
        "seconds": round(sum(seconds.values()), 2),
        "stages": seconds,
        "rows": rows,
        "peak_before_mib": before,
        "peak_mib": peak_mib(),
        "worker_peak_mib": workers,
    }


def _workers_mib() -> float:
    """The highest peak of a Ray worker of this machine."""
    peaks = [0.0]
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, StopIteration):
            if (folder / "cmdline").read_bytes().startswith(b"ray::"):
                line = next(x for x in (folder / "status").read_text().splitlines() if x.startswith("VmHWM"))
                peaks.append(int(line.split()[1]) / 1024)
    return max(peaks)
