"""A trained model on disk: `model.safetensors` (weights) and `model.json` (everything needed to trust and use them).

Loading verifies before it builds: the weights' sha256 (safetensors itself notices almost no flipped bit), the feature
list, the scaler's hash, and whatever the caller expects of split and data. No pickle is written or read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

from k4_pipeline import __version__
from k4_pipeline.config import ModelConfig, from_dict, to_dict
from k4_pipeline.errors import ConfigError, StaleArtifactError
from k4_pipeline.features.spec import feature_list_hash
from k4_pipeline.models import build_model
from k4_pipeline.models.ensemble import Ensemble, build_ensemble
from k4_pipeline.storage import atomic_write_bytes, atomic_write_json

WEIGHTS_FILE = "model.safetensors"
META_FILE = "model.json"
FORMAT = 1


def library_versions() -> dict[str, str]:
    """Versions a reader needs to reproduce the numbers."""
    return {
        "k4_pipeline": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "safetensors": safetensors.__version__,
    }


def text_hash(text: str) -> str:
    """Hex sha256 of a text; of a scaler's JSON, for one."""
    return hashlib.sha256(text.encode()).hexdigest()


def _meta_hash(record: dict[str, Any]) -> str:
    """Of everything in `model.json` but the hash itself, independent of its layout."""
    content = {key: value for key, value in record.items() if key != "meta_sha256"}
    return text_hash(json.dumps(content, sort_keys=True, allow_nan=False))


def save_checkpoint(folder: Path | str, model: nn.Module, meta: dict[str, Any]) -> Path:
    """Write `model` (any device) and `meta` (JSON-safe, no NaN) into `folder`; returns the path of `model.json`.

    `meta` may hold what it likes; these keys are checked again on loading when present: `scaler_json` (text),
    `feature_list_hash`, `split_fingerprint`, `data_fingerprint`, `as_of`. The JSON is written last and names the hash
    of the weights, so an interrupted write leaves a pair that does not match and is refused.
    """
    folder = Path(folder)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    data = safetensors.torch.save(weights)
    record = {
        "feature_list_hash": feature_list_hash(),
        "versions": library_versions(),
        **meta,
        "format": FORMAT,
        "weights_sha256": hashlib.sha256(data).hexdigest(),
        "n_parameters": sum(value.numel() for value in weights.values()),
        "model": _shape_of(model),
    }
    # Through JSON once, so that what is hashed here is what a reader will hash.
    record = json.loads(json.dumps(record, allow_nan=False))
    if "scaler_json" in record:
        record["scaler_json_sha256"] = text_hash(record["scaler_json"])
    record["meta_sha256"] = _meta_hash(record)
    atomic_write_bytes(folder / WEIGHTS_FILE, data)
    atomic_write_json(folder / META_FILE, record)
    return folder / META_FILE


def _shape_of(model: nn.Module) -> dict[str, Any]:
    """What `load_checkpoint` needs to build the module again."""
    if isinstance(model, Ensemble):
        refitted = model.validated_members is not None
        shape = {"ensemble": model.describe(), "refitted": refitted, "both": model.both}
        return {"config": to_dict(model.config), **shape}
    names = ("n_features", "n_classes", "seq_len", "n_context")
    return {"config": to_dict(model.config), **{name: getattr(model, name) for name in names}}


def _compare(folder: Path, what: str, stored: Any, expected: Any, remedy: str) -> None:
    if stored != expected:
        raise StaleArtifactError(f"checkpoint {folder}: {what} is {stored}, expected {expected}; {remedy}")


def read_meta(folder: Path | str) -> dict[str, Any]:
    """The content of `model.json`; `StaleArtifactError` when it is missing, unreadable or of another format."""
    folder = Path(folder)
    try:
        meta = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StaleArtifactError(f"no checkpoint in {folder}: {META_FILE} is missing; train a model first") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StaleArtifactError(f"checkpoint {folder}: {META_FILE} is damaged ({error}); train again") from None
    if not isinstance(meta, dict):
        raise StaleArtifactError(f"checkpoint {folder}: {META_FILE} holds no object; train again")
    _compare(folder, "the format", meta.get("format"), FORMAT, "train again with this version of k4_pipeline")
    _compare(folder, f"the sha256 of {META_FILE}", _meta_hash(meta), meta.get("meta_sha256"), "it was edited; retrain")
    return meta


def _model_config(folder: Path, stored: dict[str, Any], meta: dict[str, Any]) -> ModelConfig:
    """The settings of the network. One that this version does not have is left out where it was off, and said.

    Any other may have changed what the weights mean, even where they fit: that is a `StaleArtifactError`.
    """
    known = {f.name for f in dataclasses.fields(ModelConfig)}
    off = sorted(name for name, value in stored.items() if name not in known and (value is None or value is False))
    try:
        config = from_dict(ModelConfig, {n: v for n, v in stored.items() if n not in off}, within="model")
    except ConfigError as problem:
        version = meta.get("versions", {}).get("k4_pipeline", "another version")
        raise StaleArtifactError(
            f"checkpoint {folder} was written by k4_pipeline {version} with settings that {__version__} does not know "
            f"({problem}), so its scores are not those of then; train again (`k4 run`: a candidate whose checks pass "
            "takes over), or install that version to go on with this model"
        ) from problem
    if off:
        gone = ", ".join(off)
        warnings.warn(f"checkpoint {folder}: {gone} is no setting any more; it was off and is left out", stacklevel=3)
    return config


def load_checkpoint(folder: Path | str, device: torch.device | str = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """(model in eval mode on `device`, meta). A model trained on CUDA loads on a CPU: the backend becomes `auto`.

    Every mismatch (weights, feature list, scaler, shapes) is a `StaleArtifactError` that names stored and expected.
    """
    folder = Path(folder)
    meta = read_meta(folder)
    try:
        data = (folder / WEIGHTS_FILE).read_bytes()
    except FileNotFoundError:
        raise StaleArtifactError(f"checkpoint {folder}: {WEIGHTS_FILE} is missing; train again") from None
    _compare(
        folder,
        "the sha256 of the weights",
        hashlib.sha256(data).hexdigest(),
        meta.get("weights_sha256"),
        "the file is damaged or half written; train again",
    )
    _compare(
        folder,
        "the feature list",
        meta.get("feature_list_hash"),
        feature_list_hash(),
        "the features have changed since training; train again",
    )
    if "scaler_json" in meta:
        _compare(
            folder,
            "the hash of the scaler",
            text_hash(meta["scaler_json"]),
            meta.get("scaler_json_sha256"),
            "the scaler was edited after training; train again",
        )

    stored = meta["model"]
    config = _model_config(folder, {**stored["config"], "backend": "auto"}, meta)
    model: nn.Module
    if "ensemble" in stored:
        model = build_ensemble(config, stored["ensemble"], refitted=stored["refitted"], both=stored["both"])
    else:
        shape = (stored["n_features"], stored["n_classes"], stored["seq_len"], stored.get("n_context", 0))
        model = build_model(config, *shape)
    try:
        model.load_state_dict(safetensors.torch.load(data), strict=True)
    except RuntimeError as error:
        raise StaleArtifactError(f"checkpoint {folder}: the weights do not fit the architecture: {error}") from None
    return model.to(device).eval(), meta
