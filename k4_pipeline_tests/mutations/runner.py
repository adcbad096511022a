"""Runs the audit on every planted leak, on its benign mutant and on clean universes, and counts what was noticed.

A leak is detected when at least one check of the audit fails while it is planted, and holds on the same universe
without it (the baseline); a false alarm is a clean run, a baseline or a benign mutant in which a check fails. A `quick`
run looks at everything, quick checks before the exhaustive replays, and stops at the first that fires; the published
table runs every check once, on a sample of the tickers.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from k4_pipeline.errors import ConfigError
from k4_pipeline.leakage.engine.audit import AuditSample
from k4_pipeline.verdict import Verdict
from k4_pipeline_tests.mutations.all_mutations import load_mutations
from k4_pipeline_tests.mutations.registry import Mutation
from k4_pipeline_tests.mutations.universe import KINDS, available_kinds, make_universe

Progress = Callable[[int, int], None]
SELF_TEST = "every_check_can_fail"
# About the audit, not about the data: asked where the audit itself is the subject, and on runs without any change.
SELF_TESTS = (SELF_TEST, "checks_of_stored_tables_can_fail", "the_integrity_tests_can_fail_and_pass")
FITS_AGAIN = "fitting_reads_only_rows_known_at_as_of"

# These replay every single bar and snapshot; whatever shows elsewhere shows sooner.
EXHAUSTIVE = ("every_bar_is_reproduced_as_the_last_one", "every_snapshot_is_reproduced_as_the_last_bar")
# Of the others, the ones that see most.
TELLING = (
    "snapshots_are_those_of_an_independent_scan",
    "everything_is_reproduced_from_bars_cut_at_a_date",
    "membership_is_reproduced_from_bars_cut_before_as_of",
    "every_bar_is_a_row_as_sent",
    "labels_are_those_of_an_independent_race",
)

# Clean runs, benign mutants and the table run every check, on a sample: three tickers, each cut at some of its bars and
# snapshots, and the universe cut at two dates.
LIGHT = AuditSample(
    tickers=3, cell_cuts=100, snapshot_cuts=12, cut_dates=2, corrupted_dates=1, input_rows=40, tensor_rows=150
)


@dataclass(frozen=True)
class Task:
    """One run: a leak ("planted"), its benign mutant ("benign"), the unmodified pipeline on the same universe
    ("baseline") or on one of another make ("clean")."""

    what: str
    leak: str
    kind: str
    seed: int
    quick: bool

    @property
    def varied(self) -> bool:
        """Clean runs vary the world, the number of tickers and the length of the history."""
        return self.what == "clean"


@dataclass
class Outcome:
    """What the audit said in one run."""

    task: Task
    fired: list[str]
    seconds: dict[str, float]
    findings: dict[str, str] = field(default_factory=dict)  # the first finding of each check that fired
    error: str = ""
    asked: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0  # of this process, the universe included

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def _rounds(leak: Mutation | None, task: Task, names: list[str]) -> list[tuple[str | None, list[str]]]:
    """What is run, one round after the other until something fires: with or without a model, and which checks.

    A quick run asks on the tables alone first, which needs no training, then with a model. In each round come the
    expected checks, then the others, and the exhaustive replays only if all of those are silent. Benign mutants of
    leaks that come before the model are run without one.
    """
    if leak is None:
        return [("train", [n for n in names if n != SELF_TEST or task.what == "baseline"])]
    others = [n for n in names if n not in SELF_TESTS or leak.stage == "audit"]
    if task.what == "benign" and not leak.needs_model:
        return [(None, [n for n in others if n != FITS_AGAIN])]
    if not task.quick:
        return [("train", others)]
    ordered = in_order(list(leak.expected_checks), others)
    if leak.needs_model:
        return [("train", ordered)]
    return [(None, [n for n in ordered if n not in EXHAUSTIVE]), ("train", ordered)]


def in_order(expected: list[str], names: list[str]) -> list[str]:
    """All of `names`, the expected and the most telling ones first, the exhaustive ones last."""
    quick = [n for n in (*expected, *TELLING, *names) if n in names and n not in EXHAUSTIVE]
    slow = [n for n in (*expected, *EXHAUSTIVE) if n in names and n in EXHAUSTIVE]
    return list(dict.fromkeys([*quick, *slow]))


def run_audit(raw: Any, config: Any, as_of: str, *, checks: Any = None, stop: bool = False, **of_path: Any) -> Any:
    """Run the path on `raw`, then every check (or `checks`) on what came out; `of_path` as for `audit.make_context`.

    A path that raises is a failed audit, with the error in the report: no check can vouch for it.
    """
    from k4_pipeline.leakage.engine import audit

    begin = time.perf_counter()
    try:
        context = audit.make_context(raw, config, as_of, **of_path)
    except Exception as error:
        text = f"the path could not be run: {type(error).__name__}: {error}"
        failed = Verdict("the_path_runs", False, 0, (text,))
        return audit.AuditReport([failed], {"the_path_runs": time.perf_counter() - begin}, error=text)
    path_seconds = time.perf_counter() - begin
    report = audit.run_checks(context, checks, stop_at_failure=stop)
    report.seconds = {"path": path_seconds, **report.seconds}
    return report


def run_task(task: Task) -> Outcome:
    """Patch, run the path and the audit on it, and report. Never raises for what the pipeline does."""
    from k4_pipeline.leakage.engine import audit

    begin = time.process_time()
    # Before anything is planted: a module first imported while a function is replaced would keep the replacement.
    checks = list(audit.load_checks())
    universe = make_universe(task.kind, task.seed, task.varied)
    leak = load_mutations()[task.leak] if task.leak else None
    planted: Any = contextlib.nullcontext
    if leak is not None:
        planted = leak.patch if task.what == "planted" else leak.benign
    exhaustive = task.quick or task.what == "baseline"
    sample = audit.AuditSample.named("small") if exhaustive and (leak is None or leak.stage != "audit") else LIGHT
    outcome = Outcome(task, [], {})
    with planted():
        for model, names in _rounds(leak, task, checks):
            report = run_audit(
                universe.raw,
                universe.config,
                universe.as_of,
                sample=sample,
                model=model,
                today=universe.today,
                checks=names,
                stop=task.quick,
            )
            for name, spent in report.seconds.items():
                outcome.seconds[name] = outcome.seconds.get(name, 0.0) + spent
            outcome.asked += [v.name for v in report.verdicts]
            failed = [v for v in report.verdicts if not v.holds]
            outcome.fired, outcome.error = [v.name for v in failed], report.error
            outcome.findings = {v.name: v.findings[0] if v.findings else "" for v in failed}
            if outcome.fired:
                break
    outcome.cpu_seconds = time.process_time() - begin
    return outcome


def _start_worker() -> None:
    import pandas as pd
    import torch

    from k4_pipeline.leakage.engine import audit

    torch.set_num_threads(1)
    pd.set_option("mode.string_storage", "python")
    audit.load_checks()
    load_mutations()


def _weight(task: Task) -> tuple[bool, bool]:
    """Longest first, so that no process ends alone: the check of the checks, then whole runs, then quick ones."""
    audits_itself = task.what == "baseline" or (task.leak != "" and load_mutations()[task.leak].stage == "audit")
    return not audits_itself, task.quick


@contextlib.contextmanager
def _for_small_tables() -> Iterator[None]:
    """One thread a process, and strings kept as Python objects.

    The universes are so small that threads only wait for each other, and that Arrow costs more than it saves.
    """
    import pandas as pd
    import torch

    before, environment = torch.get_num_threads(), {k: os.environ.get(k) for k in ("K4_THREADS", "OMP_NUM_THREADS")}
    os.environ.update({"K4_THREADS": "1", "OMP_NUM_THREADS": "1"})
    torch.set_num_threads(1)
    try:
        with pd.option_context("mode.string_storage", "python"):
            yield
    finally:
        torch.set_num_threads(before)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_tasks(tasks: list[Task], *, jobs: int = 1, progress: Progress | None = None) -> list[Outcome]:
    """All tasks, in `jobs` processes (1: in this one); outcomes in the order of the tasks."""
    order = sorted(range(len(tasks)), key=lambda i: _weight(tasks[i]))
    with _for_small_tables():
        if jobs <= 1:
            outcomes = []
            for done, task in enumerate(tasks, start=1):
                outcomes.append(run_task(task))
                if progress is not None:
                    progress(done, len(tasks))
            return outcomes
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker) as pool:
            made: dict[int, Outcome] = {}
            for i, outcome in zip(order, pool.map(run_task, [tasks[i] for i in order])):
                made[i] = outcome
                if progress is not None:
                    progress(len(made), len(tasks))
        return [made[i] for i in range(len(tasks))]


def choose(names: list[str], sample: int | None) -> list[str]:
    """All leaks, or `sample` of them spread over the stages in turn."""
    if sample is None or sample >= len(names):
        return names
    if sample < 1:
        raise ConfigError(f"a sample of {sample} leaks proves nothing; ask for one or more")
    registry = load_mutations()
    queues: dict[str, list[str]] = {}
    for name in names:
        queues.setdefault(registry[name].stage, []).append(name)
    chosen: list[str] = []
    while len(chosen) < sample:
        for queue in queues.values():
            if queue and len(chosen) < sample:
                chosen.append(queue.pop(0))
    return [name for name in names if name in chosen]


def suite_tasks(
    names: list[str], kinds: tuple[str, ...], seeds: list[int], *, clean_runs: int, benign: bool, table: bool
) -> list[Task]:
    """All runs of a suite.

    Leaks in the audit itself do not depend on the bars: they are planted on the first kind of universe only.
    """
    registry, tasks = load_mutations(), []
    for kind in kinds:
        for seed in seeds:
            tasks.append(Task("baseline", "", kind, seed, quick=False))
            mine = [n for n in names if kind == kinds[0] or registry[n].stage != "audit"]
            tasks += [Task("planted", name, kind, seed, quick=True) for name in mine]
    for i in range(max(0, clean_runs - len(kinds) * len(seeds))):
        tasks.append(Task("clean", "", kinds[i % len(kinds)], 1000 + i // len(kinds), quick=False))
    if benign:
        tasks += [Task("benign", name, kind, seeds[0], quick=False) for kind in kinds for name in names]
    if table:
        tasks += [Task("planted", name, kinds[0], seeds[0], quick=False) for name in names]
    return tasks


def run_mutations(
    seeds: int | Iterable[int] = 3,
    universes: tuple[str, ...] = KINDS,
    sample: int | None = None,
    *,
    leaks: Iterable[str] | None = None,
    clean_runs: int = 200,
    benign: bool = True,
    table: bool = True,
    jobs: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Every leak (or a `sample`, or those named) on every seed and universe, benign mutants on the first, clean runs.

    `table`: on the first seed of the first universe every check is run on every leak, for the table by mutation and
    check; the other runs stop at the first check that fires. Universes that cannot be made here (no real bars) are left
    out and named. Returns a JSON-able dict, see `summarise`.
    """
    begin, cpu_begin = time.perf_counter(), processor_seconds()
    seed_list = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    kinds = available_kinds(tuple(universes))
    if not seed_list or not kinds:
        raise ConfigError("planting needs at least one seed and one universe that can be made here")
    known = load_mutations()
    names = list(known) if leaks is None else list(leaks)
    unknown = [n for n in names if n not in known]
    if unknown:
        raise ConfigError(f"no such planted leak: {', '.join(unknown)}; there are {', '.join(known)}")
    names = choose(names, sample)
    tasks = suite_tasks(names, kinds, seed_list, clean_runs=clean_runs, benign=benign, table=table)
    outcomes = run_tasks(tasks, jobs=jobs, progress=progress)
    left_out = tuple(k for k in universes if k not in kinds)
    seconds, cpu_seconds = time.perf_counter() - begin, processor_seconds() - cpu_begin
    return {**summarise(outcomes, left_out, seconds), "cpu_seconds": round(cpu_seconds, 1), "workers": jobs}


