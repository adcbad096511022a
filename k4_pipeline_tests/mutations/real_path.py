"""The audit on the path people use: each leak is a patch of the source, run as `k4 run` and `k4 audit` from a shell.

`python -m k4_pipeline_tests.mutations.real_path --seeds 3 --out outcomes.jsonl`

A worker owns a copy of the package; a leak edits files of the copy, which are put back afterwards. Run and audit are
processes of their own (warm.py) with a home of their own, on a small market of CSV bars. A leak is found when the run
or the audit ends with a status other than 0; a clean variant is misjudged when one of them does. Every outcome is a
line of `--out` as soon as it is known; what stands there already is not tried again, so that a campaign can be split
and taken up. What was the first to find a leak in an earlier part is asked alone first; only where it holds are the
other checks asked.
A trial that fails for a reason of its own (a patch that does not fit, a command that cannot start or is killed) is a
line too; it counts neither way and is tried again. So is a leak that passes and leaves everything that is stored, and
every page, as an honest run with the same options does: it had nothing to act on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numba

from k4_pipeline.leakage.engine.audit import load_checks
from k4_pipeline.leakage.engine.small import small_config
from k4_pipeline.market.sources.simulated import simulate
from k4_pipeline_tests.mutations.copies import patched, python_path, restored, workers
from k4_pipeline_tests.mutations.source_patches import CLEAN, LEAKS, PATCHES, CleanVariant, Edit, SourceLeak
from k4_pipeline_tests.mutations.warm import Warm

SMALL = (
    "patterns.bbw_percentile_max=0.45",
    "patterns.volume_ratio_max=1.1",
    "patterns.range_ratio_max=1.2",
    "patterns.qualifying_bars=6",
    "patterns.max_active_bars=40",
    "patterns.min_history_bars=150",
    "labels.horizon_bars=30",
    "labels.gain_thresholds=0.02,0.04,0.06,0.09",
    "labels.stop_loss=0.05",
    "patterns.sample_probability=0.6",
    "split.validation_months=5",
    "split.min_train_rows=30",
    "integrity.bootstrap_draws=20",
    "controls.max_rows=200",
    "training.batch_size=128",
)
# Leaks are tried without the negative controls and the demo, which could only help to find them; clean variants with.
OF_LEAKS = ("controls.enabled=false", "proof.leak_demo=false", "trading.random_draws=10")
SELF_TESTS = ("leakage/engine/check_modules.py", '    "self_test",\n', "")
TICKERS, BARS = 14, 700
TIMEOUT_S = 400
# What differs between two honest runs.
PASSING = re.compile(
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?|v\d{8}T[\d.]+Z|[\d.]+ (s|seconds|minutes)\b|[0-9a-f-]{36}"
)
NOT_A_CHECK = ("ModuleNotFoundError", "ImportError", "NameError", "SyntaxError", "UnboundLocalError")


@dataclass
class Outcome:
    """One leak or clean variant on one market: exit statuses, what was found, processor seconds of both commands."""

    name: str
    kind: str
    seed: int
    clean: bool
    run_status: int
    audit_status: int | None
    found_by: list[str] = field(default_factory=list)
    first: str = ""
    run_seconds: float = 0.0
    audit_seconds: float = 0.0
    stored: dict[str, str] = field(default_factory=dict)  # asset or page -> fingerprint of what the run left
    not_tried: str = ""  # why it says nothing
    no_effect: bool = False  # it passed, and an honest run with the same options leaves the same

    @property
    def found(self) -> bool:
        """Whether a user would have been stopped."""
        return not self.not_tried and (self.run_status != 0 or self.audit_status != 0)


def without_self_tests(item: SourceLeak | CleanVariant) -> tuple[Edit, ...]:
    """The edits of a leak, and the longest check left out, the one of the checks themselves: it looks at the code on a
    universe of its own, and could only help to find the leak.

    It stays where a file of the checks is what the leak edits, and in the plain clean run.
    """
    if isinstance(item, CleanVariant):
        return () if not item.options else (SELF_TESTS,)
    if any(file.startswith("leakage/") for file, *_ in item.edits) or "function: audit" in item.kind:
        return item.edits
    return (*item.edits, SELF_TESTS)


def write_market(path: Path, seed: int) -> Path:
    """Bars of a small simulated market as one long CSV file, dead tickers and dirty rows included."""
    frame = simulate(small_config(seed, n_tickers=TICKERS, n_bars=BARS).simulation).frame
    frame.drop(columns="source").to_csv(path, index=False)
    return path


def _command(warm: Warm, worker: Path, home: Path, kernels: bool, *arguments: str) -> tuple[int, str, str, float]:
    """One command of the copy. `kernels`: compiled code is edited, so that none is taken from the clean copy."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("K4_")}
    environment |= {"PYTHONPATH": python_path(worker), "K4_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "1"}
    environment |= {"K4_THREADS": "1", "OMP_NUM_THREADS": "1"}
    if not kernels:
        environment["NUMBA_CACHE_DIR"] = str(numba.config.CACHE_DIR)
    options = [*arguments, "--home", str(home), "--json"]
    status, out, err, seconds = warm.run(worker, options, environment, home, TIMEOUT_S)
    return status, out, err[-2000:], seconds


def fingerprints(home: Path) -> dict[str, str]:
    """asset -> fingerprint of its newest version, page -> digest of its text: what a leak has changed differs from an
    honest run of its market."""
    found = {}
    for file in sorted((home / "reports").rglob("*.*")):
        if file.suffix in (".html", ".md") and file.is_file():
            text = PASSING.sub("", file.read_text())
            found[str(file.relative_to(home))] = hashlib.sha256(text.encode()).hexdigest()[:16]
    for file in sorted((home / "artifacts").glob("*/*/v*/manifest.json")):
        found[file.parent.parent.parent.name] = str(json.loads(file.read_text()).get("fingerprint", ""))[:16]
    return found


def _first_error(out: str) -> str:
    """The first error in what `k4 run --json` printed."""
    if not out.startswith("{"):
        return ""
    said = json.loads(out)
    errors = said.get("errors") or [said.get("error") or out]
    return str(errors[0])[:300]


class Trial:
    """One leak or clean variant on one market, in a home of its own."""

    def __init__(self, warm: Warm, worker: Path, item: SourceLeak | CleanVariant, seed: int, market: Path) -> None:
        self.warm, self.worker, self.item, self.seed = warm, worker, item, seed
        self.clean = isinstance(item, CleanVariant)
        sets = [text for s in (*SMALL, *(() if self.clean else OF_LEAKS)) for text in ("--set", s)]
        own = list(item.options)
        source = [] if "--world" in own or "--path" in own else ["--path", str(market)]
        self.options = ["--preset", "micro", "--epochs", "2", *sets, *source, *own]

    def outcome(self, hint: str = "") -> Outcome:
        """Run and audit it. `hint`: the check that is asked first, and alone."""
        with tempfile.TemporaryDirectory(prefix="k4-mutant-") as folder:
            home, edited = Path(folder) / "home", []
            try:
                edited = patched(self.worker, SourceLeak(self.item.name, "", without_self_tests(self.item)))
                kernels = any("njit" in path.read_text() for path in edited)
                made = self._tried(home, kernels, hint)
            finally:
                restored(self.worker, edited)
        if not self.clean and not made.found and not made.not_tried:
            made.no_effect = self._honest() == made.stored
        return made

    def _tried(self, home: Path, kernels: bool, hint: str) -> Outcome:
        run = _command(self.warm, self.worker, home, kernels, "run", *self.options)
        made = Outcome(self.item.name, self.item.kind, self.seed, self.clean, run[0], None, run_seconds=run[3])
        made.stored = fingerprints(home)
        if run[0] != 0:
            made.first = _first_error(run[1]) or run[2][-300:]
            if run[0] < 0 or any(word in made.first for word in NOT_A_CHECK):
                made.not_tried = f"{made.first} | status {run[0]} | {run[2][-600:]}"
            return made
        again = [] if self.clean else ["--stop-at-failure"]
        asked = [["--check", hint], again] if hint in load_checks() else [again]
        for options in asked:
            status, out, err, seconds = _command(
                self.warm, self.worker, home, kernels, "audit", "--workers", "1", *options
            )
            made.audit_status, made.audit_seconds = status, made.audit_seconds + seconds
            if status == 1:
                break
        if status < 0:
            made.not_tried = f"the audit ended with status {status} | {err[-600:]}"
        if not out.startswith("{"):
            made.first = err[-300:]
            return made
        result = json.loads(out)
        made.found_by = [v["name"] for v in result["verdicts"] if not v["passed"]]
        if not made.found_by:
            made.found_by = [f"not proved: {name}" for name in result["not_proved"]]
        made.first = next((v["findings"][0][:300] for v in result["verdicts"] if v["findings"]), "")
        return made

    def _honest(self) -> dict[str, str]:
        """What the code as it is leaves with the options of the leak."""
        with tempfile.TemporaryDirectory(prefix="k4-mutant-") as folder:
            home = Path(folder) / "home"
            _command(self.warm, self.worker, home, False, "run", *self.options)
            return fingerprints(home)


def run_all(
    tasks: list[tuple[Any, int]], jobs: int, work: Path, out: Path, *, until: float, hints: dict[str, str]
) -> list[Outcome]:
    """Every (item, seed) that can be begun before `until` (time.monotonic); `work` keeps the copies of the package."""
    free = workers(jobs, work)
    markets = {seed: write_market(work / f"market-{seed}.csv", seed) for seed in sorted({s for _, s in tasks})}
    lock, made = threading.Lock(), []
    warm = {worker: Warm({**os.environ, "OMP_NUM_THREADS": "1"}) for worker in free.queue}

    def one(task: tuple[Any, int]) -> None:
        if time.monotonic() > until:
            return
        item, seed = task
        worker = free.get()
        try:
            outcome = Trial(warm[worker], worker, item, seed, markets[seed]).outcome(hints.get(item.name, ""))
        except Exception as error:
            clean, why = isinstance(item, CleanVariant), f"{type(error).__name__}: {error}"
            outcome = Outcome(item.name, item.kind, seed, clean, -1, None, not_tried=why)
        finally:
            free.put(worker)
        with lock, out.open("a") as lines:
            made.append(outcome)
            lines.write(json.dumps(asdict(outcome)) + "\n")
            _say(outcome, len(made), len(tasks))

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, tasks))
    for parent in warm.values():
        parent.end()
    return made


