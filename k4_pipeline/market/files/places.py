"""Where files lie: on this machine, or in a store that fsspec reaches (`s3://bucket/prefix`, `gs://…`, `memory://…`).

A store is listed once, and each file is fetched in one request. Keys and the address of an S3-like store come from the
environment, as for every tool of Amazon's (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from k4_pipeline.errors import BadInputError

Stamp = tuple[str, ...]


def is_remote(path: object) -> bool:
    """Whether a path names a store and not a place on this machine."""
    return "://" in str(path)


def place_of(path: str | Path) -> Any:
    """A `pathlib.Path`, or its like for a store. `BadInputError` when the package of the store is not installed."""
    if not is_remote(path):
        return Path(path)
    from upath import UPath

    try:
        place = UPath(str(path))
        _ = place.fs
    except (ImportError, ValueError) as problem:
        raise BadInputError(
            f"{path} cannot be reached: {problem}; stores like S3 need: pip install 'k4-pipeline[s3]'"
        ) from problem
    return place


@contextmanager
def told(path: object) -> Iterator[None]:
    """What a store answers instead of a file, as `BadInputError` naming the path."""
    try:
        yield
    except FileNotFoundError as problem:
        raise BadInputError(f"{path} does not exist; check the path") from problem
    except Exception as problem:
        if not is_remote(path) or isinstance(problem, BadInputError):
            raise
        reason = " ".join(str(problem).split())[:200]  # every store has its own errors
        raise BadInputError(f"{path} cannot be read: {type(problem).__name__}: {reason}") from problem


def stamp_of(path: Any) -> Stamp:
    """Size and times of a file on this machine, or what a store says in their place: other content has another one."""
    if is_remote(path):
        return _stamp(path.fs.info(path.path))
    about = path.stat()
    return str(about.st_size), str(about.st_mtime_ns), str(about.st_ctime_ns)


def _stamp(info: dict[str, Any]) -> Stamp:
    marks = (info.get(name) for name in ("ETag", "etag", "LastModified", "mtime", "created", "md5Hash"))
    return str(info.get("size", "")), *(str(m) for m in marks if m)


def files_below(folder: Any) -> Iterator[tuple[Any, Stamp]]:
    """Every file that is not hidden, in order of its name; links to folders are followed once."""
    if is_remote(folder):
        with told(folder):
            found = folder.fs.find(folder.path, detail=True)
        base = folder.path.rstrip("/")
        for name, info in sorted(found.items()):
            relative = name[len(base) :].lstrip("/")
            if relative and info.get("size") and not any(p.startswith((".", "~", "_")) for p in relative.split("/")):
                yield folder / relative, _stamp(info)
        return
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith((".", "~", "__MACOSX")))
        for name in sorted(names):
            if not name.startswith((".", "~", "_")) and (path := Path(root) / name).is_file():
                yield path, stamp_of(path)


def open_bytes(path: Any) -> BinaryIO:
    """The bytes of a file as a stream; of a store in one request."""
    if is_remote(path):
        return io.BytesIO(path.fs.cat_file(path.path))
    return path.open("rb")  # type: ignore[no-any-return]
