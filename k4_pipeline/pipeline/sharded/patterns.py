"""Snapshots, labels, sequences and training windows over shards: each ticker is scanned, labelled and indexed alone.

What the whole universe decides, the last day of its data, is handed to every task.
"""

from __future__ import annotations

import pandas as pd

from k4_pipeline.config import LabelConfig, PatternConfig, PipelineConfig
from k4_pipeline.market.bars import Bars, to_day
from k4_pipeline.patterns.labels import label_snapshots
from k4_pipeline.patterns.snapshots import make_snapshots
from k4_pipeline.pipeline.sharded.engine import Progress, run_tasks, task_threads
from k4_pipeline.pipeline.sharded.store import Entry, Shards, ShardStore
from k4_pipeline.pipeline.training_windows import index_windows
from k4_pipeline.sequences.windows import index_sequences

_ROWS = ["end_row", "first_row", "start_row", "activation_row"]  # of the universe, not of the shard


def _bars(store: ShardStore, entry: Entry) -> Bars:
    return Bars.from_frame(store.table(entry))


def _moved(table: pd.DataFrame, start: int) -> pd.DataFrame:
    return table.assign(**{name: table[name] + start for name in _ROWS})


def _scan(url: str, bars: Entry, name: str, config: PatternConfig) -> Entry:
    store = ShardStore(url)
    return store.put_table(name, make_snapshots(_bars(store, bars), config, threads=task_threads()))


def _label(
    url: str, bars: Entry, name: str, snapshots: Entry, config: LabelConfig, exchange: str, data_end: int
) -> Entry:
    store = ShardStore(url)
    made = store.table(snapshots)
    return store.put_table(
        name, label_snapshots(_bars(store, bars), made, config, default_exchange=exchange, data_end=data_end)
    )


def _index(url: str, bars: Entry, name: str, snapshots: Entry) -> Entry:
    store = ShardStore(url)
    return store.put_table(name, _moved(index_sequences(_bars(store, bars), store.table(snapshots)), bars["start"]))


def _windows(url: str, bars: Entry, name: str, config: PipelineConfig, data_end: int) -> Entry:
    store = ShardStore(url)
    table = index_windows(_bars(store, bars), config, data_end=data_end)
    return store.put_table(name, _moved(table, bars["start"]))


def _over(shards: Shards, stage: str, task, more: list[tuple], progress: Progress) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    items = [
        (shards.store.url, entry, f"{stage}/{i:05d}.parquet", *extra)
        for i, (entry, extra) in enumerate(zip(shards.entries, more))
    ]
    table = shards.joined(run_tasks(shards.execution, task, items, progress))
    shards.store.remove(stage)
    return table


def _last_day(shards: Shards) -> int:
    return max(to_day(chunk.last_day) for chunk in shards.chunks())


def scan(shards: Shards, config: PatternConfig, progress: Progress = None) -> pd.DataFrame:
    """`patterns.snapshots.make_snapshots`."""
    return _over(shards, "snapshots", _scan, [(config,)] * len(shards.entries), progress)


def label(
    shards: Shards, snapshots: pd.DataFrame, config: LabelConfig, default_exchange: str, progress: Progress = None
) -> pd.DataFrame:
    """`patterns.labels.label_snapshots` of snapshots sorted by ticker."""
    parts, last = shards.parts(snapshots, "labels"), _last_day(shards)
    return _over(shards, "labels", _label, [(part, config, default_exchange, last) for part in parts], progress)


def sequences(shards: Shards, snapshots: pd.DataFrame, progress: Progress = None) -> pd.DataFrame:
    """`sequences.windows.index_sequences` of snapshots sorted by ticker."""
    parts = shards.parts(snapshots, "sequences")
    return _over(shards, "sequences", _index, [(part,) for part in parts], progress)


def windows(shards: Shards, config: PipelineConfig, progress: Progress = None) -> pd.DataFrame:
    """`pipeline.training_windows.index_windows`."""
    return _over(shards, "windows", _windows, [(config, _last_day(shards))] * len(shards.entries), progress)
