"""Each check in a process of its own: a cache, a patched module or a result left behind by another cannot hide a leak.

A request is a small JSON file that says where the context comes from: the artifact store, or the configured source run
through the path again. The child writes its verdict as JSON; a child that dies or says nothing is a failed check.
`python -m k4_pipeline.leakage.engine.isolated REQUEST` is that child.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k4_pipeline.config import PipelineConfig, from_dict, to_dict
from k4_pipeline.leakage.engine.audit import (
    AuditContext,
    AuditReport,
    AuditSample,
    load_checks,
    make_context,
    run_checks,
    what_is_there,
)
from k4_pipeline.verdict import Verdict


@dataclass(frozen=True)
class ContextSource:
    """Where a context comes from. `store`: root folder of the artifact store; "": the configured source is read."""

    config: PipelineConfig
    as_of: str
    sample: AuditSample
    store: str = ""
    today: str = ""

    def context(self) -> AuditContext:
        """Load or run it."""
        if self.store:
            from k4_pipeline.leakage.engine.artifacts import artifact_context
            from k4_pipeline.storage import ArtifactStore

            return artifact_context(ArtifactStore(self.store), self.config, self.as_of, self.sample)
        from k4_pipeline.market.sources import read_bars

        today = dt.date.fromisoformat(self.today) if self.today else None
        raw = read_bars(self.config.source, self.config.simulation)
        return make_context(raw, self.config, self.as_of, sample=self.sample, today=today)

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        fields = {"as_of": self.as_of, "store": self.store, "today": self.today}
        return {"config": to_dict(self.config), "sample": dataclasses.asdict(self.sample), **fields}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ContextSource:
        """The inverse of `to_json`."""
        config = from_dict(PipelineConfig, values.pop("config"))
        return cls(config=config, sample=AuditSample(**values.pop("sample")), **values)


def run_one(source: ContextSource, name: str, *, timeout_s: float | None = None) -> tuple[Verdict, float]:
    """One check in a fresh interpreter: its verdict and the seconds it took."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="k4-audit-") as folder:
        request, answer = Path(folder) / "request.json", Path(folder) / "verdict.json"
        request.write_text(json.dumps({"source": source.to_json(), "check": name, "answer": str(answer)}))
        command = [sys.executable, "-m", "k4_pipeline.leakage.engine.isolated", str(request)]
        root = str(Path(__file__).resolve().parents[2])
        search = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                env={**os.environ, "PYTHONPATH": search},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _lost(name, f"it took longer than {timeout_s:.0f} s"), time.perf_counter() - begin
        if done.returncode != 0 or not answer.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return _lost(name, f"its process ended with status {done.returncode}: {last}"), time.perf_counter() - begin
        stored = json.loads(answer.read_text())
    verdict = Verdict(**{**stored, "findings": tuple(stored["findings"])})
    return verdict, time.perf_counter() - begin


def _lost(name: str, why: str) -> Verdict:
    return Verdict(name, False, 0, (f"the check could not be evaluated: {why}",))


def run_isolated(
    source: ContextSource,
    context: AuditContext,
    names: Iterable[str] | None = None,
    *,
    workers: int = 1,
    budget_s: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AuditReport:
    """Every applicable check in its own process, `workers` at a time.

    `context` is only asked which checks apply. A check that finds no time left in `budget_s` counts as failed.
    """
    registry, there = load_checks(), what_is_there(context)
    wanted = list(registry) if names is None else list(names)
    report = AuditReport([], {})
    runnable = []
    for name in wanted:
        missing = registry[name].needs - there
        if missing:
            report.not_applicable[name] = f"needs {', '.join(sorted(missing))}"
        else:
            runnable.append(name)
    begin, done = time.perf_counter(), 0

    def one(name: str) -> tuple[Verdict, float]:
        nonlocal done
        left = None if budget_s is None else budget_s - (time.perf_counter() - begin)
        result = (_lost(name, "the time budget was spent"), 0.0) if left is not None and left <= 0 else None
        result = result or run_one(source, name, timeout_s=left)
        done += 1
        if progress is not None:
            progress(done, len(runnable))
        return result

    with ThreadPoolExecutor(max(1, workers)) as pool:
        for name, (verdict, seconds) in zip(runnable, pool.map(one, runnable)):
            report.verdicts.append(verdict)
            report.seconds[name] = seconds
    return report


def main(request: str) -> None:
    """The child: read the request, run the check, write the verdict."""
    values = json.loads(Path(request).read_text())
    context = ContextSource.from_json(values["source"]).context()
    report = run_checks(context, [values["check"]])
    verdict = report.verdicts[0] if report.verdicts else _lost(values["check"], str(report.not_applicable))
    Path(values["answer"]).write_text(json.dumps(verdict.to_dict(), default=str))


if __name__ == "__main__":
    main(sys.argv[1])
