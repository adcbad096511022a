"""A folder with all one training run needs, to be carried to a machine that has no store: arrays and settings.

`bundle.safetensors` holds the panel rows that the sequences touch, the sequence index, and the rows, targets and
weights of train and validation; rows to predict go without targets, so no test label ever travels. `bundle.json` holds
the settings, the scaler and the fingerprints, and the sha256 of the arrays.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from k4_pipeline.config import SEQUENCE_BARS, LossConfig, ModelConfig, TrainConfig, from_dict, to_dict
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.features.spec import feature_list_hash
from k4_pipeline.sequences.assemble import END, N_VALID, SequenceIndex
from k4_pipeline.sequences.dataset import SequenceDataset
from k4_pipeline.sequences.standardisation import Scaler
from k4_pipeline.storage import atomic_write_bytes, atomic_write_json

ARRAYS_FILE = "bundle.safetensors"
META_FILE = "bundle.json"
FORMAT = 1
# Bars before the first valid one that the model inputs read: the means of the last 20 closes (model_inputs.py).
_BARS_BEFORE = 19


@dataclass(frozen=True, eq=False)
class Member:
    """Rows of the sequence index (n,) int64; classes (n,) int64 or None; weights (n,) float32 or None."""

    rows: np.ndarray
    targets: np.ndarray | None = None
    weights: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Bundle:
    """One training run: data, settings, and `meta` (as_of, fingerprints, ...) which goes into the checkpoint."""

    panel: np.ndarray  # (n_bars, 55) float32
    index: SequenceIndex
    scaler: Scaler
    train: Member
    validation: Member
    predict: Member | None
    model: ModelConfig
    training: TrainConfig
    loss: LossConfig
    meta: dict[str, Any] = field(default_factory=dict)

    def dataset(self, member: Member) -> SequenceDataset:
        """The member as model inputs, assembled on the CPU when read."""
        return SequenceDataset(self.panel, self.index, member.rows, self.scaler, member.targets, member.weights)


def compact(panel: np.ndarray, index: SequenceIndex) -> tuple[np.ndarray, SequenceIndex]:
    """Only the panel rows that some sequence reads, and the index moved to them; the model inputs stay as they are.

    Start and activation rows move with their sequence. They may then point outside the panel; only their distance to
    the end row is ever used.
    """
    end, n_valid = index.rows[:, END], index.rows[:, N_VALID]
    first = np.maximum(end - np.minimum(n_valid, SEQUENCE_BARS) + 1 - _BARS_BEFORE, 0)
    # +1 where a window begins, -1 after it ends: positive sums are the rows in use.
    edges = np.zeros(len(panel) + 1, dtype=np.int64)
    np.add.at(edges, first, 1)
    np.add.at(edges, end + 1, -1)
    used = np.cumsum(edges[:-1]) > 0
    moved_to = np.cumsum(used) - 1
    rows = index.rows + (moved_to[end] - end)[:, None]
    rows[:, N_VALID] = n_valid
    close = None if index.close is None else np.ascontiguousarray(index.close[used])
    return np.ascontiguousarray(panel[used], dtype=np.float32), SequenceIndex(rows, index.geometry.copy(), close)


def _member_arrays(name: str, member: Member | None) -> dict[str, np.ndarray]:
    if member is None:
        return {}
    values = dataclasses.asdict(member)
    return {f"{name}.{key}": np.ascontiguousarray(value) for key, value in values.items() if value is not None}


def write_bundle(folder: Path | str, bundle: Bundle) -> Path:
    """Write `bundle` (compacted, and only the sequences its members name) into `folder`; returns the JSON's path."""
    folder = Path(folder)
    members = {"train": bundle.train, "validation": bundle.validation, "predict": bundle.predict}
    wanted = np.unique(np.concatenate([m.rows for m in members.values() if m is not None]))
    panel, index = compact(bundle.panel, bundle.index.take(wanted))
    arrays = {"panel": panel, "index.rows": index.rows, "index.geometry": index.geometry}
    if index.close is not None:
        arrays["index.close"] = index.close
    for name, member in members.items():
        if member is not None:
            member = dataclasses.replace(member, rows=np.searchsorted(wanted, member.rows).astype(np.int64))
            if name == "predict":
                member = Member(member.rows)  # whatever labels the caller had
        arrays |= _member_arrays(name, member)
    data = safetensors.numpy.save(arrays)
    record = {
        "format": FORMAT,
        "arrays_sha256": hashlib.sha256(data).hexdigest(),
        "feature_list_hash": feature_list_hash(),
        "model": to_dict(bundle.model),
        "training": to_dict(bundle.training),
        "loss": to_dict(bundle.loss),
        "scaler_json": bundle.scaler.to_json(),
        "meta": bundle.meta,
    }
    atomic_write_bytes(folder / ARRAYS_FILE, data)
    atomic_write_json(folder / META_FILE, record)
    return folder / META_FILE


def read_bundle(folder: Path | str) -> Bundle:
    """The bundle in `folder`; `StaleArtifactError` when it is missing, damaged, or of another feature list."""
    folder = Path(folder)
    try:
        record = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
        data = (folder / ARRAYS_FILE).read_bytes()
    except FileNotFoundError as error:
        raise StaleArtifactError(f"no training bundle in {folder}: {Path(error.filename).name} is missing") from None
    except ValueError as error:
        raise StaleArtifactError(f"bundle {folder}: {META_FILE} is damaged ({error}); write it again") from None
    for what, stored, expected in (
        ("format", record.get("format"), FORMAT),
        ("sha256 of the arrays", hashlib.sha256(data).hexdigest(), record.get("arrays_sha256")),
        ("feature list", record.get("feature_list_hash"), feature_list_hash()),
    ):
        if stored != expected:
            raise StaleArtifactError(
                f"bundle {folder}: {what} is {stored}, expected {expected}; write the bundle again"
            )
    arrays = safetensors.numpy.load(data)

    def member(name: str) -> Member:
        return Member(*(arrays.get(f"{name}.{key}") for key in ("rows", "targets", "weights")))  # type: ignore[arg-type]

    return Bundle(
        panel=arrays["panel"],
        index=SequenceIndex(arrays["index.rows"], arrays["index.geometry"], arrays.get("index.close")),
        scaler=Scaler.from_json(record["scaler_json"]),
        train=member("train"),
        validation=member("validation"),
        predict=member("predict") if "predict.rows" in arrays else None,
        model=from_dict(ModelConfig, record["model"]),
        training=from_dict(TrainConfig, record["training"]),
        loss=from_dict(LossConfig, record["loss"]),
        meta=record["meta"],
    )
