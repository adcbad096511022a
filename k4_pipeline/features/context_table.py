"""The context of every bar on disk: one safetensors file, mapped when it is read.

`context.safetensors` holds `values` (n_bars, N_CONTEXT) float32, row i = row i of the bars, and in its metadata the
hash of the declarations and the fingerprint of the bars. It is filled in place: memory holds no second copy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.features.context import CONTEXT_NAMES, N_CONTEXT, compute_context, context_list_hash
from k4_pipeline.market.bars import Bars
from k4_pipeline.storage import atomic_path

CONTEXT_FILE = "context.safetensors"
_HEADER_BYTES = 4096  # the values start on a page


@dataclass(frozen=True, eq=False)
class ContextTable:
    """Context of every bar; row i is row i of the bars with `bars_fingerprint`."""

    values: np.ndarray  # (n_bars, N_CONTEXT) float32, a read-only memory map
    bars_fingerprint: str

    def __len__(self) -> int:
        return len(self.values)


def write_context(bars: Bars, dir: Path) -> None:
    """Compute the context of `bars` into `dir/context.safetensors`."""
    write_values(dir, len(bars), bars.fingerprint(), lambda out: compute_context(bars, out=out))


def write_values(dir: Path, n_bars: int, bars_fingerprint: str, fill: Callable[[np.ndarray], Any]) -> None:
    """`dir/context.safetensors` for so many bars; `fill(out)` writes the values (n_bars, N_CONTEXT), mapped to disk."""
    n_bytes = n_bars * N_CONTEXT * 4
    header = {
        "__metadata__": {
            "context_list_hash": context_list_hash(),
            "bars_fingerprint": bars_fingerprint,
            "names": ",".join(CONTEXT_NAMES),
        },
        "values": {"dtype": "F32", "shape": [n_bars, N_CONTEXT], "data_offsets": [0, n_bytes]},
    }
    text = json.dumps(header).encode().ljust(_HEADER_BYTES - 8)
    with atomic_path(Path(dir) / CONTEXT_FILE) as temporary:
        with temporary.open("wb") as file:
            file.write((_HEADER_BYTES - 8).to_bytes(8, "little") + text)
            # Not a hole: writing into one on a full disk kills the process (SIGBUS) where an error is wanted.
            os.posix_fallocate(file.fileno(), 0, _HEADER_BYTES + n_bytes)
        values = np.memmap(temporary, np.dtype("<f4"), "r+", offset=_HEADER_BYTES, shape=(n_bars, N_CONTEXT))
        fill(values)
        values.flush()
        del values


def read_context(dir: Path) -> ContextTable:
    """The context in `dir`; `StaleArtifactError` when it is missing, truncated or of other declarations."""
    path, remedy = Path(dir) / CONTEXT_FILE, "materialize context_features again"
    if not path.is_file():
        raise StaleArtifactError(f"{path} does not exist; materialize context_features first")
    with path.open("rb") as file:
        try:
            header = json.loads(file.read(_HEADER_BYTES)[8:])
            meta, shape = header["__metadata__"], tuple(header["values"]["shape"])
            stored, bars_fingerprint = meta["context_list_hash"], meta["bars_fingerprint"]
        except (ValueError, KeyError, TypeError) as problem:
            raise StaleArtifactError(f"{path} has an unreadable header ({problem}); {remedy}") from problem
    if stored != context_list_hash() or shape[1:] != (N_CONTEXT,):
        raise StaleArtifactError(
            f"{path} was written with context list {stored}, expected {context_list_hash()}; {remedy}"
        )
    if path.stat().st_size != _HEADER_BYTES + shape[0] * N_CONTEXT * 4:
        raise StaleArtifactError(f"{path} has {path.stat().st_size} bytes: truncated; {remedy}")
    return ContextTable(np.memmap(path, np.dtype("<f4"), "r", offset=_HEADER_BYTES, shape=shape), bars_fingerprint)
