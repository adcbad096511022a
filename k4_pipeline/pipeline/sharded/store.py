"""Shards in an fsspec store: tables (Parquet) and arrays (npy), each found by its entry and verified by sha256."""

from __future__ import annotations

import hashlib
import io
import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from k4_pipeline.config.execution import ExecutionConfig
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.features.stream import bars_in_chunks
from k4_pipeline.market.bars import Bars

Entry = dict[str, Any]
MANIFEST = "bars/manifest.json"


class ShardStore:
    """Named files below one fsspec address."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = fsspec.core.url_to_fs(url)

    def put(self, name: str, data: bytes) -> Entry:
        """Store `data`; whoever reads the name finds the old or the new bytes, never a part. Returns the entry."""
        path = f"{self._root}/{name}"
        temporary = f"{path}.{secrets.token_hex(6)}"
        self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self._fs.pipe_file(temporary, data)
        self._fs.mv(temporary, path)
        return {"name": name, "sha256": hashlib.sha256(data).hexdigest()}

    def get(self, entry: Entry) -> bytes:
        """The bytes of an entry; `StaleArtifactError` when they are gone or not those that were written."""
        try:
            data = self.read(entry["name"])
        except FileNotFoundError:
            raise StaleArtifactError(f"shard {entry['name']} is not in {self.url}; run the step again") from None
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise StaleArtifactError(f"shard {entry['name']} in {self.url} is damaged; run the step again")
        return data

    def read(self, name: str) -> bytes:
        """The bytes under a name, unverified; `FileNotFoundError` when there are none."""
        return self._fs.cat_file(f"{self._root}/{name}")

    def put_file(self, name: str, path: Path) -> None:
        """Store a file as it is; large ones are not held in memory."""
        target = f"{self._root}/{name}"
        self._fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        self._fs.put_file(str(path), target)

    def get_file(self, name: str, path: Path) -> None:
        """Fetch what `put_file` stored; unverified."""
        self._fs.get_file(f"{self._root}/{name}", str(path))

    def put_table(self, name: str, table: pd.DataFrame) -> Entry:
        """A table without index."""
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), buffer, compression="zstd")
        return {**self.put(name, buffer.getvalue()), "rows": len(table)}

    def table(self, entry: Entry) -> pd.DataFrame:
        """The table of an entry, dtypes as they were."""
        return pq.read_table(io.BytesIO(self.get(entry))).to_pandas()

    def put_array(self, name: str, values: np.ndarray) -> Entry:
        """An array."""
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        return self.put(name, buffer.getvalue())

    def array(self, entry: Entry) -> np.ndarray:
        """The array of an entry."""
        return np.load(io.BytesIO(self.get(entry)), allow_pickle=False)

    def remove(self, name: str) -> None:
        """Remove everything below `name`."""
        if self._fs.exists(f"{self._root}/{name}"):
            self._fs.rm(f"{self._root}/{name}", recursive=True)

    def names(self, below: str = "") -> list[str]:
        """What lies directly below the address, or below a name of it."""
        root = f"{self._root}/{below}".rstrip("/")
        if not self._fs.exists(root):
            return []
        return [str(path).rstrip("/").rsplit("/", 1)[-1] for path in self._fs.ls(root, detail=False)]


@dataclass(frozen=True)
class Shards:
    """The bars of a universe. Entries have name, sha256, rows, start (row in the universe), first and last ticker."""

    execution: ExecutionConfig
    store: ShardStore
    entries: list[Entry]

    @classmethod
    def of(cls, bars: Path, key: str, execution: ExecutionConfig, url: str) -> Shards:
        """The shards of the stored table `bars`, cut when they are not there; `key` (16 hex digits) is its content."""
        everything = ShardStore(url)
        for other in everything.names():
            if other != key and re.fullmatch("[0-9a-f]{16}", other):  # shards of bars that were replaced
                everything.remove(other)
        store = ShardStore(f"{url.rstrip('/')}/{key}")
        name = f"{MANIFEST}.{execution.shard_bars}"
        try:
            return cls(execution, store, json.loads(store.read(name)))
        except (FileNotFoundError, ValueError):
            pass
        entries, start = [], 0
        for i, chunk in enumerate(bars_in_chunks(bars, chunk_bars=execution.shard_bars)):
            entry = store.put_table(f"bars/{execution.shard_bars}-{i:05d}.parquet", chunk.to_frame())
            ends = {"first": str(chunk.tickers[0]), "last": str(chunk.tickers[-1])}
            entries.append({**entry, **ends, "start": start})
            start += len(chunk)
        store.put(name, json.dumps(entries).encode())
        return cls(execution, store, entries)

    @property
    def n_bars(self) -> int:
        """Of the universe."""
        return sum(entry["rows"] for entry in self.entries)

    def chunks(self) -> Iterator[Bars]:
        """The bars, one shard at a time."""
        for entry in self.entries:
            yield Bars.from_frame(self.store.table(entry))

    def parts(self, table: pd.DataFrame, stage: str) -> list[Entry]:
        """The rows of `table` (sorted by ticker) of each shard, stored as shards of their own."""
        ticker = table["ticker"].to_numpy(dtype=object)
        out = []
        for i, entry in enumerate(self.entries):
            mine = (ticker >= entry["first"]) & (ticker <= entry["last"])
            out.append(self.store.put_table(f"{stage}/in-{i:05d}.parquet", table[mine]))
        return out

    def joined(self, entries: list[Entry]) -> pd.DataFrame:
        """The tables of all shards as one, in order."""
        tables = [self.store.table(entry) for entry in entries]
        filled = [table for table in tables if len(table)]
        return pd.concat(filled, ignore_index=True) if filled else tables[0]