def processor_seconds() -> float:
    """Of this process and of all it has started and seen end, user and system, all threads."""
    return sum(os.times()[:4])


def summarise(outcomes: list[Outcome], left_out: tuple[str, ...], seconds: float) -> dict[str, Any]:
    """Counts and tables of a suite.

    `planted`: leaks tried; `detected`: leaks detected in every run; `planted_runs`, `detected_runs`: counted by run;
    `clean_runs`, `false_alarms`: unmodified runs, and those in which a check fired; `benign_runs`, `benign_alarms`
    alike; `not_detected`, `alarms`: which, with findings; `by_mutation`: one row per leak, with the checks that fired;
    `seconds_per_check`: mean; `cpu_seconds_by_kind`: of the runs of each kind, without starting the processes.
    """
    registry = load_mutations()
    alarmed = {(o.task.kind, o.task.seed): set(o.fired) for o in outcomes if o.task.what == "baseline"}
    planted = [o for o in outcomes if o.task.what == "planted"]
    noticed = {id(o): [c for c in o.fired if c not in alarmed.get((o.task.kind, o.task.seed), set())] for o in planted}
    rows = []
    for name in dict.fromkeys(o.task.leak for o in planted):
        mine = [o for o in planted if o.task.leak == name]
        quick = [o for o in mine if o.task.quick]
        fired = list(dict.fromkeys(c for o in sorted(mine, key=lambda o: o.task.quick) for c in noticed[id(o)]))
        first = next((o for o in quick if noticed[id(o)]), None)
        rows.append(
            {
                "name": name,
                "stage": registry[name].stage,
                "where": registry[name].where,
                "description": registry[name].description,
                "benign": registry[name].benign_does,
                "runs": len(quick),
                "detected": sum(bool(noticed[id(o)]) for o in quick),
                "fired": fired,
                "expected_fired": bool(set(fired) & set(registry[name].expected_checks)),
                "all_checks_run": len(quick) < len(mine),
                "finding": first.findings[noticed[id(first)][0]] if first else "",
            }
        )
    per_check: dict[str, list[float]] = {}
    for outcome in outcomes:
        for check, spent in outcome.seconds.items():
            per_check.setdefault(check, []).append(spent)
    clean = [o for o in outcomes if o.task.what in ("clean", "baseline")]
    quick_runs = [o for o in planted if o.task.quick]
    benign = [o for o in outcomes if o.task.what == "benign"]
    return {
        "planted": len(rows),
        "detected": sum(r["detected"] == r["runs"] for r in rows),
        "planted_runs": len(quick_runs),
        "detected_runs": sum(bool(noticed[id(o)]) for o in quick_runs),
        "clean_runs": len(clean),
        "false_alarms": sum(bool(o.fired) for o in clean),
        "benign_runs": len(benign),
        "benign_alarms": sum(bool(o.fired) for o in benign),
        "not_detected": [f"{o.task.leak} ({o.task.kind} {o.task.seed})" for o in quick_runs if not noticed[id(o)]],
        "alarms": [
            {
                "what": o.task.what,
                "leak": o.task.leak,
                "universe": f"{o.task.kind} {o.task.seed}",
                "findings": o.findings,
            }
            for o in (*clean, *benign)
            if o.fired
        ],
        "universes": sorted({o.task.kind for o in outcomes}),
        "universes_left_out": list(left_out),
        "seeds": sorted({o.task.seed for o in quick_runs}),
        "by_mutation": rows,
        "seconds_per_check": {c: round(sum(s) / len(s), 3) for c, s in sorted(per_check.items())},
        "cpu_seconds_by_kind": cpu_by_kind(outcomes),
        "seconds": round(seconds, 1),
    }


def cpu_by_kind(outcomes: list[Outcome]) -> dict[str, float]:
    """Processor seconds of the runs, summed by what they were."""
    spent: dict[str, float] = {}
    for outcome in outcomes:
        what = outcome.task.what
        if what == "planted" and not outcome.task.quick:
            what = "table"
        spent[what] = spent.get(what, 0.0) + outcome.cpu_seconds
    return {what: round(seconds, 1) for what, seconds in spent.items()}
