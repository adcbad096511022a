"""How this package uses numba: one decorator, one cache that cannot go stale, one way to use several cores.

numba's on-disk cache looks only at the file of the function itself, not at the files of the functions it calls, so a
changed helper could leave an old kernel in use. The cache folder is therefore named after the source of the whole
package. Kernels are single-threaded and release the GIL; `run_chunks` spreads independent ranges over threads, which
needs no OpenMP and is safe from several Python threads and after a fork.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache


def _source_hash() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        text = path.read_bytes()
        # config/: kernels freeze the constants they read when they are compiled.
        if b"_numba" in text or path.parent.name == "config":
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(text)
    return digest.hexdigest()[:16]


if "NUMBA_CACHE_DIR" not in os.environ:
    _base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "k4_pipeline" / "numba"
    setattr(numba.config, "CACHE_DIR", str(_base / _source_hash()))  # noqa: B010  (mypy knows no such attribute)


def cache_dir() -> Path:
    """Where numba keeps compiled kernels."""
    return Path(vars(numba.config)["CACHE_DIR"])


@contextmanager
def _alone() -> Iterator[None]:
    """No other process stores a kernel; without a lock where the cache cannot be written."""
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
        lock = os.open(cache_dir() / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


class _SharedCache(FunctionCache):  # type: ignore[misc]
    """numba's cache, stored to by one process at a time.

    numba names the file of a kernel by a number it reads from an index; two processes that store kernels of two kinds
    of arguments at once can choose the same one.
    """

    def save_overload(self, sig: Any, data: Any) -> None:
        with _alone():
            super().save_overload(sig, data)


def njit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """`numba.njit` with the options every kernel here needs: cached on disk and free of the GIL.

    Raises `TypeError` for a cached closure without a `__qualname__` of its own. In machine code numba tells closures of
    one name apart by a number that each process counts anew, so kernels compiled by different processes, loaded
    together from the cache, would call each other's closures.
    """
    options = {"cache": True, "nogil": True, "error_model": "numpy", **options}
    if function is None:
        return partial(njit, **options)
    if options["cache"] and "<locals>" in function.__qualname__:
        raise TypeError(f"{function.__qualname__}: give this closure a __qualname__ that says what it closes over")
    compiled = numba.njit(**options)(function)
    if options["cache"]:
        compiled._cache = _SharedCache(function)
    return compiled


def n_threads() -> int:
    """Threads to use: `K4_THREADS` when set, else the cores this process may run on."""
    wanted = os.environ.get("K4_THREADS", "")
    if wanted:
        return max(1, int(wanted))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


_helpers: ThreadPoolExecutor | None = None  # threads that wait for work; made when first needed


def _helper_pool() -> ThreadPoolExecutor:
    global _helpers
    if _helpers is None:
        _helpers = ThreadPoolExecutor(max(32, n_threads()), thread_name_prefix="k4-kernels")
    return _helpers


def _forget_helpers() -> None:
    global _helpers
    _helpers = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)  # a forked child has none of its parent's threads


def run_chunks(function: Callable[[int, int], Any], n: int, chunk: int, threads: int | None = None) -> list[Any]:
    """Call `function(start, stop)` over consecutive ranges of `range(n)`; results in order, first error raised.

    The calling thread works too and needs no other one to finish, so calls may nest and run side by side.
    """
    bounds = [(start, min(start + chunk, n)) for start in range(0, n, max(1, chunk))]
    workers = min(threads or n_threads(), len(bounds))
    if workers <= 1:
        return [function(start, stop) for start, stop in bounds]
    results: list[Any] = [None] * len(bounds)
    errors: dict[int, BaseException] = {}
    turns = iter(range(len(bounds)))  # shared: each turn goes to one thread

    def work() -> None:
        for i in turns:
            try:
                results[i] = function(*bounds[i])
            except BaseException as error:
                errors[i] = error  # raised below, in the thread that asked
                for _ in turns:  # the rest is not worth beginning
                    pass

    futures = [_helper_pool().submit(work) for _ in range(workers - 1)]
    work()
    for future in futures:
        if not future.cancel():
            future.result()
    if errors:
        raise errors[min(errors)]
    return results
