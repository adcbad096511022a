"""Weakens the checks themselves, one edit at a time, and asks whether their self-tests notice.

`python -m k4_pipeline_tests.mutations.check_mutants [--only TEXT] [--out lines.txt]`: exit status 1 when a weakened
check goes unnoticed. One small home is made first; every weakened check is asked of it, or of the path in memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from k4_pipeline_tests.mutations.copies import patched, python_path, restored, workers
from k4_pipeline_tests.mutations.patch_tools import SourceLeak
from k4_pipeline_tests.mutations.real_path import SMALL, write_market
from k4_pipeline_tests.mutations.weakened_checks import WEAKENED

ASK = """
import sys
from k4_pipeline.defs.audit_facts import audit_facts
from k4_pipeline.defs.export import export_asset
from k4_pipeline.leakage.checks import self_test
from k4_pipeline.leakage.engine.artifacts import artifact_context, newest_as_of
from k4_pipeline.leakage.engine.audit import CHECKS, AuditSample, load_checks, run_checks
from k4_pipeline.settings import load_settings
from k4_pipeline.storage import ArtifactStore

home, *names = sys.argv[1:]
load_checks()
settings = load_settings(home, stored=True)
ArtifactStore.broken_code = staticmethod(lambda ref: [])  # a weakening changes code that the report was made by
store = ArtifactStore(settings.artifacts_dir)
as_of = newest_as_of(store)
facts, sample = audit_facts(settings, as_of), AuditSample.named("normal")
export = lambda name, out, as_of: export_asset(settings, name, out, as_of)
context = artifact_context(store, settings.config, as_of, sample, facts, export)
found = self_test.guard_findings()
whole = [n for n in names if CHECKS[n].stage == "self-test"]
found += self_test.self_tests(context, [n for n in names if n not in whole])[2]
if whole and not run_checks(self_test.small_context(), whole).passed:
    found.append(f"{whole} do not hold")
for line in found:
    print(line)
raise SystemExit(1 if found else 0)
"""


def make_home(work: Path) -> Path:
    """A small run of the code as it is, for the checks of stored artifacts."""
    home = work / "home-of-checks"
    if (home / "artifacts" / "signal_outcomes").exists():
        return home
    sets = [text for s in (*SMALL, "controls.enabled=false") for text in ("--set", s)]
    market = write_market(work / "market-of-checks.csv", 0)
    options = ["--preset", "micro", "--epochs", "2", *sets, "--path", str(market), "--home", str(home), "--json"]
    command = [sys.executable, "-m", "k4_pipeline.cli", "run", *options]
    subprocess.run(command, check=True, capture_output=True)
    return home


def noticed(name: str, worker: Path, home: Path) -> tuple[bool, str]:
    """Whether the self-tests fail on a copy of the package in which one check is weakened, and what they say."""
    file, old, new, checks = WEAKENED[name]
    edited = patched(worker, SourceLeak(name, "check", ((file, old, new),)))
    environment = {**os.environ, "PYTHONPATH": python_path(worker), "K4_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        command = [sys.executable, "-c", ASK, str(home), *checks]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=worker, check=False)
    finally:
        restored(worker, edited)
    said = (done.stdout.splitlines() or done.stderr.splitlines()[-1:] or [""])[0]
    return done.returncode == 1 and "Traceback" not in done.stderr, said[:200]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="weakenings whose name holds this text; `nothing`: no weakening")
    parser.add_argument("--but", nargs="*", default=[], help="weakenings to leave out")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=None, help="one line per weakening, as they come")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "k4-mutants")
    arguments = parser.parse_args()
    names = [name for name in WEAKENED if arguments.only in name and name not in arguments.but]
    arguments.work.mkdir(parents=True, exist_ok=True)
    free, home, results = workers(arguments.jobs, arguments.work), make_home(arguments.work), {}

    def one(name: str) -> None:
        worker = free.get()
        try:
            results[name], said = noticed(name, worker, home)
        finally:
            free.put(worker)
        line = f"{'noticed' if results[name] else 'MISSED '} {name} | {said}"
        print(line, flush=True)
        if arguments.out is not None:
            with arguments.out.open("a") as lines:
                lines.write(line + "\n")

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(one, names))
    # The control: where nothing is weakened the self-tests are silent.
    every = sorted({check for name in names for check in WEAKENED[name][3]})
    environment = {**os.environ, "K4_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ASK, str(home), *every]
    control = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    quiet = control.returncode == 0
    text = f"{sum(results.values())} of {len(results)} weakenings noticed; "
    text += "silent without one" if quiet else f"NOT silent without one: {(control.stdout + control.stderr)[-500:]}"
    print(text, flush=True)
    if arguments.out is not None:
        with arguments.out.open("a") as lines:
            lines.write(text + "\n")
    raise SystemExit(int(not all(results.values()) or not quiet))


if __name__ == "__main__":
    main()
