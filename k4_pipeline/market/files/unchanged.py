"""What was read of a folder of files before, so that a file that has not changed is not read again.

One Arrow file per folder and way of reading holds the rows of all its files, as read and not yet judged. A file counts
as unchanged when size and times are those of then, or else its content is. Another version of the code that reads, or
another dialect given, starts anew. Nothing depends on it: without it everything is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from k4_pipeline.market.dialect import Dialect
from k4_pipeline.market.files.interpret import HowToRead, cells_again
from k4_pipeline.market.files.opening import Entry
from k4_pipeline.market.files.places import is_remote
from k4_pipeline.market.files.table import Days, FileBars
from k4_pipeline.storage.atomic import atomic_path

_VALUES = ("open", "high", "low", "close", "volume")
_DAYS = {"second": pa.int32(), "numeric": pa.bool_(), "wall": pa.int32(), "offset": pa.int32(), "zoned": pa.bool_()}
_COLUMNS = {
    "ticker": pa.int32(), "first": pa.int32(), "fault": pa.uint8(), **dict.fromkeys(_VALUES, pa.float64()), **_DAYS,
}  # fmt: skip


@cache
def _code() -> str:
    """Changes with every file that has a say in how a file is read."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for folder in (here, here.parent / "dialect"):
        for file in sorted(folder.glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


class Unchanged:
    """The rows of one folder as they were read before; `folder` None: nothing is known or kept."""

    def __init__(self, folder: Path | None, root: str, how: HowToRead) -> None:
        self.how = how
        self._files: dict[str, dict[str, Any]] = {}
        self._table: pa.Table | None = None
        self._fresh: dict[str, tuple[pa.Table, dict[str, Any]]] = {}
        self._used: set[str] = set()
        self.path = None if folder is None else folder / f"{_key(root, how)}.arrow"
        if self.path is not None and self.path.is_file():
            with contextlib.suppress(OSError, pa.ArrowException, ValueError, KeyError):  # damaged: read everything
                self._table = pa.ipc.open_file(pa.memory_map(str(self.path))).read_all()
                self._files = json.loads(self._table.schema.metadata[b"files"])

    def get(self, entry: Entry) -> FileBars | None:
        """The rows of a file as read before; None when it has changed or was not read."""
        known = self._files.get(entry.label)
        if known is None or self._table is None or not _same(known, entry):
            return None
        self._used.add(entry.label)
        part = self._table.slice(known["start"], known["rows"])
        column = {name: part.column(name).combine_chunks().to_numpy(zero_copy_only=False) for name in part.column_names}
        days = Days(column["first"].copy(), **{name: column[name] for name in known["days"]})
        if known["swapped"]:
            days.swapped = column["fault"] < 0  # its rows carry their fault already
        file = FileBars(
            entry.label, column["ticker"], known["names"], days, {v: column[v] for v in _VALUES},
            column["fault"].copy(), {int(row): tuple(cells) for row, cells in known["sent"].items()},
            Dialect(**known["dialect"]), list(known["notes"]), known["open_end"],
        )  # fmt: skip
        file.again = cells_again(entry, self.how, len(file))
        return file

    @property
    def unchanged(self) -> int:
        """How many files were not read again."""
        return len(self._used)

    def put(self, entry: Entry, file: FileBars) -> None:
        """Keep the rows of a file just read."""
        if self.path is None:
            return
        about: dict[str, Any] = {
            "stamp": list(entry.stamp), "digest": _digest(entry), "rows": len(file), "names": list(file.names),
            "days": [name for name in _DAYS if getattr(file.days, name) is not None],
            "swapped": file.days.swapped is not None,
            "sent": {str(row): list(cells) for row, cells in file.sent.items()},
            "dialect": dataclasses.asdict(file.dialect), "notes": list(file.notes), "open_end": file.open_end,
        }  # fmt: skip
        columns = {"ticker": file.ticker, "first": file.days.first.copy(), "fault": file.fault.copy(), **file.values}
        columns |= {name: getattr(file.days, name) for name in about["days"]}
        self._fresh[entry.label] = (_arrow(columns, len(file)), about)

    def save(self) -> None:
        """Write what there is now; a folder that cannot be written costs nothing but the next reading."""
        if self.path is None or (not self._fresh and self._used == self._files.keys()):
            return
        parts: list[pa.Table] = []
        files: dict[str, dict[str, Any]] = {}
        at = 0
        for label in sorted(self._used | self._fresh.keys()):
            if label in self._fresh:
                part, about = self._fresh[label]
            else:
                about = self._files[label]
                assert self._table is not None
                part = self._table.slice(about["start"], about["rows"])
            files[label] = {**about, "start": at}
            parts.append(part)
            at += about["rows"]
        schema = pa.schema(_COLUMNS, metadata={b"files": json.dumps(files).encode()})
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(self.path) as place, pa.ipc.new_file(str(place), schema) as out:
                for part in parts:
                    out.write_table(part.replace_schema_metadata(schema.metadata))


def _arrow(columns: dict[str, np.ndarray], n: int) -> pa.Table:
    absent = {name: np.zeros(n, dtype=kind.to_pandas_dtype()) for name, kind in _COLUMNS.items() if name not in columns}
    return pa.table({name: pa.array({**absent, **columns}[name], kind) for name, kind in _COLUMNS.items()})


def _key(root: str, how: HowToRead) -> str:
    return hashlib.sha256(json.dumps([root, dataclasses.asdict(how), _code()], default=str).encode()).hexdigest()[:24]


def _same(known: dict[str, Any], entry: Entry) -> bool:
    stamp = list(entry.stamp)
    if not stamp or known["stamp"] == stamp:
        return bool(stamp)
    return bool(known["digest"]) and known["stamp"][0] == stamp[0] and known["digest"] == _digest(entry)


def _digest(entry: Entry) -> str:
    """Of the content; "" for a store, which says itself when a file has changed, and for members of archives."""
    if is_remote(entry.path) or entry.member:
        return ""
    with entry.path.open("rb") as handle:
        return hashlib.file_digest(handle, "blake2b").hexdigest()[:32]
