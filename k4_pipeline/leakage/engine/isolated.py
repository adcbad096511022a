"""Each check in a process of its own: a cache, a patched module or a result left behind by another cannot hide a leak.

The processes are forked from one parent that has imported the code and loaded the stored artifacts, and has computed
nothing from them. That is as good as a fresh interpreter that loads them itself: a child starts from what importing the
installed source and reading the verified files gives, and changes only its own copy (pages are copied on write). It
spares 50 times the import of torch and the reading of the tables, which was three quarters of the cost of an audit.
Where there is nothing stored (the code on the small universe) every child runs the path itself. A child that dies or
says nothing is a failed check. A check that needs no file is asked where none can be opened.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from k4_pipeline.config import PipelineConfig
from k4_pipeline.leakage.engine.audit import (
    AuditContext,
    AuditReport,
    AuditSample,
    load_checks,
    make_context,
    run_checks,
)
from k4_pipeline.leakage.engine.reduced import one_thread
from k4_pipeline.leakage.engine.sealed import seal_process
from k4_pipeline.progress import Progress
from k4_pipeline.verdict import Verdict

_PARENT_DEATH_SIGNAL = 1  # of prctl
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class ContextSource:
    """Where a context comes from. `store`: root folder of the artifact store; "": the configured source is read.

    `facts` and `export`: see `engine.artifacts.artifact_context`.
    """

    config: PipelineConfig
    as_of: str
    sample: AuditSample
    store: str = ""
    today: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    export: Callable[..., Any] | None = None

    def context(self) -> AuditContext:
        """Load or run it."""
        if self.store:
            from k4_pipeline.leakage.engine.artifacts import artifact_context
            from k4_pipeline.storage import ArtifactStore

            store = ArtifactStore(self.store)
            return artifact_context(store, self.config, self.as_of, self.sample, self.facts, self.export)
        import datetime as dt

        from k4_pipeline.market.sources import read_bars

        today = dt.date.fromisoformat(self.today) if self.today else None
        raw = read_bars(self.config.source, self.config.simulation)
        return make_context(raw, self.config, self.as_of, sample=self.sample, today=today)


@dataclass
class _Child:
    """A check under way, or several that look at the same worlds or fits."""

    names: list[str]
    process: Any
    answers: Connection
    begin: float
    own: tempfile.TemporaryDirectory[str] | None


def lost(name: str, why: str) -> Verdict:
    """The verdict of a check that said nothing."""
    return Verdict(name, False, 0, (f"the check could not be evaluated: {why}",))


def _child(context: Callable[[], AuditContext], names: list[str], answer: Connection, own: Path | None) -> None:
    """Run the checks, send their verdicts (or that they were left out, and why); `own`: the one folder to read in."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        if own is not None:
            seal_process(own)
        report = run_checks(context(), names)
        left = {"not_applicable": report.not_applicable, "not_proved": report.not_proved, "seconds": report.seconds}
        text = json.dumps({**left, "verdicts": [v.to_dict() for v in report.verdicts]}, default=str)
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = json.dumps({"error": f"{type(error).__name__}: {error} ({last.name}:{last.lineno})"})
    answer.send_bytes(text.encode())
    answer.close()
    os._exit(0)


def _start(context: Callable[[], AuditContext], names: list[str], *, sealed: bool) -> _Child:
    mine, theirs = _FORK.Pipe(duplex=False)
    own = tempfile.TemporaryDirectory(prefix="k4-audit-") if sealed else None
    arguments = (context, names, theirs, Path(own.name) if own else None)
    process = _FORK.Process(target=_child, args=arguments, daemon=True)
    process.start()
    theirs.close()
    return _Child(names, process, mine, time.perf_counter(), own)


def _finish(child: _Child, report: AuditReport) -> None:
    """Take a child's answer into the report."""
    try:
        answer = json.loads(child.answers.recv_bytes())
    except (EOFError, OSError):
        child.process.join()
        answer = {"error": f"its process ended with status {child.process.exitcode}"}
    child.process.join()
    if child.own is not None:
        child.own.cleanup()
    if "error" in answer:
        report.seconds[child.names[0]] = time.perf_counter() - child.begin
        report.verdicts += [lost(name, answer["error"]) for name in child.names]
        return
    report.seconds |= answer["seconds"]
    report.not_applicable |= answer["not_applicable"]
    report.not_proved |= answer["not_proved"]
    report.verdicts += [Verdict(**{**v, "findings": tuple(v["findings"])}) for v in answer["verdicts"]]


def end_with_parent() -> None:
    """From now on this process is killed when the one that started it ends (Linux)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def groups(names: list[str]) -> list[list[str]]:
    """The checks of one process each, in the order of their first."""
    registry, groups = load_checks(), dict[str, list[str]]()
    for name in names:
        groups.setdefault(registry[name].together or name, []).append(name)
    return list(groups.values())


def run_isolated(
    source: ContextSource,
    names: Iterable[str] | None = None,
    *,
    workers: int = 1,
    budget_s: float | None = None,
    stop_at_failure: bool = False,
    progress: Progress | None = None,
) -> AuditReport:
    """Every check (those of one `together` jointly) in a process of its own, `workers` processes at a time; verdicts in
    the order of the registry.

    `stop_at_failure`: nothing is begun after a check has failed. A check that finds no time left in `budget_s`, or is
    not done by then, is not proved.
    """
    registry = load_checks()
    wanted = list(registry) if names is None else list(names)
    report, todo = AuditReport([], {}), groups(wanted)[::-1]
    running: list[_Child] = []
    context = source.context
    if source.store:
        try:
            with one_thread():  # threads of OpenMP do not survive a fork
                loaded = source.context()
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            return AuditReport([lost(name, why) for name in wanted], {})

        def context() -> AuditContext:
            return loaded

    end = None if budget_s is None else time.perf_counter() + budget_s
    while todo or running:
        late = end is not None and time.perf_counter() >= end
        while todo and len(running) < max(1, workers) and not late:
            names = todo.pop()
            # Without a store every child reads the source and runs the path itself.
            sealed = bool(source.store) and not any(registry[name].reads_files for name in names)
            running.append(_start(context, names, sealed=sealed))
        if late:
            for child in running:
                child.process.kill()
                child.process.join()
            left = [*(child.names for child in running), *todo]
            report.not_proved |= dict.fromkeys(chain.from_iterable(left), "the time budget was spent")
            break
        left_s = None if end is None else max(0.0, end - time.perf_counter())
        ready = wait([child.answers for child in running], left_s)
        for child in [c for c in running if c.answers in ready]:
            running.remove(child)
            _finish(child, report)
            if progress is not None:
                progress(len(wanted) - sum(map(len, [*todo, *(c.names for c in running)])), len(wanted))
        if stop_at_failure and report.failed:
            todo = []
    order = {name: i for i, name in enumerate(wanted)}
    report.verdicts.sort(key=lambda v: order.get(v.name, -1))
    return report
