"""Progress of long domain calls, shown where the run happens: in the Dagster log, or as bars in a terminal.

A domain function gets `Progress.of(label)` as its `progress(done, total)`; what becomes of the numbers is decided here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

Callback = Callable[[int, int], None]


class Progress(Protocol):
    """Hands out one callback per long call."""

    def of(self, label: str) -> Callback:
        """A callback for one labelled piece of work."""


class LogProgress:
    """Writes a line to `log` at most every `seconds`, so that a run page shows life without drowning in it."""

    def __init__(self, log: Callable[[str], None], seconds: float = 5.0) -> None:
        self._log = log
        self._seconds = seconds

    def of(self, label: str) -> Callback:
        """A callback whose lines read `label: done of total`."""
        last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= self._seconds:
                last = now
                self._log(f"{label}: {done:,} of {total:,}")

        return report
