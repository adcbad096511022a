"""An append-only file of JSON lines, each with its own checksum: what a crash or a flipped bit can do to it is seen.

A line is `<first 16 hex digits of the sha256 of the JSON> <JSON>`. A writer killed in the middle of a line leaves a
torn one, which the next reader reports and the next writer keeps apart. Callers hold a lock while they write.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from k4_pipeline.storage import atomic_write_bytes
from k4_pipeline.storage.atomic import open_regular


def _line(record: dict[str, Any]) -> bytes:
    text = json.dumps(record, separators=(",", ":"), allow_nan=False)
    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]} {text}\n".encode()


def _record(line: bytes) -> dict[str, Any]:
    """The record of one line; `ValueError` when the line is not what was written."""
    digest, _, text = line.partition(b" ")
    if hashlib.sha256(text).hexdigest()[:16].encode() != digest:
        raise ValueError("its checksum does not match")
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError("it holds no JSON object")
    return record


class Journal:
    """Append and read; `read` gives the whole records and one sentence per damaged line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, records: Iterable[dict[str, Any]]) -> None:
        """Write the records with one call and flush them to the disk; `OSError` when that fails."""
        data = b"".join(_line(record) for record in records)
        if not data:
            return
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                data = b"\n" + data  # a torn line keeps to itself
            while data:
                data = data[os.write(handle, data) :]
            os.fsync(handle)
        finally:
            os.close(handle)

    def read(self) -> tuple[list[dict[str, Any]], list[str]]:
        """All whole records in order, and a sentence for each damaged line."""
        try:
            with open_regular(self.path) as handle:
                lines = handle.read().split(b"\n")
        except FileNotFoundError:
            return [], []
        records, problems = [], []
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                records.append(_record(line))
            except ValueError as problem:  # JSON and UTF-8 errors are ValueErrors
                problems.append(f"{self.path}, line {number}: {problem}")
        return records, problems

    def replace(self, records: Iterable[dict[str, Any]]) -> None:
        """Put exactly these records in place of the file, atomically; the file as it was stays as `<name>.damaged`."""
        if self.path.exists():
            atomic_write_bytes(self.path.with_name(self.path.name + ".damaged"), self.path.read_bytes())
        atomic_write_bytes(self.path, b"".join(_line(record) for record in records))
        self.path.chmod(0o600)
