"""How this package uses numba: one decorator, one cache that cannot go stale, one way to use several cores.

numba's on-disk cache looks only at the file of the function itself, not at the files of the functions it calls, so a
changed helper could leave an old kernel in use. The cache folder is therefore named after the source of the whole
package. Kernels are single-threaded and release the GIL; `run_chunks` spreads independent ranges over threads, which
needs no OpenMP and is safe from several Python threads and after a fork.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba


def _source_hash() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        text = path.read_bytes()
        # config.py: kernels freeze the constants they read when they are compiled.
        if b"_numba" in text or path.name == "config.py":
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(text)
    return digest.hexdigest()[:16]


if "NUMBA_CACHE_DIR" not in os.environ:
    _base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "k4_pipeline" / "numba"
    setattr(numba.config, "CACHE_DIR", str(_base / _source_hash()))  # noqa: B010  (mypy knows no such attribute)


def njit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """`numba.njit` with the options every kernel here needs: cached on disk and free of the GIL."""
    options = {"cache": True, "nogil": True, "error_model": "numpy", **options}
    return numba.njit(**options)(function) if function is not None else numba.njit(**options)


def n_threads() -> int:
    """Threads to use: `K4_THREADS` when set, else the cores this process may run on."""
    wanted = os.environ.get("K4_THREADS", "")
    if wanted:
        return max(1, int(wanted))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def run_chunks(function: Callable[[int, int], Any], n: int, chunk: int, threads: int | None = None) -> list[Any]:
    """Call `function(start, stop)` over consecutive ranges of `range(n)`; results in order, first error raised."""
    bounds = [(start, min(start + chunk, n)) for start in range(0, n, max(1, chunk))]
    workers = min(threads or n_threads(), len(bounds))
    if workers <= 1:
        return [function(start, stop) for start, stop in bounds]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda b: function(*b), bounds))
