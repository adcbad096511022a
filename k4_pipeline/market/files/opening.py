"""The bytes of a file or of a member of an archive, unpacked, within a limit of bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.files.places import Stamp, is_remote, open_bytes, stamp_of, told

PARQUET_SUFFIXES = (".parquet", ".pq")
FEATHER_SUFFIXES = (".feather", ".arrow", ".ipc")
DATABASE_SUFFIXES = (".duckdb", ".db")
TEXT_SUFFIXES = (".csv", ".txt", ".tsv")
PACKED_SUFFIXES = (".gz", ".bz2", ".xz")
_CHUNK = 1 << 22
_OPENERS: dict[str, Callable[..., object]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@dataclass(frozen=True)
class Entry:
    """One table: a file, or a member of a zip archive. `relative` is its place below the folder or archive read; `path`
    is that of a store, too (`places.py`)."""

    path: Path
    relative: Path
    member: str = ""
    stamp: Stamp = ()  # another one when the file has changed

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"{self.path}!{self.member}" if self.member else str(self.path)

    @property
    def suffix(self) -> str:
        """The suffix that tells the kind, without that of a compression."""
        return inner_suffix(self.relative)


def inner_suffix(path: Path) -> str:
    """`.csv` of `A.csv.gz`."""
    suffixes = [s.lower() for s in path.suffixes]
    while suffixes and suffixes[-1] in PACKED_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def is_bar_file(path: Path) -> bool:
    """Whether the name looks like a table that is read."""
    packed = path.suffix.lower() in PACKED_SUFFIXES
    typed = (*PARQUET_SUFFIXES, *FEATHER_SUFFIXES)
    return inner_suffix(path) in (TEXT_SUFFIXES if packed else (*TEXT_SUFFIXES, *typed, *DATABASE_SUFFIXES))


def zip_entries(path: Path) -> list[Entry]:
    """The tables in a zip archive. `BadInputError` when it is damaged."""
    stamp = stamp_of(path)
    try:
        found = _archive(path, stamp).infolist()
    except (OSError, zipfile.BadZipFile) as problem:
        raise BadInputError(f"{path} cannot be read: {problem}; the archive is damaged, get it again") from problem
    names = [i.filename for i in found if not i.is_dir() and "__MACOSX" not in i.filename]
    return [Entry(path, Path(name), name, stamp) for name in sorted(names) if is_bar_file(Path(name))]


@lru_cache(maxsize=4)
def _archive(path: Path, stamp: Stamp) -> zipfile.ZipFile:
    """An open archive: that of all US stocks has 12,000 members, and its directory is long to read."""
    return zipfile.ZipFile(open_bytes(path))


def read_bytes(entry: Entry, limit_bytes: int) -> bytes:
    """Everything, unpacked. `BadInputError` when it is missing, damaged or larger than the limit."""
    remote = is_remote(entry.path)
    if not remote and not entry.path.is_file():
        raise BadInputError(f"{entry.path} is no file; check the path")
    try:
        with told(entry.path):
            if entry.member:
                with _archive(entry.path, entry.stamp or stamp_of(entry.path)).open(entry.member) as handle:
                    return _unpacked(_inner(handle, entry.relative), entry.label, limit_bytes)
            opener = _OPENERS.get(entry.path.suffix.lower())
            if opener is None and int((entry.stamp or stamp_of(entry.path))[0] or 0) > limit_bytes:
                raise too_large(entry.label, limit_bytes)
            with open_bytes(entry.path) as plain:
                return _unpacked(cast(BinaryIO, opener(plain, "rb")) if opener else plain, entry.label, limit_bytes)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as e:
        raise BadInputError(f"{entry.label} cannot be read: {e}; the file is damaged or cut short, get it again") from e


def _inner(handle: object, relative: Path) -> BinaryIO:
    opener = _OPENERS.get(relative.suffix.lower())
    return cast(BinaryIO, opener(handle, "rb") if opener else handle)


def _unpacked(handle: BinaryIO, label: str, limit_bytes: int) -> bytes:
    out = io.BytesIO()
    while chunk := handle.read(_CHUNK):
        if out.tell() + len(chunk) > limit_bytes:
            raise too_large(label, limit_bytes)
        out.write(chunk)
    return out.getvalue()


def too_large(label: str, limit_bytes: int) -> BadInputError:
    """The refusal of a file that is larger than a table of daily bars has any reason to be."""
    return BadInputError(
        f"{label} holds more than {limit_bytes / 1e6:,.0f} MB (unpacked); "
        "split it, or raise the limit with --set source.max_file_mb=N"
    )
