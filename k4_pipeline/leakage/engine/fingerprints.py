"""Fingerprints of everything a run made, and the record of what each thing was made from."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

import k4_pipeline
from k4_pipeline.config import config_hash
from k4_pipeline.features.spec import feature_list_hash
from k4_pipeline.pipeline.stages import PipelineRun


@functools.lru_cache(maxsize=1)
def package_fingerprint() -> str:
    """sha256 over every source file of the package: which code made this."""
    root = Path(k4_pipeline.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def frame_fingerprint(frame: pd.DataFrame | None) -> str:
    """sha256 over names, dtypes and every value of a table, in its order."""
    if frame is None:
        return "none"
    digest = hashlib.sha256()
    for name in frame.columns:
        column = frame[name]
        digest.update(f"{name}|{column.dtype}|{len(column)}\0".encode())
        if column.dtype.kind in "fiubM" and not pd.api.types.is_extension_array_dtype(column.dtype):
            digest.update(np.ascontiguousarray(column.to_numpy()).view(np.uint8).data)
        else:
            digest.update("\0".join(map(str, column.astype(object))).encode())
    return digest.hexdigest()


def array_fingerprint(values: np.ndarray) -> str:
    """sha256 over dtype, shape and bytes."""
    digest = hashlib.sha256(f"{values.dtype}|{values.shape}".encode())
    digest.update(np.ascontiguousarray(values).view(np.uint8).data)
    return digest.hexdigest()


def weights_fingerprint(model: nn.Module) -> str:
    """sha256 over every weight by name."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.detach().cpu().numpy()).view(np.uint8).data)
    return digest.hexdigest()


def _json_fingerprint(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def fingerprints(full: PipelineRun) -> dict[str, str]:
    """The fingerprint of everything in hand, computed now."""
    out = {
        "code": package_fingerprint(),
        "config": config_hash(full.config),
        "features": feature_list_hash(),
        "bars": full.bars.fingerprint(),
        "panel": array_fingerprint(full.panel),
        "snapshots": frame_fingerprint(full.snapshots),
        "labeled": frame_fingerprint(full.labeled),
        "sequences": frame_fingerprint(full.sequences),
        "split": frame_fingerprint(full.split),
        "manifest": full.manifest.fingerprint if full.manifest is not None else "none",
        "predictions": frame_fingerprint(full.predictions),
        "metrics": _json_fingerprint(full.metrics),
    }
    if full.fitted is not None:
        fitted = full.fitted
        out |= {
            "scaler": fitted.scaler.hash(),
            "calibrator": fitted.calibrator.hash(),
            "weights": weights_fingerprint(fitted.model),
            "history": _json_fingerprint(fitted.history),
        }
    return out


# What each thing is made from; a link holds when the record of the thing names the present state of its sources.
MADE_FROM = {
    "panel": ("bars", "features", "code"),
    "snapshots": ("bars", "config", "code"),
    "labeled": ("bars", "snapshots", "config", "code"),
    "sequences": ("bars", "snapshots", "code"),
    "split": ("labeled", "config", "code"),
    "scaler": ("panel", "sequences", "split", "config", "code"),
    "weights": ("scaler", "split", "panel", "sequences", "config", "code"),
    "calibrator": ("weights", "split", "config", "code"),
    "predictions": ("weights", "calibrator", "scaler", "panel", "sequences", "split", "config", "code"),
    "metrics": ("predictions", "labeled", "config", "code"),
}


def record(full: PipelineRun) -> dict[str, Any]:
    """`own`: fingerprint of each thing; `made_from`: fingerprints of its sources when it was made."""
    own = fingerprints(full)
    links = {name: {s: own[s] for s in sources if s in own} for name, sources in MADE_FROM.items() if name in own}
    return {"own": own, "made_from": links}
