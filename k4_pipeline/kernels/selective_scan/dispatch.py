"""Which backend runs: by device and availability, or by request; and a sentence that says what was chosen and why."""

from __future__ import annotations

import functools
import importlib.util
import os
from dataclasses import dataclass

import torch

from k4_pipeline.errors import ConfigError

BACKENDS = ("naive", "cpu", "triton", "mamba_ssm")


@dataclass(frozen=True)
class BackendChoice:
    """The chosen backend and the reason in words."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"selective scan backend {self.name}: {self.reason}"


def triton_interpreted() -> bool:
    """Whether Triton kernels run in Triton's interpreter (on the CPU); the variable must be set before their import."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


@functools.cache
def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _unavailable(name: str, device: torch.device) -> str | None:
    """Why `name` cannot run on `device`; None when it can."""
    if name == "cpu" and device.type != "cpu":
        return f"it runs on the CPU and the tensors are on {device.type}"
    if name == "triton":
        if not _installed("triton"):
            return "the package triton is not installed"
        if device.type != "cuda" and not triton_interpreted():
            return f"it needs a CUDA device (or TRITON_INTERPRET=1) and the tensors are on {device.type}"
    if name == "mamba_ssm":
        if not _installed("mamba_ssm"):
            return "the package mamba-ssm is not installed"
        if device.type != "cuda":
            return f"mamba-ssm needs a CUDA device and the tensors are on {device.type}"
    return None


def available_backends(device: torch.device | str | None = None) -> tuple[str, ...]:
    """The backends that can run on `device` (default: CUDA when there is one, else the CPU)."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    return tuple(name for name in BACKENDS if _unavailable(name, device) is None)


def describe(device: torch.device | str, requested: str = "auto") -> BackendChoice:
    """The backend `selective_scan` would use and why. Unknown or impossible request: `ConfigError`."""
    device = torch.device(device)
    if requested != "auto":
        if requested not in BACKENDS:
            raise ConfigError(f"selective scan backend {requested!r} is unknown; use auto or one of {BACKENDS}")
        obstacle = _unavailable(requested, device)
        if obstacle is not None:
            usable = ", ".join(available_backends(device))
            raise ConfigError(f"selective scan backend {requested!r} cannot run: {obstacle}; usable here: {usable}")
        return BackendChoice(requested, "requested")
    if device.type == "cpu":
        return BackendChoice("cpu", "auto: the tensors are on the CPU")
    if device.type == "cuda":
        obstacle = _unavailable("triton", device)
        if obstacle is None:
            return BackendChoice("triton", "auto: the tensors are on a CUDA device and triton is installed")
        return BackendChoice("naive", f"auto: triton cannot run ({obstacle}); slow")
    return BackendChoice("naive", f"auto: no faster backend for device type {device.type}")


def choose_backend(device: torch.device | str, requested: str = "auto") -> str:
    """The name of the backend for `device`; `requested` other than "auto" is used or refused, never replaced."""
    return describe(device, requested).name


# What is installed does not change, and the question would break the graph: `torch.compiler.assume_constant_result`
# sets this mark, too, but imports the compiler first, which takes longer than a night's scoring.
choose_backend._dynamo_marked_constant = True  # type: ignore[attr-defined]
