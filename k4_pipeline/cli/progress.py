"""Progress in a terminal: what runs now, how far it is, and when the whole will be done. Nothing elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from k4_pipeline.progress import Progress as Callback

LONG_S = 2.0
TELLING_SHARE = 0.02
# Seconds of each step on the default market. They serve only the first estimate of a first run: as soon as steps have
# ended the estimate follows their real pace, and the next run starts from the times of this one.
FIRST_GUESS_S = {"trained_model": 40.0, "trained_model_checks": 30.0, "validation_report": 15.0}
OTHER_STEP_S = 1.5


def clock(seconds: float) -> str:
    """`1:05`, or `1:02:03` from an hour on."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class _Times(ProgressColumn):
    """Elapsed time and time to go."""

    def render(self, task: Task) -> Text:
        left = _left(task)
        eta = "" if left is None or task.finished else f"  ETA {clock(left)}"
        return Text(f"{clock(task.elapsed or 0)}{eta}", style="cyan")


def _left(task: Task) -> float | None:
    """Seconds to go: what the task itself estimates, else at its pace so far, which falls while nothing moves."""
    if "left" in task.fields:
        return task.fields["left"]()
    return _rest(task.elapsed or 0.0, task.completed / (task.total or 1.0))


def _rest(gone: float, share: float) -> float | None:
    """Seconds to go after `gone` seconds for `share` of the work; None while too little is done to tell."""
    return gone / share - gone if share > TELLING_SHARE else None


class TerminalProgress:
    """A `defs.progress.ProgressDisplay` that draws one bar per labelled piece of work; it fits 80 columns."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console = console
        self.shown = not quiet and console.is_terminal
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=18),
            TextColumn("{task.fields[count]}", markup=False),
            _Times(),
            console=console,
            disable=not self.shown,
            transient=True,
        )

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def moved(self, done: int, total: int) -> None:
        """The work inside the present step has come this far."""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One step; this class shows none."""
        yield

    def of(self, label: str) -> Callback:
        """A callback that moves the bar of `label`; the bar goes when it is full, with a line where it took long."""
        task: TaskID | None = None
        began = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal task
            self.moved(done, total)
            if task is None:
                task = self.bars.add_task(f"  {label}"[:34], total=total, count="")
            self.bars.update(task, completed=done, total=total, count=f"{done:,}/{total:,}")
            if done >= total:
                self.bars.remove_task(task)
                task = None
                if self.shown and time.monotonic() - began >= LONG_S:
                    self.console.print(f"  {label}: {clock(time.monotonic() - began)}", style="dim", highlight=False)

        return report


class RunProgress(TerminalProgress):
    """One bar over all `steps` of a run, above the bars of its parts, with an estimate of the time to go.

    `times_file` holds the seconds each step took last time; it is written when the run ends.
    """

    def __init__(self, console: Console, steps: Sequence[str], times_file: Path, *, quiet: bool = False) -> None:
        super().__init__(console, quiet=quiet)
        self._file = times_file
        self._known = _read(times_file)
        self._steps = list(steps)
        self._took: dict[str, float] = {}
        self._now: tuple[str, float] | None = None
        self._inside = 0.0
        self._began = time.monotonic()
        self._task = self.bars.add_task("starting", total=len(self._steps), count="", left=self.left)

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        if self._took:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps({**self._known, **self._took}))

    def _expected(self, step: str) -> float:
        return self._known.get(step) or FIRST_GUESS_S.get(step, OTHER_STEP_S)

    def left(self) -> float:
        """Estimated seconds to the end: the expected time of what is open, at the pace of what is done."""
        done = sum(self._expected(s) for s in self._took)
        pace = sum(self._took.values()) / done if done > 5 else 1.0
        coming = sum(self._expected(s) for s in self._steps if s not in self._took)
        if self._now is not None:
            name, since = self._now
            gone, here = time.monotonic() - since, self._expected(name)
            rest = max(here * pace - gone, _rest(gone, self._inside) or 0.0)
            return rest + (coming - here) * pace
        return coming * pace

    def moved(self, done: int, total: int) -> None:
        self._inside = done / max(total, 1)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show `name` as what runs now; a line remains of it where it took long."""
        began = time.monotonic()
        self._now, self._inside = (name, began), 0.0
        if name not in self._steps:
            self._steps.append(name)
        self._show(name)
        try:
            yield
        finally:
            self._took[name] = round(time.monotonic() - began, 2)
            self._now = None
            self._show(name)

    def say(self, text: str) -> None:
        """A line above the bars."""
        if self.shown:
            self.console.print(text, highlight=False)

    def _show(self, name: str) -> None:
        done, total = len(self._took), len(self._steps)
        step = min(done + (self._now is not None), total)
        self.bars.update(
            self._task, description=readable(name), completed=done, total=total, count=f"step {step} of {total}"
        )


def readable(step: str) -> str:
    """`labeled snapshots`, `checks of predictions`."""
    asset = step.removesuffix("_checks")
    return ("checks of " if step != asset else "") + asset.replace("_", " ")


def _read(file: Path) -> dict[str, float]:
    try:
        return {str(k): float(v) for k, v in json.loads(file.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
