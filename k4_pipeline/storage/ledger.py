"""An append-only table in month folders: a row that was written once is never changed; a changed past is an error.

Layout below one folder: `month=YYYY-MM/<date>.<part>.parquet`, one file per append, and `chain.jsonl`, one line per
file in the order of the appends: name, rows, sha256, and a running sha256 over all lines so far. A file counts from the
moment its line is in the chain; one that was written without its line (the process died in between) is written again by
the next append of the same name. Reading verifies the chain and every file it names; `verify` also finds files that no
line names, and with them a chain that was cut short.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from k4_pipeline.errors import BadInputError, StaleArtifactError
from k4_pipeline.storage.atomic import atomic_write_text, file_lock, sha256_file
from k4_pipeline.storage.parquet import write_parquet

CHAIN = "chain.jsonl"
_NAME = re.compile(r"month=\d{4}-\d{2}/\d{4}-\d{2}-\d{2}\.[A-Za-z0-9_-]+\.parquet")


@dataclass(frozen=True)
class AppendOnlyTable:
    """Rows below `folder`, each named by the columns `keys`; the first of them is a date, the night of the append."""

    folder: Path
    keys: tuple[str, ...]

    def append(self, rows: pd.DataFrame, part: str) -> int:
        """Add the rows of one date; the number that were new. Rows stored already, with equal values, are left.

        `part` (letters, digits, `-`, `_`) tells the appends of one date apart. Raises `BadInputError` for rows of
        several dates, rows named twice, or a row whose key is stored with other values.
        """
        if rows.empty:
            return 0
        date = rows[self.keys[0]]
        if date.nunique() != 1:
            raise BadInputError(f"one append holds one {self.keys[0]}; these rows have {date.nunique()}")
        twice = rows.duplicated(list(self.keys))
        if twice.any():
            raise BadInputError(f"two rows have the key {self._named(rows[twice].iloc[0])}; every key is written once")
        day = pd.Timestamp(date.iloc[0])
        name = f"month={day:%Y-%m}/{day:%Y-%m-%d}.{part}.parquet"
        if not _NAME.fullmatch(name):
            raise BadInputError(f"{part!r} cannot be part of a file name; use letters, digits, - and _")
        self.folder.mkdir(parents=True, exist_ok=True)
        with file_lock(self.folder / ".lock"):
            entries = self.entries()
            new = self._new_rows(rows, [e for e in entries if _day(e) == day])
            if new.empty:
                return 0
            taken = {e["file"] for e in entries}
            stem, number = name.removesuffix(".parquet"), 1
            while name in taken:
                number += 1
                name = f"{stem}-{number}.parquet"
            target = self.folder / name
            target.parent.mkdir(exist_ok=True)
            write_parquet(new.reset_index(drop=True), target)
            entry = {"file": name, "rows": len(new), "sha256": sha256_file(target)}
            entry["head"] = _head(entries[-1]["head"] if entries else "", entry)
            lines = [json.dumps(e, sort_keys=True) for e in [*entries, entry]]
            atomic_write_text(self.folder / CHAIN, "\n".join(lines) + "\n")
        return len(new)

    def read(self, first: Any = None, last: Any = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Rows dated `first` to `last` (both included, None: open) in the order of the appends, every byte verified."""
        tables = []
        for entry in self.entries():
            day = _day(entry)
            if (first is not None and day < pd.Timestamp(first)) or (last is not None and day > pd.Timestamp(last)):
                continue
            table = self._verified(entry)
            tables.append(table if columns is None else table.select(list(columns)))
        return _frame(tables) if tables else pd.DataFrame()

    def dates(self) -> list[pd.Timestamp]:
        """The dates of the appends, each once, ascending."""
        return sorted({_day(entry) for entry in self.entries()})

    def verify(self) -> int:
        """Read everything and look for files that no line names; the number of rows. Raises `StaleArtifactError`."""
        entries = self.entries()
        rows = sum(self._verified(e).num_rows for e in entries)
        known = {e["file"] for e in entries}
        unexpected = sorted(
            p.relative_to(self.folder).as_posix()
            for p in self.folder.glob("month=*/*.parquet")
            if p.relative_to(self.folder).as_posix() not in known and not p.name.startswith(".")
        )
        if unexpected:
            raise StaleArtifactError(
                f"{self.folder / unexpected[0]} is not in {CHAIN}: left by an append that did not end, or put there by "
                "hand; repeat that night's run, or move the file away"
            )
        return rows

    def entries(self) -> list[dict[str, Any]]:
        """The lines of the chain, verified; `StaleArtifactError` names the first that does not fit."""
        path = self.folder / CHAIN
        if not path.is_file():
            return []
        entries: list[dict[str, Any]] = []
        head = ""
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                entry = json.loads(line)
                fits = entry["head"] == _head(head, entry) and _NAME.fullmatch(entry["file"]) is not None
            except (ValueError, KeyError, TypeError, RecursionError):
                fits = False
            if not fits:
                raise StaleArtifactError(
                    f"line {number} of {path} does not follow from the lines before: it was changed or damaged; "
                    "restore the file from a backup (the Parquet files beside it hold the rows)"
                )
            head = entry["head"]
            entries.append(entry)
        return entries

    def _verified(self, entry: dict[str, Any]) -> pa.Table:
        path = self.folder / entry["file"]
        if not path.is_file():
            raise StaleArtifactError(f"{path} is named in {CHAIN} but is gone; restore it from a backup")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise StaleArtifactError(
                f"{path} is not the file that was written: its sha256 differs from {CHAIN}; restore it"
            )
        table = _parsed(entry["sha256"], data)
        if table.num_rows != entry["rows"]:
            raise StaleArtifactError(f"{path} holds {table.num_rows} rows, {CHAIN} says {entry['rows']}; restore it")
        return table

    def _new_rows(self, rows: pd.DataFrame, entries: list[dict[str, Any]]) -> pd.DataFrame:
        """Those of `rows` that the files of the date do not hold; an error for one that is held with other values."""
        for entry in entries:
            stored = _frame([self._verified(entry)])
            shared = [c for c in rows.columns if c in stored.columns]
            both = rows.merge(stored[shared], on=list(self.keys), how="inner", suffixes=("", "_stored"), validate="1:1")
            for column in shared:
                if column in self.keys:
                    continue
                now, then = both[column], both[f"{column}_stored"]
                differs = ~((now == then) | (now.isna() & then.isna()))
                if differs.any():
                    row = both[differs].iloc[0]
                    raise BadInputError(
                        f"{column} of {self._named(row)} was written as {row[f'{column}_stored']} and would now be "
                        f"{row[column]}; what was said is not changed afterwards"
                    )
            held = rows[list(self.keys)].merge(stored[list(self.keys)], on=list(self.keys), how="left", indicator=True)
            rows = rows[(held["_merge"] == "left_only").to_numpy()]
        return rows

    def _named(self, row: pd.Series) -> str:
        return ", ".join(f"{key} {row[key]}" for key in self.keys)


class _Bytes:
    """The bytes of one file, told apart by their sha256: so that no file of many nights is parsed twice in a
    process."""

    def __init__(self, sha256: str, data: bytes) -> None:
        self.sha256, self.data = sha256, data

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bytes) and other.sha256 == self.sha256


@functools.lru_cache(maxsize=4096)
def _table_of(held: _Bytes) -> pa.Table:
    table = pq.read_table(pa.BufferReader(held.data), page_checksum_verification=True)
    held.data = b""
    return table


def _parsed(sha256: str, data: bytes) -> pa.Table:
    return _table_of(_Bytes(sha256, data))


def _frame(tables: list[pa.Table]) -> pd.DataFrame:
    """One table after the other; columns that a later version added are missing values in the earlier ones."""
    return pa.concat_tables(tables, promote_options="default").to_pandas()


def _day(entry: dict[str, Any]) -> pd.Timestamp:
    return pd.Timestamp(entry["file"].split("/")[1][:10])


def _head(before: str, entry: dict[str, Any]) -> str:
    text = json.dumps([before, entry["file"], entry["rows"], entry["sha256"]])
    return hashlib.sha256(text.encode()).hexdigest()
