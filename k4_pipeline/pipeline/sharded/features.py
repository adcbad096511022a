"""The feature panel over shards."""

from __future__ import annotations

from pathlib import Path

from k4_pipeline.features.compute import compute_market_features
from k4_pipeline.features.panel import write_panel_stream
from k4_pipeline.market.bars import Bars
from k4_pipeline.pipeline.sharded.engine import Progress, run_tasks, task_threads
from k4_pipeline.pipeline.sharded.store import Entry, Shards, ShardStore

STAGE = "features"


def _compute(url: str, bars: Entry, name: str) -> Entry:
    store = ShardStore(url)
    return store.put_array(name, compute_market_features(Bars.from_frame(store.table(bars)), threads=task_threads()))


def write_panel(shards: Shards, dir: Path, progress: Progress = None) -> None:
    """`features.panel.write_panel_stream` with the channels computed by tasks; this process holds one shard."""
    items = [(shards.store.url, entry, f"{STAGE}/{i:05d}.npy") for i, entry in enumerate(shards.entries)]
    made = run_tasks(shards.execution, _compute, items, progress)
    write_panel_stream(shards.chunks(), dir, n_bars=shards.n_bars, computed=map(shards.store.array, made))
    shards.store.remove(STAGE)
