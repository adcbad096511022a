"""Files that appear under their final name complete or not at all: temporary name, fsync, rename, fsync of the folder.

Belongs here: the few file-system primitives that `storage_parquet` and `artifacts` stand on. A process killed at any
point leaves the old file untouched and at worst a hidden `.<name>.<random>.tmp` beside it, which the next write of the
same file removes when its writer is gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from k4_pipeline.errors import BadInputError

_CHUNK = 1 << 20
_ABANDONED_S = 3600.0  # a temporary file this old that nobody holds has no writer, whoever has its process number now


class NoFileError(BadInputError, ValueError):
    """Something else lies where a file should be."""


def fsync_path(path: Path) -> None:
    """Flush a file or a folder (its list of names) to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path` (made when missing); the kernel frees it when the process dies."""
    with path.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def open_regular(path: Path, flags: int = os.O_RDONLY) -> IO[bytes]:
    """Open a file (mode 666 less the umask where it is made); `NoFileError` for a pipe, socket or device.

    Opening those would wait for somebody at their other end.
    """
    strange = NoFileError(f"{path} is no regular file (a pipe, socket or device); move it away")
    try:
        number = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as problem:
        if problem.errno == errno.ENXIO:  # a pipe that nobody reads
            raise strange from None
        raise
    if not stat.S_ISREG(os.fstat(number).st_mode) and not stat.S_ISDIR(os.fstat(number).st_mode):
        os.close(number)
        raise strange
    return os.fdopen(number, "ab" if flags else "rb")


def try_lock(path: Path, *, shared: bool = False) -> IO[bytes] | None:
    """The open, locked file, or None when another holder lives; closing it frees the lock.

    With `shared` a file that may only be read will do, as on a file system that is read-only.
    """
    handle = open_regular(path) if shared else open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle


def _process_lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove_abandoned(path: Path) -> None:
    # Two proofs that the writer is gone: no such process here (or, in a container where numbers come again at once, a
    # file too old to be still written), and nobody holds the lock.
    for old in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        pid = old.name.split(".")[-2].partition("-")[0]
        with contextlib.suppress(FileNotFoundError, ValueError):
            gone = pid.isdecimal() and not _process_lives(int(pid))
            if gone or time.time() - old.stat().st_mtime > _ABANDONED_S:
                handle = try_lock(old, shared=True)
                if handle is not None:
                    old.unlink(missing_ok=True)
                    handle.close()


@contextlib.contextmanager
def atomic_path(path: Path | str, *, mode: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is fsynced and renamed to `path`, on an error it is removed.

    The parent folder is made when missing. For writers that want a file name (safetensors, a streaming Parquet writer);
    the writer must leave its bytes under that name, by writing into it or by replacing it. `mode`: its permissions,
    before the first byte is in it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    temporary = path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(6)}.tmp"
    with temporary.open("xb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if mode is not None:
            os.fchmod(handle.fileno(), mode)
        try:
            yield temporary
            fsync_path(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    fsync_path(path.parent)


def atomic_write_bytes(path: Path | str, data: bytes, *, mode: int | None = None) -> Path:
    """Write `data` so that `path` holds either what it held before or all of `data`; `mode`: its permissions."""
    with atomic_path(path, mode=mode) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def atomic_write_text(path: Path | str, text: str) -> Path:
    """`atomic_write_bytes` of UTF-8 text."""
    return atomic_write_bytes(path, text.encode())


def atomic_write_json(path: Path | str, value: Any) -> Path:
    """`atomic_write_bytes` of readable JSON; NaN and infinity are refused (`ValueError`): JSON has neither."""
    return atomic_write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256_file(path: Path | str) -> str:
    """Hex sha256 of a file's bytes, read in chunks."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as handle:
        while block := handle.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()
