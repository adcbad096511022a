"""The context of every bar over shards, in two passes: by ticker, then by date.

The first pass computes what needs the ticker alone and cuts it into spans of dates; the second takes a span of dates of
all tickers, in the order of the tickers, and compares within each date. Neither sees more than its part.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from k4_pipeline.features import context, context_table
from k4_pipeline.market.bars import Bars, BarsFingerprint
from k4_pipeline.pipeline.sharded.engine import Progress, run_tasks, task_threads
from k4_pipeline.pipeline.sharded.store import Entry, Shards, ShardStore

STAGE = "context"


def _own(url: str, bars: Entry, edges: np.ndarray, name: str) -> list[list[Entry]]:
    """Of each span of dates: the dates (m,) and the columns (m, N_CONTEXT) of one ticker alone."""
    store = ShardStore(url)
    held = Bars.from_frame(store.table(bars))
    values = context.own_columns(
        held, np.zeros((len(held), context.N_CONTEXT), dtype=np.float32), threads=task_threads()
    )
    span = np.searchsorted(edges, held.date, side="right") - 1
    parts = []
    for i in range(len(edges) - 1):
        rows = span == i
        parts.append(
            [
                store.put_array(f"{STAGE}/own/{i}/{name}-dates.npy", held.date[rows]),
                store.put_array(f"{STAGE}/own/{i}/{name}-values.npy", values[rows]),
            ]
        )
    return parts


def _compare(url: str, parts: list[list[Entry]], name: str) -> Entry:
    store = ShardStore(url)
    dates = np.concatenate([store.array(of_dates) for of_dates, _ in parts])
    values = np.concatenate([store.array(of_values) for _, of_values in parts])
    return store.put_array(f"{STAGE}/done/{name}.npy", context.date_columns(dates, values, threads=task_threads()))


def write_context(shards: Shards, dir: Path, progress: Progress = None) -> None:
    """`features.context_table.write_context`, computed by tasks; this process holds the dates (4 bytes a bar)."""
    url, digest = shards.store.url, BarsFingerprint()
    parts = []
    for chunk in shards.chunks():
        digest.update(chunk)
        parts.append(chunk.date)
    date = np.concatenate(parts)
    days = np.unique(date)
    count = min(len(shards.entries), len(days))
    edges = np.append(days[np.arange(count) * len(days) // count], days[-1] + 1)
    items = [(url, entry, edges, f"{i:05d}") for i, entry in enumerate(shards.entries)]
    own = run_tasks(shards.execution, _own, items, progress)
    spans = [(url, [parts[i] for parts in own], f"{i:05d}") for i in range(count)]
    done = run_tasks(shards.execution, _compare, spans, progress)

    def fill(out: np.ndarray) -> None:
        for i, entry in enumerate(done):
            out[np.flatnonzero((date >= edges[i]) & (date < edges[i + 1]))] = shards.store.array(entry)

    context_table.write_values(dir, len(date), digest.hexdigest(), fill)
    shards.store.remove(STAGE)
