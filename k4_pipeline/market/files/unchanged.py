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
import threading
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

_DAMAGED = (OSError, pa.ArrowException, ValueError, LookupError, TypeError, OverflowError, MemoryError)


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
    """The rows of one folder as they were read before; `folder` None: nothing is known or kept.

    A context: what is read in it is written as it comes, one batch per file, and takes the place of what was known when
    the context ends without an error. `keep` False: only look.
    """

    def __init__(self, folder: Path | None, root: str, how: HowToRead, *, keep: bool = True) -> None:
        self.how = how
        self._known: dict[str, dict[str, Any]] = {}
        self._fresh: dict[str, dict[str, Any]] = {}
        self._used: set[str] = set()
        self._file: pa.NativeFile | None = None
        self._readers: dict[tuple[str, ...], pa.RecordBatchFileReader] = {}  # by the columns that they read
        self._out: pa.RecordBatchFileWriter | None = None
        self._reading, self._writing = contextlib.ExitStack(), contextlib.ExitStack()
        self._lock = threading.Lock()
        self.path = None if folder is None else folder / f"{_key(root, how)}.arrow"
        self._keeps = keep and self.path is not None
        if self.path is not None and self.path.is_file():
            with contextlib.suppress(*_DAMAGED):
                # Damaged: everything is read. Not memory-mapped: pages of a map count as memory of this process.
                self._file = self._reading.enter_context(pa.OSFile(str(self.path)))
                reader = pa.ipc.open_file(self._file)
                index = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1).custom_metadata
                if index[b"code"].decode() == _code() and index[b"sha256"].decode() == _sha256(index[b"files"]):
                    self._known = json.loads(index[b"files"])

    def __enter__(self) -> Unchanged:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        with self._reading:
            if error is not None:
                self._writing.__exit__(kind, error, trace)
            elif self._keeps and (self._fresh or self._used != self._known.keys()):
                self._finish()

    def get(self, entry: Entry) -> FileBars | None:
        """The rows of a file as read before; None when it has changed or was not read."""
        known = self._known.get(entry.label)
        if known is None or not _same(known, entry):
            return None
        try:
            with self._lock:
                batch = self._read(known["batch"], _names(known["days"]))
            column = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names}
            if _sha256(*(column[name] for name in _names(known["days"]))) != known["sha256"]:
                return None  # damaged: the file is read again
        except _DAMAGED:
            return None
        with self._lock:
            self._used.add(entry.label)
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

    def _read(self, number: int, columns: tuple[str, ...]) -> pa.RecordBatch:
        if columns not in self._readers:
            places = sorted(list(_COLUMNS).index(name) for name in columns)
            options = pa.ipc.IpcReadOptions(included_fields=places)
            self._readers[columns] = pa.ipc.open_file(self._file, options=options)
        return self._readers[columns].get_batch(number)

    @property
    def unchanged(self) -> int:
        """How many files were not read again."""
        return len(self._used)

    def put(self, entry: Entry, file: FileBars) -> None:
        """Keep the rows of a file just read."""
        if not self._keeps:
            return
        about: dict[str, Any] = {
            "stamp": list(entry.stamp), "digest": _digest(entry), "names": list(file.names),
            "days": [name for name in _DAYS if getattr(file.days, name) is not None],
            "swapped": file.days.swapped is not None,
            "sent": {str(row): list(cells) for row, cells in file.sent.items()},
            "dialect": dataclasses.asdict(file.dialect), "notes": list(file.notes), "open_end": file.open_end,
        }  # fmt: skip
        columns = {"ticker": file.ticker, "first": file.days.first, "fault": file.fault, **file.values}
        columns |= {name: getattr(file.days, name) for name in about["days"]}
        batch = _batch(columns, len(file))
        kept = (batch.column(name).to_numpy(zero_copy_only=False) for name in _names(about["days"]))
        about["sha256"] = _sha256(*kept)
        with self._lock:
            self._write(entry.label, batch, about)

    def _write(self, label: str, batch: pa.RecordBatch, about: dict[str, Any]) -> None:
        if not self._keeps:
            return
        try:
            if self._out is None:
                assert self.path is not None
                place = self._writing.enter_context(atomic_path(self.path))
                self._out = self._writing.enter_context(pa.ipc.new_file(str(place), pa.schema(_COLUMNS)))
            self._out.write_batch(batch)
            self._fresh[label] = {**about, "batch": len(self._fresh)}
        except OSError as problem:
            self._give_up(problem)

    def _finish(self) -> None:
        """Behind the files just read those that did not change, then an empty batch that says where each lies."""
        for label in sorted(self._used):
            with contextlib.suppress(*_DAMAGED):
                self._write(label, self._read(self._known[label]["batch"], tuple(_COLUMNS)), self._known[label])
        try:
            if self._out is not None:
                files = json.dumps(self._fresh).encode()
                index = {"files": files, "code": _code(), "sha256": _sha256(files)}
                self._out.write_batch(_batch({}, 0), custom_metadata=index)
            self._writing.close()
        except OSError as problem:
            self._give_up(problem)

    def _give_up(self, problem: OSError) -> None:
        """A folder that cannot be written costs nothing but the next reading; what is half-written goes."""
        self._keeps, self._out = False, None
        with contextlib.suppress(OSError):
            self._writing.__exit__(type(problem), problem, problem.__traceback__)


def _names(days: list[str]) -> tuple[str, ...]:
    """The columns in use of a file with these readings of its dates."""
    return ("ticker", "first", "fault", *_VALUES, *days)


def _sha256(*parts: bytes | np.ndarray) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
    return digest.hexdigest()


def _batch(columns: dict[str, np.ndarray], n: int) -> pa.RecordBatch:
    absent = {name: np.zeros(n, dtype=kind.to_pandas_dtype()) for name, kind in _COLUMNS.items() if name not in columns}
    return pa.record_batch({name: pa.array({**absent, **columns}[name], kind) for name, kind in _COLUMNS.items()})


def _key(root: str, how: HowToRead) -> str:
    return hashlib.sha256(json.dumps([root, dataclasses.asdict(how)], default=str).encode()).hexdigest()[:24]


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
