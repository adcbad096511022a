"""Progress bars in a terminal; nothing elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from k4_pipeline.defs.progress import Callback

LONG_S = 2.0


class TerminalProgress:
    """A `defs.progress.Progress` that draws one bar per labelled piece of work."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
        )

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def of(self, label: str) -> Callback:
        """A callback that moves the bar of `label`."""
        task: TaskID | None = None
        began = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal task
            if task is None:
                task = self._bars.add_task(label, total=total)
            self._bars.update(task, completed=done, total=total)
            if done >= total and time.monotonic() - began < LONG_S:
                self._bars.remove_task(task)  # too short to be worth a line
                task = self._bars.add_task(label, total=total, completed=done, visible=False)

        return report
