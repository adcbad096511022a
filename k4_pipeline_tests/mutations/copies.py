"""Copies of the package that leaks are planted in: one for each worker, with compiled kernels ready."""

from __future__ import annotations

import hashlib
import os
import queue
import shutil
import subprocess
import sys
from pathlib import Path

import numba

import k4_pipeline
from k4_pipeline_tests.mutations.patch_tools import SourceLeak

SOURCE = Path(k4_pipeline.__file__).parent
PLANTED = Path(__file__).parent  # the leaks of the path in memory, which some patches call


def patched(worker: Path, leak: SourceLeak) -> list[Path]:
    """Edit the copy of the package; the edited files. Raises `ValueError` when a patch does not fit the source."""
    edited = []
    for file, old, new in leak.edits:
        path = worker / "k4_pipeline" / file
        text = path.read_text()
        if text.count(old) < 1:
            raise ValueError(f"{leak.name}: {file} does not hold the text to replace; renew the patch")
        path.write_text(text.replace(old, new))
        edited.append(path)
    return edited


def restored(worker: Path, files: list[Path]) -> None:
    """Put the original files back, with their times: compiled kernels stay valid."""
    for path in files:
        shutil.copy2(SOURCE / path.relative_to(worker / "k4_pipeline"), path)


def python_path(worker: Path) -> str:
    """`PYTHONPATH` of a process that runs the copy: packages that lie beside the interpreter's own stay in it."""
    return os.pathsep.join(filter(None, [str(worker), os.environ.get("PYTHONPATH", "")]))


def _cache_of(folder: Path) -> str:
    """numba's name for the cache of the sources in a folder."""
    return f"{folder.name}_{hashlib.sha1(str(folder).encode()).hexdigest()}"


def workers(jobs: int, work: Path) -> queue.Queue[Path]:
    """Folders with a copy of the package each. Kernels are compiled once, for the package itself, and copied: numba
    asks for the same source with the same times."""
    command = [sys.executable, "-m", "k4_pipeline.cli", "init", "--compile", "--home", str(work / "home")]
    subprocess.run(command, check=True, capture_output=True)
    cache, free = Path(numba.config.CACHE_DIR), queue.Queue[Path]()
    compiled = [f for f in sorted({p.parent for p in SOURCE.rglob("*.py")}) if (cache / _cache_of(f)).is_dir()]
    for i in range(jobs):
        worker = work / f"worker-{i}"
        shutil.rmtree(worker, ignore_errors=True)
        shutil.copytree(SOURCE, worker / "k4_pipeline", ignore=shutil.ignore_patterns("__pycache__"))
        tests = worker / PLANTED.parent.name
        shutil.copytree(PLANTED, tests / PLANTED.name, ignore=shutil.ignore_patterns("__pycache__", "test_*"))
        (tests / "__init__.py").touch()
        for folder in compiled:
            target = cache / _cache_of(worker / "k4_pipeline" / folder.relative_to(SOURCE))
            shutil.copytree(cache / _cache_of(folder), target, dirs_exist_ok=True)
        free.put(worker)
    return free
