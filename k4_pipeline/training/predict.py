"""Probabilities of a trained model, row by row the same whatever else is in the batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from k4_pipeline.models import check_mask
from k4_pipeline.progress import Progress
from k4_pipeline.training.source import BatchSource, context_of
from k4_pipeline.training.step import autocast

PREDICT_BATCH = 256


def predict_logits(
    model: nn.Module,
    source: BatchSource,
    *,
    batch_size: int = PREDICT_BATCH,
    device: torch.device | str | None = None,
    precision: str = "fp32",
    progress: Progress | None = None,
) -> Tensor:
    """Logits (n, classes) float32 on the CPU, in the order of the source; the model ends in the mode it was in.

    Every forward pass has exactly `batch_size` rows (the last one is filled up with copies of its first row, whose
    results are dropped): matrix libraries choose their kernels by the shape, so a row's bits would otherwise depend on
    how many rows came with it. Bits may still differ between machines, thread counts and batch sizes.
    """
    if device is None:
        first = next(model.parameters(), None)  # trees and a logit have none
        device = torch.device("cpu") if first is None else first.device
    device = torch.device(device)
    model.to(device)
    n = len(source)
    parts: list[Tensor] = []
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), autocast(device, precision), torch.backends.cudnn.flags(enabled=False):
            for start in range(0, n, batch_size):
                stop = min(start + batch_size, n)
                rows = np.full(batch_size, start, dtype=np.int64)
                rows[: stop - start] = np.arange(start, stop)
                x, mask, _, _ = source.batch(rows)
                if mask.device.type == "cpu":  # device batches were checked when they were made
                    check_mask(mask)
                context = context_of(source, rows)
                extra = [] if context is None else [context.to(device, non_blocking=True)]
                logits = model(x.to(device, non_blocking=True), mask.to(device, non_blocking=True), *extra)
                parts.append(logits[: stop - start].float())
                if progress is not None:
                    progress(stop, n)
    finally:
        model.train(was_training)
    if not parts:
        return torch.empty(0, getattr(model, "n_classes", 0))
    return torch.cat(parts).cpu()


def predict_probabilities(
    model: nn.Module,
    dataset: BatchSource,
    *,
    batch_size: int = PREDICT_BATCH,
    device: torch.device | str | None = None,
    precision: str = "fp32",
    progress: Progress | None = None,
) -> np.ndarray:
    """Class probabilities (n, classes) float32; see `predict_logits` for what a row's value may depend on."""
    logits = predict_logits(
        model, dataset, batch_size=batch_size, device=device, precision=precision, progress=progress
    )
    return torch.softmax(logits.double(), dim=-1).float().numpy()
