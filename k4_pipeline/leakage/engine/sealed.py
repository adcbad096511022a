"""A world without side channels: no file outside the installed code, no network, no home, other names, other dates.

What is computed from arrays alone needs none of them. The hook of `sys.addaudithook` cannot be taken off again: it is
put in once and asks a switch.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pandas as pd
import torch
from numba.core import entrypoints

import k4_pipeline
from k4_pipeline._numba import cache_dir
from k4_pipeline.leakage.engine.landlock import reads_only
from k4_pipeline.market.bars import Bars

_REFUSED = ("socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.exec", "os.listdir", "os.scandir")
_DATA = (".parquet", ".npy", ".npz", ".json", ".csv", ".feather", ".safetensors", ".pkl", ".sqlite", ".db", ".txt")

_OURS = str(Path(k4_pipeline.__file__).parent) + os.sep


class SealBrokenError(Exception):
    """Something was opened that values computed from their own arrays do not need."""


class _Seal:
    closed = False
    hooked = False
    own = ""


def _allowed() -> tuple[str, ...]:
    roots = {sys.prefix, sys.base_prefix, *(sysconfig.get_paths().values()), str(Path(k4_pipeline.__file__).parent)}
    roots |= {str(Path(p).resolve()) for p in roots} | {
        str(cache_dir()),
        "/proc",
        "/sys",
        "/dev",
        "/usr",
        "/lib",
        "/etc",
    }
    # The folders into which packages were installed, also where they lie beside the interpreter's own.
    roots |= {str(Path(m.__file__).resolve().parent.parent) for m in (numba, np, pd, torch) if m.__file__}
    return tuple(r.rstrip("/") + "/" for r in roots if r)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _Seal.closed:
        return
    if event == "open":
        path = arguments[0]
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  (no look at the disk, ".." resolved)
        cached = text.startswith(str(cache_dir()))
        # Installed packages read files of their own when they are first used; this one has no reason to.
        kept_by_us = text.startswith(_OURS) and text.endswith(_DATA)
        inside = text.startswith(_allowed()) and (cached or not kept_by_us)
        inside |= bool(_Seal.own) and text.startswith(_Seal.own)
        if not inside:
            raise SealBrokenError(f"{text} was opened while values were computed from their own arrays")
    elif event in _REFUSED and event not in ("os.listdir", "os.scandir"):
        raise SealBrokenError(f"{event} was called while values were computed from their own arrays")
    elif event in ("os.listdir", "os.scandir"):
        text = os.path.abspath(os.fsdecode(arguments[0] or "."))  # noqa: PTH100
        if (
            text not in sys.path
            and not (text + "/").startswith(_allowed())
            and not (_Seal.own and text.startswith(_Seal.own))
        ):
            raise SealBrokenError(f"{text} was listed while values were computed from their own arrays")


def seal_process(own: Path) -> None:
    """For the rest of this process: no file outside the installed code and the empty folder `own` can be read."""
    os.environ.update({"HOME": str(own), "K4_HOME": str(own), "DAGSTER_HOME": str(own), "TMPDIR": str(own)})
    tempfile.tempdir = str(own)
    os.chdir(own)
    if not reads_only([*_allowed(), str(own)]):
        _hooked()
        _Seal.closed, _Seal.own = True, str(own)


def _hooked() -> None:
    if not _Seal.hooked:
        # numba looks for installed extensions when it first compiles or loads: in every folder packages are found in,
        # a checkout among them.
        entrypoints.init_all()
        sys.addaudithook(_hook)
        _Seal.hooked = True


@contextmanager
def sealed() -> Iterator[None]:
    """Within the block: an empty home and working folder, and `SealBrokenError` for what is opened elsewhere."""
    _hooked()
    before, where = dict(os.environ), Path.cwd()
    with tempfile.TemporaryDirectory(prefix="k4-sealed-") as empty:
        os.environ.update({"HOME": empty, "K4_HOME": empty, "DAGSTER_HOME": empty, "TMPDIR": empty})
        os.chdir(empty)
        closed, _Seal.closed = _Seal.closed, True
        try:
            yield
        finally:
            _Seal.closed = closed
            os.chdir(where)
            os.environ.clear()
            os.environ.update(before)


def disguised(bars: Bars, weeks: int) -> Bars:
    """The same bars of tickers with other names (the suffix of their exchange kept), so many weeks earlier.

    The order of the tickers stays, so that row i is row i.
    """
    names = [
        f"Q{i:06d}" + (f".{str(t).rpartition('.')[2]}" if "." in str(t) else "") for i, t in enumerate(bars.tickers)
    ]
    columns = {c: getattr(bars, c) for c in ("open", "high", "low", "close", "volume")}
    tickers = np.array(names, dtype=object)
    return Bars(tickers=tickers, offsets=bars.offsets, date=bars.date - np.int32(7 * weeks), **columns)