def _say(outcome: Outcome, done: int, of: int) -> None:
    if outcome.not_tried:
        print(f"{done}/{of} NOT TRIED {outcome.name} [{outcome.seed}] {outcome.not_tried}", file=sys.stderr, flush=True)
        return
    passed = "NO EFFECT" if outcome.no_effect else "MISSED"
    word = ("ALARM" if outcome.found else "quiet") if outcome.clean else ("found" if outcome.found else passed)
    where = "run" if outcome.run_status else ", ".join(outcome.found_by)[:120]
    cost = f"{outcome.run_seconds:.0f}+{outcome.audit_seconds:.0f} s"
    head = f"{done}/{of} {word} {outcome.name} [{outcome.seed}] {cost}"
    print(f"{head} {where} | {outcome.first[:160]}", file=sys.stderr, flush=True)


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """Counts, misses, alarms and cost, JSON-able."""
    not_tried = sorted({f"{o.name} [{o.seed}]" for o in outcomes if o.not_tried})
    outcomes = [o for o in outcomes if not o.not_tried]
    leaks, clean = [o for o in outcomes if not o.clean], [o for o in outcomes if o.clean]
    audited = [o for o in clean if o.audit_status == 0 and o.run_seconds]
    cost = sum(o.audit_seconds for o in audited) / max(sum(o.run_seconds for o in audited), 1e-9)
    without_effect = sorted(f"{o.name} [{o.seed}]" for o in leaks if o.no_effect)
    never = {o.name for o in leaks} - {o.name for o in leaks if not o.no_effect}
    leaks = [o for o in leaks if not o.no_effect]
    missed = [o for o in leaks if not o.found]
    kinds = sorted({o.kind for o in leaks})
    by_kind = {k: {o.name: o.found for o in leaks if o.kind == k} for k in kinds}
    return {
        "not_tried": not_tried,
        "seeds": sorted({o.seed for o in outcomes}),
        "leaks": len({o.name for o in leaks}),
        "leaks_always_found": len({o.name for o in leaks} - {o.name for o in missed}),
        "leak_runs": len(leaks),
        "found_runs": sum(o.found for o in leaks),
        "found_by_run": sum(o.run_status != 0 for o in leaks),
        "missed": sorted(f"{o.name} [{o.seed}]" for o in missed),
        "without_effect": without_effect,
        "never_with_effect": sorted(never),
        "by_kind": {k: f"{sum(v.values())} of {len(v)}" for k, v in by_kind.items()},
        "clean_variants": len({o.name for o in clean}),
        "clean_runs": len(clean),
        "false_alarms": [asdict(o) for o in clean if o.found],
        "audit_cost": round(cost, 2),
        "processor_seconds": round(sum(o.run_seconds + o.audit_seconds for o in outcomes)),
    }


