"""The state of an unfinished fit on disk, written after every epoch, so that a killed one goes on where it was.

A fit of several phases or seeds takes one `Resume` and gives each part a `phase` of it: a finished part is read back,
the unfinished one continues, and the bits at the end are those of a fit that was never interrupted (on a CPU with the
same number of threads). The file is a sha256 followed by safetensors; one that is damaged, or that belongs to other
rows, settings, code or libraries, is left aside and the fit starts from the beginning.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from k4_pipeline.storage import atomic_write_bytes

_HASH_BYTES = 32
_HEADER = 8  # a safetensors file begins with the length of its JSON header
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resume:
    """Where one fit keeps its state. `key` names everything the fit depends on; a state of another key is not used."""

    folder: Path
    key: str
    name: str = "fit"

    def phase(self, name: str) -> Resume:
        """The part called `name` (letters, digits, `-`) of this fit, with a file of its own."""
        return Resume(self.folder, self.key, f"{self.name}.{name}")

    @property
    def file(self) -> Path:
        """The state after the last finished epoch."""
        return self.folder / f"{self.name}.state"

    @property
    def diverged_batch(self) -> Path:
        """The batch whose loss was not finite."""
        return self.folder / f"{self.name}.diverged.safetensors"

    def _stamp(self) -> str:
        # Other threads or another torch would go on with other roundings than they began with.
        return f"{self.key} {self.name} torch {torch.__version__} {torch.get_num_threads()} threads"

    def save(self, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """Replace the stored state by `tensors` (any device) and JSON-safe `facts`; atomic."""
        kept = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        header = {"stamp": self._stamp(), "facts": json.dumps(facts)}
        data = safetensors.torch.save(kept, metadata=header)
        atomic_write_bytes(self.file, hashlib.sha256(data).digest() + data)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """(tensors on the CPU, facts) of the last `save`; None when there is none that fits."""
        try:
            stored = self.file.read_bytes()
        except FileNotFoundError:
            return None
        data = stored[_HASH_BYTES:]
        if hashlib.sha256(data).digest() != stored[:_HASH_BYTES]:
            _log.warning("%s is damaged; the training starts from the beginning", self.file)
            return None
        try:
            length = int.from_bytes(data[:_HEADER], "little")
            header = json.loads(data[_HEADER : _HEADER + length])["__metadata__"]
            if header["stamp"] != self._stamp():
                return None
            return safetensors.torch.load(data), json.loads(header["facts"])
        except (SafetensorError, ValueError, KeyError) as problem:
            _log.warning("%s cannot be read (%s); the training starts from the beginning", self.file, problem)
            return None

    def keep_batch(self, tensors: Mapping[str, Tensor | None], facts: dict[str, str]) -> Path:
        """Store the batch that made the loss NaN or infinite, for whoever looks for the cause."""
        kept = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items() if value is not None}
        atomic_write_bytes(self.diverged_batch, safetensors.torch.save(kept, metadata=facts))
        return self.diverged_batch


def packed(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`values` with `prefix.` before every name."""
    return {f"{prefix}.{name}": value for name, value in values.items()}


def unpacked(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `packed`: what is stored under `prefix.`."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The running means and counts of an optimiser, by number of the parameter and name of the quantity."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": value for number, values in state.items() for name, value in values.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put `optimiser_tensors` back; in place where the optimiser has its state, whose address a CUDA graph reads."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    if not optimiser.state:
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        return
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for position, values in state.items():
        for name, value in values.items():
            optimiser.state[parameters[position]][name].copy_(value)


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """The state of torch's generators that training on `device` draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(device: torch.device, states: Mapping[str, Tensor]) -> None:
    """The inverse of `generator_states`."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
