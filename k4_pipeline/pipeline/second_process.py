"""A second process that loads torch while this one reads bars: a small night is mostly imports, and has two cores.

Inside `second_process()` `apart` calls a function there, elsewhere here: the same code on the same arguments, so the
result is the same to the last bit.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from k4_pipeline.progress import Progress

_other: Connection | None = None
_meanwhile: Callable[[], None] | None = None


@contextlib.contextmanager
def second_process(meanwhile: Callable[[], None] | None = None) -> Iterator[None]:
    """Start it, and end it; with one core there is none. `meanwhile`: what this process needs later, done before the
    first call, when the other one is still busy with its imports."""
    global _other, _meanwhile
    if (os.cpu_count() or 1) < 2:
        yield
        return
    _meanwhile = meanwhile
    spawn = multiprocessing.get_context("spawn")
    _other, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # so that it sees the end of this process, however that comes
    try:
        yield
    finally:
        _other.close()
        _other = _meanwhile = None
        process.terminate()  # it holds nothing but its memory
        process.join()


def apart(function: Callable[..., Any], *args: Any, progress: Progress | None = None, **kwargs: Any) -> Any:
    """`function(*args, progress=..., **kwargs)` in the second process where there is one (progress is not told then).

    `function` is one of a module. What it raises is raised here.
    """
    global _meanwhile
    if _other is None:
        return function(*args, progress=progress, **kwargs)
    if _meanwhile is not None:
        meanwhile, _meanwhile = _meanwhile, None
        meanwhile()
    try:
        _other.send((function, args, kwargs))
        result = _other.recv()
    except (EOFError, OSError) as gone:
        raise ChildProcessError(f"the process that computes {function.__name__} has died; was memory short?") from gone
    if isinstance(result, BaseException):
        raise result
    return result


def _serve(work: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the first process ends this one
    for name in ("todays_list", "model_files", "fit", "sources"):
        __import__(f"k4_pipeline.pipeline.{name}")
    with contextlib.suppress(EOFError, OSError):
        while True:
            function, args, kwargs = work.recv()
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                result = error
            work.send(result)
    os._exit(0)
