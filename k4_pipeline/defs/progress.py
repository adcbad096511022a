"""Progress of steps and long domain calls, shown where the run happens: in the Dagster log, or as bars in a terminal.

A domain function gets `ProgressDisplay.of(label)` as its `progress(done, total)`; what becomes of the numbers is
decided here. Dagster makes a resource again from its configuration before a run, so what a terminal shows cannot
travel in the resource: `showing` sets it for the run that executes in this thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

from k4_pipeline.progress import Progress


class ProgressDisplay(Protocol):
    """Hands out one callback per long call."""

    def of(self, label: str) -> Progress:
        """A callback for one labelled piece of work."""

    def step(self, name: str) -> AbstractContextManager[None]:
        """Entered while the step `name` (an asset, or `<asset>_checks`) works."""


class LogProgress:
    """Writes a line to `log` at most every `seconds`, so that a run page shows life without drowning in it."""

    def __init__(self, log: Callable[[str], None], seconds: float = 5.0) -> None:
        self._log = log
        self._seconds = seconds

    def of(self, label: str) -> Progress:
        """A callback whose lines read `label: done of total`."""
        last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= self._seconds:
                last = now
                self._log(f"{label}: {done:,} of {total:,}")

        return report

    def step(self, name: str) -> AbstractContextManager[None]:
        """Nothing: Dagster's own log says when a step begins and ends."""
        return nullcontext()


_shown: ContextVar[ProgressDisplay | None] = ContextVar("k4_progress", default=None)


@contextmanager
def showing(progress: ProgressDisplay | None) -> Iterator[None]:
    """Runs that execute inside this block report to `progress`."""
    token = _shown.set(progress)
    try:
        yield
    finally:
        _shown.reset(token)


def progress_of_run(log: Callable[[str], None]) -> ProgressDisplay:
    """What `showing` set, else lines in `log`."""
    return _shown.get() or LogProgress(log)
