"""The audit on the path people use: each leak is a patch of the source, run as `k4 run` and `k4 audit` from a shell.

`python -m k4_pipeline_tests.mutations.real_path --seeds 3 --jobs 4 > real.json`

A worker owns a copy of the package; a leak edits files of the copy, which are put back afterwards. Run and audit are
processes of their own with a home of their own on a small market of CSV bars. A leak is found when the run or the audit
ends with a status other than 0; a clean variant is misjudged when one of them does.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import k4_pipeline
from k4_pipeline.leakage.engine.small import small_config
from k4_pipeline.market.sources.simulated import simulate
from k4_pipeline_tests.mutations.source_patches import CLEAN, LEAKS, CleanVariant, SourceLeak

SOURCE = Path(k4_pipeline.__file__).parent
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
    "split.validation_months=7",
    "split.min_train_rows=30",
    "integrity.bootstrap_draws=50",
    "controls.max_rows=200",
    "training.batch_size=128",
)
TICKERS, BARS = 16, 760
TIMEOUT_S = 900


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

    @property
    def found(self) -> bool:
        """Whether a user would have been stopped."""
        return self.run_status != 0 or self.audit_status != 0


def write_market(path: Path, seed: int) -> Path:
    """Bars of a small simulated market as one long CSV file, dead tickers and dirty rows included."""
    frame = simulate(small_config(seed, n_tickers=TICKERS, n_bars=BARS).simulation).frame
    frame.drop(columns="source").to_csv(path, index=False)
    return path


def patched(worker: Path, leak: SourceLeak) -> list[Path]:
    """Edit the copy of the package; the edited files. Raises `ValueError` when a patch does not fit the source."""
    edited = []
    for file, old, new in leak.edits:
        path = worker / "k4_pipeline" / file
        text = path.read_text()
        if text.count(old) < 1:
            raise ValueError(f"{leak.name}: {file} does not hold the text to replace; renew the patch")
        path.unlink()  # the copy may be a link to the original
        path.write_text(text.replace(old, new))
        edited.append(path)
    return edited


def restored(worker: Path, files: list[Path]) -> None:
    """Put the original files back, with their times: compiled kernels stay valid."""
    for path in files:
        shutil.copy2(SOURCE / path.relative_to(worker / "k4_pipeline"), path)


def _command(worker: Path, home: Path, *arguments: str) -> tuple[int, str, str, float]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("K4_")}
    environment |= {
        "PYTHONPATH": str(worker),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "K4_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    # Processor time is asked of the shell: children of several threads are counted together by getrusage.
    timed = ["bash", "-c", 'TIMEFORMAT="%U %S"; time "$@" 2>"$0"', str(home.with_suffix(".err"))]
    command = [*timed, sys.executable, "-m", "k4_pipeline.cli", *arguments, "--home", str(home), "--json"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=TIMEOUT_S, cwd=worker, check=False
        )
    except subprocess.TimeoutExpired:
        return 124, "", "it took too long", float(TIMEOUT_S)
    seconds = sum(map(float, done.stderr.split()[-2:])) if done.stderr.split() else 0.0
    return done.returncode, done.stdout, home.with_suffix(".err").read_text()[-2000:], seconds


def tried(worker: Path, item: SourceLeak | CleanVariant, seed: int, market: Path) -> Outcome:
    """Run and audit one leak or clean variant."""
    clean, edited = isinstance(item, CleanVariant), []
    options = ["--preset", "micro", "--epochs", "2"]
    sets = [text for s in SMALL for text in ("--set", s)]
    own = list(item.options)
    source = [] if "--world" in own or "--path" in own else ["--path", str(market)]
    with tempfile.TemporaryDirectory(prefix="k4-mutant-") as folder:
        home = Path(folder) / "home"
        try:
            if not clean:
                edited = patched(worker, item)
            status, out, err, seconds = _command(worker, home, "run", *options, *sets, *source, *own)
            outcome = Outcome(item.name, item.kind, seed, clean, status, None, run_seconds=seconds)
            if status != 0:
                outcome.first = (json.loads(out)["errors"] if out.startswith("{") else err.splitlines()[-1:] or [""])[
                    0
                ][:300]
                return outcome
            status, out, err, seconds = _command(worker, home, "audit")
            outcome.audit_status, outcome.audit_seconds = status, seconds
            if out.startswith("{"):
                result = json.loads(out)
                outcome.found_by = [v["name"] for v in result["verdicts"] if not v["passed"]]
                outcome.found_by += [f"not proved: {name}" for name in result["not_proved"]]
                outcome.first = next((v["findings"][0][:300] for v in result["verdicts"] if v["findings"]), "")
            else:
                outcome.first = err[-300:]
            return outcome
        finally:
            restored(worker, edited)


def workers(jobs: int, work: Path) -> queue.Queue[Path]:
    """Folders with a copy of the package each, always at the same places: kernels are compiled once for each."""
    free: queue.Queue[Path] = queue.Queue()
    for i in range(jobs):
        worker = work / f"worker-{i}"
        shutil.rmtree(worker, ignore_errors=True)
        shutil.copytree(SOURCE, worker / "k4_pipeline", ignore=shutil.ignore_patterns("__pycache__"))
        free.put(worker)
    return free


def run_all(items: list[Any], seeds: list[int], jobs: int, work: Path, progress: Any = None) -> list[Outcome]:
    """Every item on every market; `work` keeps the copies, so that kernels are compiled once for each worker."""
    free = workers(jobs, work)
    markets = {seed: write_market(work / f"market-{seed}.csv", seed) for seed in seeds}
    lock, made = threading.Lock(), []

    def one(task: tuple[Any, int]) -> Outcome:
        item, seed = task
        worker = free.get()
        try:
            outcome = tried(worker, item, seed, markets[seed])
        finally:
            free.put(worker)
        with lock:
            made.append(outcome)
            if progress is not None:
                progress(outcome, len(made))
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, [(item, seed) for seed in seeds for item in items]))


def summary(outcomes: list[Outcome], seeds: list[int], seconds: float) -> dict[str, Any]:
    """Counts, misses, alarms and cost, JSON-able."""
    leaks, clean = [o for o in outcomes if not o.clean], [o for o in outcomes if o.clean]
    audited = [o for o in clean if o.audit_status == 0 and o.run_seconds]
    cost = sum(o.audit_seconds for o in audited) / max(sum(o.run_seconds for o in audited), 1e-9)
    return {
        "seeds": seeds,
        "leaks": len({o.name for o in leaks}),
        "leak_runs": len(leaks),
        "found_runs": sum(o.found for o in leaks),
        "found_by_run": sum(o.run_status != 0 for o in leaks),
        "missed": sorted({o.name for o in leaks if not o.found}),
        "clean_variants": len({o.name for o in clean}),
        "clean_runs": len(clean),
        "false_alarms": [asdict(o) for o in clean if o.found],
        "audit_cost": round(cost, 2),
        "seconds": round(seconds),
        "outcomes": [asdict(o) for o in outcomes],
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="names (comma separated), or `clean`, or `leaks`")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "k4-mutants")
    arguments = parser.parse_args()
    every: list[Any] = [*LEAKS, *CLEAN]
    chosen = {"": every, "clean": list(CLEAN), "leaks": list(LEAKS)}.get(arguments.only)
    names = set(arguments.only.split(","))
    items = [i for i in every if i.name in names] if chosen is None else chosen
    arguments.work.mkdir(parents=True, exist_ok=True)
    begin, seeds = time.monotonic(), list(range(arguments.seeds))

    def say(outcome: Outcome, done: int) -> None:
        word = ("ALARM" if outcome.found else "quiet") if outcome.clean else ("found" if outcome.found else "MISSED")
        where = "run" if outcome.run_status else ", ".join(outcome.found_by)[:120]
        count = f"{done}/{len(items) * len(seeds)}"
        cost = f"{outcome.run_seconds:.0f}+{outcome.audit_seconds:.0f} s"
        print(
            f"{count} {word} {outcome.name} [{outcome.seed}] {cost} {where} | {outcome.first[:160]}",
            file=sys.stderr,
        )

    outcomes = run_all(items, seeds, arguments.jobs, arguments.work, say)
    result = summary(outcomes, seeds, time.monotonic() - begin)
    print(json.dumps(result, indent=1))
    raise SystemExit(int(bool(result["missed"] or result["false_alarms"])))


if __name__ == "__main__":
    main()
