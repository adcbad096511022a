"""Parquet files with page checksums and a sealed footer, written atomically and verified on every read.

Without page checksums most single-bit flips in a Parquet file become silently wrong values. Page checksums do not cover
the footer, where a flip renames a column or turns values into missing ones; so the footer's sha256 is put into the gap
between the last page and the footer, which every reader of the format skips. Every table this package stores goes
through `write_parquet` or `parquet_writer`, and every read of one through `read_parquet`.

pandas and pyarrow are imported when a table is touched: a command that looks at no table starts without them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from k4_pipeline.errors import K4Error, StaleArtifactError
from k4_pipeline.storage.atomic import atomic_path

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

_METADATA_KEY = b"k4_pipeline"
_OPTIONS: dict[str, Any] = {"write_page_checksum": True, "compression": "zstd", "compression_level": 1}

_SEAL = b"K4footer"
_TAIL = 8  # footer length (4 bytes) and magic (4 bytes) at the end of every Parquet file


def _footer(handle: BinaryIO) -> tuple[int, bytes]:
    """Where the footer begins, and its bytes with the tail; `OSError` when the file is no Parquet file."""
    size = handle.seek(0, os.SEEK_END)
    handle.seek(max(0, size - _TAIL))
    tail = handle.read()
    start = size - _TAIL - int.from_bytes(tail[:4], "little")
    if len(tail) != _TAIL or tail[4:] != b"PAR1" or start < 4:
        raise OSError("it does not end like a Parquet file")
    handle.seek(start)
    return start, handle.read()


def _seal(path: Path) -> None:
    with path.open("r+b") as handle:
        start, footer = _footer(handle)
        handle.seek(start)
        handle.write(_SEAL + hashlib.sha256(footer).digest() + footer)


def _check_seal(path: Path) -> None:
    """`OSError` when the footer differs from its seal. Files without a seal (of other writers) pass."""
    with path.open("rb") as handle:
        start, footer = _footer(handle)
        length = len(_SEAL) + hashlib.sha256().digest_size
        handle.seek(max(0, start - length))
        seal = handle.read(length)
    if seal.startswith(_SEAL) and seal[len(_SEAL) :] != hashlib.sha256(footer).digest():
        raise OSError("its footer does not match its checksum")


def _with_metadata(schema: pa.Schema, metadata: dict[str, Any] | None) -> pa.Schema:
    if not metadata:
        return schema
    text = json.dumps(metadata, sort_keys=True, allow_nan=False).encode()
    return schema.with_metadata({**(schema.metadata or {}), _METADATA_KEY: text})


def write_parquet(frame: pd.DataFrame | pa.Table, path: Path | str, metadata: dict[str, Any] | None = None) -> Path:
    """Write a table atomically with page checksums; `metadata` (JSON-safe) travels in the file's footer.

    The index is dropped: tables here have a RangeIndex. Equal tables give equal bytes (no time stamp is stored).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata(_with_metadata(table.schema, metadata).metadata)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, **_OPTIONS)
        _seal(temporary)
    return Path(path)


@contextlib.contextmanager
def parquet_writer(
    path: Path | str, schema: pa.Schema, metadata: dict[str, Any] | None = None
) -> Iterator[pq.ParquetWriter]:
    """A `pyarrow.parquet.ParquetWriter` for tables too large for memory; the file appears when the block ends well."""
    import pyarrow.parquet as pq

    with atomic_path(path) as temporary:
        with pq.ParquetWriter(temporary, _with_metadata(schema, metadata), **_OPTIONS) as writer:
            yield writer
        _seal(temporary)


def read_parquet(
    path: Path | str, columns: Sequence[str] | None = None, *, error: type[K4Error] = StaleArtifactError
) -> pd.DataFrame:
    """Read a stored table, page checksums verified; raises `error` (default `StaleArtifactError`) naming the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    try:
        _check_seal(path)
        table = pq.read_table(path, columns=list(columns) if columns else None, page_checksum_verification=True)
        return table.to_pandas()
    except FileNotFoundError as problem:
        raise error(f"{path} does not exist; materialize the asset that writes it") from problem
    except (OSError, pa.ArrowException, UnicodeDecodeError, ValueError, KeyError, MemoryError, TypeError) as problem:
        # What pyarrow raises for a damaged footer, page or pandas note differs by the byte that was hit.
        reason = " ".join(str(problem).split())[:300]
        raise error(f"{path} cannot be read: {reason}; the file is damaged or no Parquet file, write it again") from (
            problem
        )


def read_parquet_metadata(path: Path | str) -> dict[str, Any]:
    """The `metadata` given to `write_parquet`; empty when there was none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    try:
        _check_seal(path)
        stored = pq.read_schema(path).metadata or {}
        return json.loads(stored.get(_METADATA_KEY, b"{}"))
    except (OSError, pa.ArrowException, ValueError) as problem:
        raise StaleArtifactError(f"{path} cannot be read: {problem}; the file is damaged, write it again") from problem
