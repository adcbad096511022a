"""Many commands at once on one fresh home: each works, or refuses with a sentence that names the reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from k4_pipeline_tests.faults.real_run import OLD, results_of

# What `OLD` says, for commands that take no such options.
SMALL = {"TICKERS": "30", "BARS": "1500", "PRESET": "micro", "MODEL_PRESET": "original", "EPOCHS": "2"}
RUNS = [["run", *OLD]] * 16
MIXED = [
    *[["run", *OLD]] * 3,
    *[["nightly"]] * 2,
    ["run", "--tickers", "0"],
    ["signals"],
    ["monitor"],
    ["audit"],
    *[["champion", what] for what in ("show", "rollback", "rebuild")],
    ["export", "signals", "--out", "signals.csv"],
    ["status"],
    ["doctor"],
    ["report"],
]
CROWDS = {"runs": RUNS, "mixed": MIXED, "symlink": MIXED}


def crowd(place: Path, name: str) -> dict[str, Any]:
    """The commands of a crowd, each a process of its own; `symlink`: every second one comes by a symbolic link."""
    place.mkdir(parents=True)
    home, link = place / "home", place / "link"
    link.symlink_to(home)
    environment = {n: v for n, v in os.environ.items() if not n.startswith("K4_") or n == "K4_THREADS"}
    environment |= {f"K4_{n}": v for n, v in SMALL.items()}
    started = []
    for number, command in enumerate(CROWDS[name]):
        at = link if name == "symlink" and number % 2 else home
        line = [sys.executable, "-m", "k4_pipeline.cli", *command, "--json", "--home", str(at)]
        process = subprocess.Popen(
            line, env=environment, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append((command, process))
    outcomes: Counter[str] = Counter()
    wrong = []
    for command, process in started:
        out, err = process.communicate()
        outcome, problem = _judged(process.returncode, out, err)
        outcomes[outcome] += 1
        wrong += [f"{' '.join(command)}: {problem}"] if problem else []
    if name == "runs" and (outcomes["worked"] < 1 or outcomes["worked"] + outcomes["busy"] < len(RUNS)):
        wrong.append(f"of equal runs one works and the others name it; here: {dict(outcomes)}")
    results_of(home)
    if not wrong:
        shutil.rmtree(place)
    return {**outcomes, "wrong": wrong}


def _judged(status: int, out: str, err: str) -> tuple[str, str]:
    """(worked, busy or refused; what is wrong with it, or "")."""
    try:
        value = json.loads(out)
    except ValueError:
        return "failed", f"status {status} without one JSON document: {(out or err)[-300:]}"
    said = value if isinstance(value, dict) else {}
    message = said.get("error", {}).get("message", "")
    if "Traceback" in err or message.startswith("unexpected "):
        return "failed", (message or err)[-300:]
    if status == 0:
        return "worked", ""
    if status == 1 and message.startswith("another run is active"):
        return "busy", "" if "(process " in message else message
    if status == 1 and (message or (said.get("errors") and "unexpected " not in str(said["errors"]))):
        return "refused", ""
    return "failed", f"status {status}: {(message or out or err)[-300:]}"
