"""`k4 doctor`: whether this machine, this installation and this home folder are fit for a run."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from k4_pipeline.cli.common import HomeOption, JsonOption, dropped_in_words, explained, out_console, print_json
from k4_pipeline.config import FILE_SOURCES
from k4_pipeline.settings import Settings, home_dir, load_settings

OK, WARN, FAIL = "ok", "warning", "failed"
NEEDED_GB, ROOMY_GB = 1.0, 5.0
NEEDED_MEMORY_GB = 4.0
PYTHONS = ((3, 11), (3, 13))


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `remedy` says what to do about it."""

    name: str
    state: str
    found: str
    remedy: str = ""


@explained
def doctor(json_: bool = JsonOption, home: Path | None = HomeOption) -> None:
    """Look at Python, packages, disk, memory, GPU, kernels, the home folder and what is stored in it.

    Changes nothing but a probe file that it removes again. Exit status 1 when something would stop a run.
    """
    place = home_dir() if home is None else Path(home).expanduser().absolute()
    findings = [_guarded(name, look, place) for name, look in LOOKS.items()]
    if json_:
        print_json([asdict(f) for f in findings])
    else:
        colours = {OK: "green", WARN: "yellow", FAIL: "red"}
        console: Any = out_console()
        for f in findings:
            console.print(f"[{colours[f.state]}]{f.state:8}[/] [bold]{f.name}[/]", end=": ", highlight=False)
            console.print(f.found, markup=False, highlight=False)
            if f.remedy:
                console.print(f"         {f.remedy}", markup=False, highlight=False)
    if any(f.state == FAIL for f in findings):
        raise typer.Exit(1)


def _guarded(name: str, look: Callable[[Path], Finding], home: Path) -> Finding:
    try:
        return look(home)
    except Exception as error:  # a look that breaks is what the user must hear of
        return Finding(
            name, FAIL, f"{type(error).__name__}: {error}", "Mend this first; --debug of a command says more."
        )


def _python(home: Path) -> Finding:
    version = platform.python_version()
    fits = PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]
    known = f"{'.'.join(map(str, PYTHONS[0]))} to {'.'.join(map(str, PYTHONS[1]))}"
    remedy = "" if fits else f"Tested are {known}: make setup PYTHON=python3.12"
    return Finding("Python", OK if fits else WARN, f"{version} at {sys.executable}", remedy)


def _packages(home: Path) -> Finding:
    from packaging.requirements import Requirement

    wrong, count = [], 0
    for line in importlib.metadata.requires("k4-pipeline") or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            wrong.append(f"{wanted.name} is {version}, {wanted.specifier} is needed")
    if wrong:
        return Finding("packages", FAIL, "; ".join(wrong), "make setup installs the pinned versions.")
    return Finding("packages", OK, f"{count} needed, all of them fit")


def _disk(home: Path) -> Finding:
    folder = home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    state = OK if free >= ROOMY_GB else WARN if free >= NEEDED_GB else FAIL
    remedy = "" if state == OK else "Free some, or put the home folder elsewhere: K4_HOME or --home."
    return Finding("disk", state, f"{free:.1f} GB free at {folder}", remedy)


def _memory(home: Path) -> Finding:
    import os

    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    state = OK if total >= NEEDED_MEMORY_GB else WARN
    remedy = "" if state == OK else "Large universes may not fit; `k4 bench memory` measures."
    return Finding("memory and cores", state, f"{total:.1f} GB, {os.cpu_count()} cores", remedy)


def _torch(home: Path) -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("torch", OK, f"{torch.__version__} on {torch.cuda.get_device_name(0)}")
    if torch.version.cuda is None:
        return Finding("torch", OK, f"{torch.__version__}, CPU build: no GPU is used")
    return Finding(
        "torch",
        WARN,
        f"{torch.__version__} is the CUDA build ({torch.version.cuda}), and no GPU is seen here: it works on the CPU",
        "Gigabytes can be saved: remove .venv and run make setup, which takes the CPU build where there is no GPU.",
    )


def _kernels(home: Path) -> Finding:
    from k4_pipeline._numba import cache_dir

    cache = cache_dir()
    compiled = sum(1 for _ in cache.rglob("*.nbc"))
    remedy = "" if compiled else "The first run compiles them (a minute); `k4 init --compile` does it beforehand."
    return Finding("kernels", OK if compiled else WARN, f"{compiled} compiled kernels kept below {cache}", remedy)


def _home(home: Path) -> Finding:
    from k4_pipeline.storage.writer_lock import writer_of

    if not home.is_dir():
        return Finding("home folder", OK, f"{home} is not there yet; the first run makes it")
    probe = home / ".doctor"
    probe.write_text("k4 doctor")
    probe.unlink()
    writer = writer_of(home)
    return Finding(
        "home folder", OK, f"{home} can be written; " + (f"now by {writer.in_words()}" if writer else "idle")
    )


def _settings(home: Path) -> Finding:
    settings = load_settings(home)
    source = settings.config.source
    if source.source in FILE_SOURCES and "://" not in source.path and not Path(source.path).exists():
        return Finding(
            "settings", FAIL, f"the stored source {source.path} is gone", "k4 run --path with its new place stores it."
        )
    if settings.dropped:
        return Finding("settings", WARN, dropped_in_words(settings), "`k4 run --again` writes it anew.")
    return Finding("settings", OK, f"source {source.source} {source.path}".strip())


def _stored(home: Path) -> Finding:
    from k4_pipeline.cli.status import collect

    states: dict[str, int] = {}
    for row in collect(Settings(home))["assets"]:
        states[row["state"]] = states.get(row["state"], 0) + 1
    bad = states.keys() & {"failed", "stale"}
    words = ", ".join(f"{n} {state}" for state, n in states.items())
    return Finding("stored tables", WARN if bad else OK, words, "`k4 status` says which and why." if bad else "")


def _database(home: Path) -> Finding:
    from k4_pipeline.defs.instance import open_instance

    settings = Settings(home)
    if not settings.dagster_dir.is_dir():
        return Finding("Dagster database", OK, "not there yet; the first run makes it")
    with open_instance(settings) as instance:
        runs = instance.get_runs_count()
    return Finding("Dagster database", OK, f"{runs} runs at {settings.dagster_dir}")


def _alerts(home: Path) -> Finding:
    from k4_pipeline.alerts.delivery import targets_of

    targets, problems = targets_of(load_settings(home).alert_urls)
    if problems:
        return Finding("alerts", WARN, "; ".join(problems), "docs/operations.md has examples of K4_ALERT_URLS.")
    words = f"{len(targets)} targets; `k4 alerts test` tries them" if targets else "no targets (optional)"
    return Finding("alerts", OK, words)


LOOKS: dict[str, Callable[[Path], Finding]] = {
    "Python": _python,
    "packages": _packages,
    "disk": _disk,
    "memory and cores": _memory,
    "torch": _torch,
    "kernels": _kernels,
    "home folder": _home,
    "settings": _settings,
    "stored tables": _stored,
    "Dagster database": _database,
    "alerts": _alerts,
}
