"""What a benchmark row must carry to mean anything later: device, library versions, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("torch", "triton", "mamba-ssm", "causal-conv1d", "numba", "numpy")


def _commit() -> str:
    if "K4_COMMIT" in os.environ:
        return os.environ["K4_COMMIT"]
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment(device: torch.device) -> dict[str, Any]:
    """Device name, cores or driver, versions of the libraries that matter (None: not installed) and the commit."""
    row: dict[str, Any] = {"python": platform.python_version(), "commit": _commit()}
    row.update({package.replace("-", "_"): _version(package) for package in _PACKAGES})
    if device.type == "cuda":
        row.update(device=torch.cuda.get_device_name(device), cuda=torch.version.cuda)
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        load = (
            round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
        )  # of others too: a busy machine shows
        row.update(device=_processor(), cores=cores, torch_threads=torch.get_num_threads(), load_average=load)
    return row
