"""`python -m torch.distributed.run --nproc-per-node N -m k4_pipeline.bench processes`: training by N processes.

The same rows, weights, batches and settings (preset small, no dropout) through `training.train`, one GPU each: losses
by epoch, which must not depend on N beyond rounding, and train rows a second. Started plainly: one process.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from k4_pipeline.bench.environment import environment
from k4_pipeline.bench.train import bench_data
from k4_pipeline.config import LossConfig, ModelConfig, TrainConfig
from k4_pipeline.training import parallel
from k4_pipeline.training.device_batches import DeviceBatches
from k4_pipeline.training.loop import train

EPOCHS = 4  # the first one compiles and captures


class _Clock:
    """`progress` of `train` that times the steps after the first epoch, with the GPU waited for at both ends."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.begin, self.end, self.steps = device, 0.0, 0.0, 0

    def __call__(self, done: int, total: int) -> None:
        if done in (total // EPOCHS, total):
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            now, first = time.perf_counter(), done < total
            self.begin, self.end = (now, now) if first else (self.begin, now)
            self.steps = total - total // EPOCHS


def run(device: str = "auto", *, batch: int | None = None, rows: int = 0) -> dict[str, Any]:
    """`losses` by epoch (JSON-safe), `samples_per_s` of the epochs after the first; equal for every process.

    `batch` (8192 on CUDA, 64 on a CPU) is that of all processes together. `rows` (0: 20 batches on CUDA, 4 on a CPU)
    are taken again when there are more than the sequences of the benchmark.
    """
    with parallel.process_group():
        where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        batch = batch or (8192 if where.type == "cuda" else 64)
        panel, index, scaler, targets = bench_data()
        chosen = np.arange(rows or batch * (20 if where.type == "cuda" else 4)) % len(index)
        source = DeviceBatches(panel, index, chosen, scaler, targets[chosen], device=where)
        settings = TrainConfig(
            epochs=EPOCHS,
            batch_size=batch,
            device="cuda" if where.type == "cuda" else "cpu",
            precision="bf16" if where.type == "cuda" else "fp32",
            compile=where.type == "cuda",
            patience=EPOCHS,
        )
        clock = _Clock(where)
        model = ModelConfig(dropout=0.0, head_dropout=0.0)
        result = train(model, settings, LossConfig(), source, None, progress=clock)
        return {
            **environment(where),
            "processes": parallel.size(),
            "batch": batch,
            "rows": len(chosen),
            "losses": [epoch["train_loss"] for epoch in result.history],
            "gradient_norms": [epoch["gradient_norm"] for epoch in result.history],
            "samples_per_s": clock.steps * batch / (clock.end - clock.begin),
        }