def in_turn(leaks: Iterable[SourceLeak]) -> list[SourceLeak]:
    """The first of every kind, then the second of every kind, and so on: a part of a campaign tells of every kind."""
    rank, order = Counter[str](), []
    for item in leaks:
        rank[item.kind] += 1
        order.append((rank[item.kind], item))
    return [item for _, item in sorted(order, key=lambda pair: pair[0])]


def read_outcomes(files: list[Path]) -> list[Outcome]:
    """The outcomes of earlier or other parts of a campaign."""
    lines = [line for file in files if file.exists() for line in file.read_text().splitlines()]
    every = [Outcome(**json.loads(line)) for line in lines]
    tried = {(o.name, o.seed): o for o in every if not o.not_tried}  # the last line counts
    return [*tried.values(), *{(o.name, o.seed): o for o in every if (o.name, o.seed) not in tried}.values()]


def first_to_ask(outcomes: list[Outcome]) -> dict[str, str]:
    """leak -> the check that found it elsewhere."""
    return {o.name: o.found_by[0] for o in outcomes if not o.clean and o.audit_status == 1 and o.found_by}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--only", default="", help="names (comma separated), clean, leaks, patches (of them), held out, red team"
    )
    parser.add_argument("--shard", default="1/1", help="i/n: every n-th task, from the i-th on")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin nothing new after so many seconds")
    parser.add_argument("--out", type=Path, default=Path("outcomes.jsonl"), help="one line per outcome; read first")
    parser.add_argument("--merge", type=Path, nargs="*", default=[], help="outcomes of other parts, for the summary")
    parser.add_argument("--hints", type=Path, nargs="*", default=[], help="earlier outcomes: only what found a leak")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "k4-mutants")
    arguments = parser.parse_args()
    begin = time.monotonic()
    red_team, held_out = ([leak for leak in PATCHES if leak.kind == kind] for kind in ("red team", "held out"))
    others = [leak for leak in PATCHES if leak.kind not in ("red team", "held out")]
    leaks = [*red_team, *held_out, *in_turn(others), *in_turn(LEAKS[len(PATCHES) :])]
    every: list[Any] = [*leaks, *CLEAN]
    groups = {"": every, "clean": list(CLEAN), "leaks": leaks, "patches": leaks[: len(PATCHES)]}
    groups |= {"held out": held_out, "red team": red_team}
    chosen = groups.get(arguments.only)
    names = set(arguments.only.split(","))
    items = [i for i in every if i.name in names] if chosen is None else chosen
    part, parts = map(int, arguments.shard.split("/"))
    before = read_outcomes([*arguments.merge, arguments.out])
    done = {(o.name, o.seed) for o in before if not o.not_tried}
    tasks = [(item, seed) for seed in range(arguments.seeds) for item in items][part - 1 :: parts]
    tasks = [(item, seed) for item, seed in tasks if (item.name, seed) not in done]
    arguments.work.mkdir(parents=True, exist_ok=True)
    until = begin + arguments.seconds
    hints = first_to_ask(read_outcomes([*arguments.hints, *arguments.merge, arguments.out]))
    where = arguments.jobs, arguments.work, arguments.out
    outcomes = run_all(tasks, *where, until=until, hints=hints) if tasks else []
    result = summary(read_outcomes([*arguments.merge, arguments.out]))
    print(json.dumps({**result, "not_begun": len(tasks) - len(outcomes), "seconds": round(time.monotonic() - begin)}))
    raise SystemExit(int(bool(result["missed"] or result["false_alarms"])))


if __name__ == "__main__":
    main()
