"""`python -m k4_pipeline.training --data DIR --out DIR`: train on a bundle, on this machine, and write a checkpoint.

Needs torch, numpy, pandas, pyarrow, numba and safetensors; neither the store nor Dagster. On CUDA the panel stays on
the device. With rows to predict in the bundle, their probabilities go to `predictions.safetensors`, in their order.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

import safetensors.numpy
import torch

from k4_pipeline.config import to_dict
from k4_pipeline.errors import K4Error
from k4_pipeline.storage import atomic_write_bytes
from k4_pipeline.training.bundle import Bundle, Member, read_bundle
from k4_pipeline.training.checkpoint import save_checkpoint
from k4_pipeline.training.device_batches import DeviceBatches
from k4_pipeline.training.loop import train
from k4_pipeline.training.predict import predict_probabilities
from k4_pipeline.training.seeding import resolve_device
from k4_pipeline.training.source import BatchSource

PREDICTIONS_FILE = "predictions.safetensors"


def _sources(bundle: Bundle, device: torch.device) -> list[BatchSource | None]:
    members = (bundle.train, bundle.validation, bundle.predict)
    if device.type == "cpu":
        return [None if m is None else bundle.dataset(m) for m in members]
    panel = torch.from_numpy(bundle.panel).to(device)

    def on_device(m: Member) -> DeviceBatches:
        return DeviceBatches(
            panel,
            bundle.index,
            m.rows,
            bundle.scaler,
            m.targets,
            m.weights,
            device=device,
        )

    return [None if m is None else on_device(m) for m in members]


class _Lines:
    """Progress as a line on stderr, at most one a second."""

    def __init__(self) -> None:
        self.last = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last >= 1.0 or done == total:
            self.last = now
            print(f"step {done} of {total}", file=sys.stderr, flush=True)


def run(data: Path, out: Path, *, device: str | None = None, epochs: int | None = None, quiet: bool = False) -> dict:
    """Train, write checkpoint (and predictions) into `out`; returns the summary that is also in `model.json`."""
    bundle = read_bundle(data)
    config = bundle.training
    if device is not None:
        config = dataclasses.replace(config, device=device)
    if epochs is not None:
        config = dataclasses.replace(config, epochs=epochs)
    train_set, validation_set, predict_set = _sources(bundle, resolve_device(config.device))
    assert train_set is not None
    assert validation_set is not None
    result = train(bundle.model, config, bundle.loss, train_set, validation_set, progress=None if quiet else _Lines())
    summary = result.summary()
    meta = {
        **bundle.meta,
        "config": {name: to_dict(value) for name, value in
                   (("model", bundle.model), ("training", config), ("loss", bundle.loss))},
        "scaler_json": bundle.scaler.to_json(),
        "scaler_hash": bundle.scaler.hash(),
        "history": result.history,
        "training": {name: value for name, value in summary.items() if name != "history"},
    }  # fmt: skip
    save_checkpoint(out, result.model, meta)
    if predict_set is not None:
        p = predict_probabilities(result.model, predict_set)
        atomic_write_bytes(out / PREDICTIONS_FILE, safetensors.numpy.save({"p": p}))
    return summary


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 on success, 1 with a message on an error a user can act on."""
    parser = argparse.ArgumentParser(prog="python -m k4_pipeline.training", description="Train on a prepared bundle.")
    parser.add_argument("--data", type=Path, required=True, help="folder written by write_bundle")
    parser.add_argument("--out", type=Path, required=True, help="folder for model.safetensors and model.json")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or auto; default: as the bundle says")
    parser.add_argument("--epochs", type=int, help="default: as the bundle says")
    parser.add_argument("--quiet", action="store_true", help="no progress lines")
    given = parser.parse_args(arguments)
    try:
        summary = run(given.data, given.out, device=given.device, epochs=given.epochs, quiet=given.quiet)
    except K4Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps({name: value for name, value in summary.items() if name != "history"}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
