"""Weakens the checks themselves, one edit at a time, and asks whether their self-tests notice.

`python -m k4_pipeline_tests.mutations.check_mutants [--sample N]`: exit status 1 when a weakened check goes unnoticed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from k4_pipeline_tests.mutations.copies import patched, restored, workers
from k4_pipeline_tests.mutations.source_patches import Edit, SourceLeak

CHECKS = "leakage/checks/"
PREDICTIONS, FITTED, REPORT = (f"{CHECKS}{n}_checks.py" for n in ("prediction", "fitted", "report"))
SELF_TESTS = ("every_check_can_fail", "checks_of_stored_tables_can_fail", "the_integrity_tests_can_fail_and_pass")
ASK = f"""
from k4_pipeline.leakage.checks.self_test import small_context
from k4_pipeline.leakage.engine.audit import run_checks
report = run_checks(small_context(), {SELF_TESTS!r})
raise SystemExit(0 if report.passed else 1)
"""

WEAKENED: dict[str, Edit] = {
    "scores within 100 times the tolerance": (
        PREDICTIONS,
        "> 2e-3 * np.maximum(p, 0.01)",
        "> 0.2 * np.maximum(p, 0.01)",
    ),
    "expected values within 100,000 times": (PREDICTIONS, "<= 1e-9)", "<= 1e-4)"),
    "one row scored by hand": (PREDICTIONS, "count = min(n, 64, context.sample.input_rows or 64)", "count = 1"),
    "signals never compared": (PREDICTIONS, "!= signal) & ~near", "!= signal) & near"),
    "batches never compared": (
        PREDICTIONS,
        'cause="the row\'s score depends on its batch"\n            )',
        'cause="the row\'s score depends on its batch"\n            ).__class__()',
    ),
    "refit compares nothing": (
        FITTED,
        "    return out\n\n\ndef _fitted_with",
        "    return Comparison(cases=1)\n\n\ndef _fitted_with",
    ),
    "refit leaves out the weights": (FITTED, "weights_fingerprint(again.model))", "weights_fingerprint(stored.model))"),
    "best epoch within 100 times": (FITTED, "<= 1e-3 * max(1.0, abs(value))", "<= 1e-1 * max(1.0, abs(value))"),
    "metrics within 100,000 times": (REPORT, "<= 1e-9 * max(1.0, abs(again))", "<= 1e-4 * max(1.0, abs(again))"),
    "baseline within 1,000 times": (REPORT, "_RTOL = 1e-4", "_RTOL = 1e-1"),
    "intervals within 1,000 times": (REPORT, "_ATOL = 1e-7", "_ATOL = 1e-4"),
    "combined always holds": (
        f"{CHECKS}stage_checks.py",
        "passed=verdict.holds and report.passed)",
        "passed=True, findings=(), cases=1)",
    ),
    "prove always holds": (
        f"{CHECKS}feature_proofs.py",
        "    return Verdict.of(name, result.cases, findings,",
        "    return Verdict.of(name, result.cases, [],",
    ),
    "nothing differs": (
        "leakage/engine/compare.py",
        "    return wrong\n\n\ndef shown",
        "    return wrong & False\n\n\ndef shown",
    ),
    "arrays are never compared": (
        "leakage/engine/compare.py",
        "    if wrong.any():\n        lines = []",
        "    if False:\n        lines = []",
    ),
    "a failure is a pass": ("verdict.py", "return cls(name, total == 0,", "return cls(name, True,"),
}


def noticed(name: str, worker: Path) -> bool:
    """Whether the self-tests fail on a copy of the package in which one check is weakened."""
    edited = patched(worker, SourceLeak(name, "check", (WEAKENED[name],)))
    environment = {**os.environ, "PYTHONPATH": str(worker), "K4_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASK], env=environment, capture_output=True, cwd=worker, check=False
        )
    finally:
        restored(worker, edited)
    return done.returncode == 1 and b"Traceback" not in done.stderr


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=len(WEAKENED))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "k4-mutants")
    arguments = parser.parse_args()
    names, free = list(WEAKENED)[: arguments.sample], workers(arguments.jobs, arguments.work)

    def one(name: str) -> bool:
        worker = free.get()
        try:
            return noticed(name, worker)
        finally:
            free.put(worker)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = {}
        for name, seen in zip(names, pool.map(one, names)):
            results[name] = seen
            print(f"{'noticed' if seen else 'MISSED '} {name}", flush=True)
    print(f"{sum(results.values())} of {len(results)} weakenings noticed")
    raise SystemExit(int(not all(results.values())))


if __name__ == "__main__":
    main()
