"""Errors of the machine in one sentence: what, where, how much is needed, what to do."""

from __future__ import annotations

import errno
import getpass
import shutil
from collections.abc import Iterator
from pathlib import Path

MIN_FREE_BYTES = 200 << 20  # a run of the embedded market writes about a quarter of this
_DATABASE = {  # what SQLite says, in any wrapping
    "database or disk is full": errno.ENOSPC,
    "readonly database": errno.EROFS,
    "unable to open database file": errno.EACCES,
    "disk I/O error": errno.EIO,
}
_BROKEN_DATABASE = ("file is not a database", "database disk image is malformed", "no such table")
ELSEWHERE = "or name another folder with --home"


def in_words(error: BaseException, home: Path | None = None) -> str | None:
    """One sentence for an error of disk, memory, port or nesting, anywhere in the chain of causes; None for others."""
    for cause in _chain(error):
        if isinstance(cause, RecursionError):
            return (
                "an input is nested deeper than any file this package writes; look for a damaged or foreign JSON file"
            )
        if isinstance(cause, MemoryError):
            return (
                "the memory is exhausted; take fewer tickers (--universe), a smaller --preset, or close other programs"
            )
        if type(cause).__name__.endswith(("DatabaseError", "OperationalError")) and any(
            text in str(cause) for text in _BROKEN_DATABASE
        ):
            folder = f"{home / 'dagster'}" if home else "`dagster` in the home folder"
            return (
                f"the run history in {folder} is damaged; move that folder away and run again: results, champion and "
                "ledger lie elsewhere and stay, only the list of past runs begins anew"
            )
        number = _number(cause)
        if number is not None:
            name = getattr(cause, "filename", None)
            sentence = _sentence(number, Path(str(name)) if name else home or Path(), home)
            if sentence:
                return sentence
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    if "OperationalError" in type(error).__name__:
        return next((number for text, number in _DATABASE.items() if text in str(error)), None)
    return None


def _sentence(number: int, path: Path, home: Path | None) -> str | None:
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"there is no space left for {path}: {_free(path) / 1e6:,.0f} MB are free, about "
            f"{needed_bytes(home) / 1e6:,.0f} MB are needed; free some, {ELSEWHERE}. Nothing that was stored is lost"
        )
    if number == errno.EROFS:
        return f"{path} cannot be written: its file system is read-only; make it writable, {ELSEWHERE}"
    if number in (errno.EACCES, errno.EPERM):
        return f"{path} may not be read or written by user {_user()}; change its owner or mode, {ELSEWHERE}"
    nowhere = number in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST)
    broken = next((p for p in (path, *path.parents) if nowhere and p.is_symlink() and not p.exists()), None)
    if broken is not None:
        return f"{broken} is a symbolic link to {broken.readlink()}, which is not there; mend the link, {ELSEWHERE}"
    if number in (errno.ENOTDIR, errno.EEXIST):
        return f"{_file_among(path)} is a file where a folder is needed; move it away, {ELSEWHERE}"
    if number == errno.EISDIR:
        return f"{path} is a folder where a file is needed; move it away, {ELSEWHERE}"
    if number == errno.ELOOP:
        return f"{path} leads through symbolic links in a circle; mend them, {ELSEWHERE}"
    if number == errno.ENAMETOOLONG:
        return f"the name {str(path)[:120]}… is longer than the file system takes; use a shorter one, {ELSEWHERE}"
    if number in (errno.ENOLCK, errno.ENOTSUP):
        return f"the file system of {path} keeps no locks, which runs need; use a local disk, {ELSEWHERE}"
    if number in (errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN):
        return f"the file system of {path} has gone away (its server, or its mount); mount it again, {ELSEWHERE}"
    if number == errno.EIO:
        return (
            f"the disk reports an input/output error at {path}; check the disk (its log, its cables), {ELSEWHERE}. "
            "Every stored file has a hash, so damage will be named when it is read"
        )
    if number in (errno.EMFILE, errno.ENFILE):
        return f"too many open files while {path} was opened; raise the limit (`ulimit -n`) or close other programs"
    if number == errno.EADDRINUSE:
        return "the port is in use, by another `k4 ui` perhaps; stop that, or name another with --port"
    return None


def needed_bytes(home: Path | None) -> int:
    """What the next run may write: as much as the artifacts hold now, and never less than `MIN_FREE_BYTES`."""
    folder = home / "artifacts" if home else None
    held = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) if folder and folder.is_dir() else 0
    return max(MIN_FREE_BYTES, held)


def _free(path: Path) -> int:
    there = next((p for p in (path, *path.absolute().parents) if p.exists()), Path("/"))
    return shutil.disk_usage(there).free


def _file_among(path: Path) -> Path:
    return next((p for p in (path, *path.absolute().parents) if p.is_file()), path)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "of this process"
