"""The rows of a fit or of a prediction in the form that the training code reads, on the device where it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from k4_pipeline.sequences import dataset
from k4_pipeline.sequences.assemble import END, N_VALID, SequenceIndex
from k4_pipeline.sequences.model_inputs import assemble_inputs
from k4_pipeline.sequences.standardisation import Scaler
from k4_pipeline.training.device_batches import DeviceBatches
from k4_pipeline.training.source import Batch, BatchSource

LAST_BAR_KINDS = ("no_sequence", "tabm")  # networks that read the last bar alone
_CHUNK = 2048


@dataclass(frozen=True)
class Rows:
    """Some sequences with their classes: everything a member can be fitted on, and nothing computed yet."""

    panel: np.ndarray
    index: SequenceIndex
    rows: np.ndarray  # (n,) positions in the index
    scaler: Scaler
    targets: np.ndarray | None = None
    weights: np.ndarray | None = None
    context: np.ndarray | None = None  # (n_bars, k)
    unread: tuple[int, ...] = ()  # columns of the context that count as not available

    def __len__(self) -> int:
        return len(self.rows)

    def sequences(self) -> dataset.SequenceDataset:
        """Whole sequences, assembled when a batch is read."""
        return dataset.SequenceDataset(
            self.panel, self.index, self.rows, self.scaler, self.targets, self.weights, self.contexts()
        )

    def last_bars(self) -> np.ndarray:
        """The standardised inputs (n, 69) float32 of the last bars, computed a few rows at a time."""
        out = np.empty((len(self.rows), 69), dtype=np.float32)
        for start in range(0, len(self.rows), _CHUNK):
            chosen = self.index.take(self.rows[start : start + _CHUNK])
            chosen.rows[:, N_VALID] = 1
            out[start : start + _CHUNK] = assemble_inputs(self.panel, chosen, np.arange(len(chosen)), self.scaler)[0][
                :, -1
            ]
        return out

    def contexts(self) -> np.ndarray | None:
        """The context (n, k) float32 of the last bars, NaN where not available; None without context."""
        if self.context is None:
            return None
        values = np.array(self.context[self.index.rows[self.rows, END]], dtype=np.float32)
        values[:, list(self.unread)] = np.nan
        return values

    def without_context(self) -> Rows:
        """The same rows for a network that reads the sequence alone."""
        return replace(self, context=None)

    def some(self, frac: float) -> Rows:
        """Every 1 / frac-th row, evenly spaced."""
        n = max(1, round(frac * len(self.rows)))
        at = np.arange(n) * len(self.rows) // n
        y, w = (None if a is None else a[at] for a in (self.targets, self.weights))
        return replace(self, rows=self.rows[at], targets=y, weights=w)

    def tabular(self) -> np.ndarray:
        """What trees and a logit are fitted on: (n, 69 + k) float32."""
        context = self.contexts()
        assert context is not None
        return np.concatenate([self.last_bars(), context], axis=1)

    def source(self, kind: str, device: torch.device, panel: torch.Tensor | None = None) -> BatchSource:
        """The rows as a network of that kind reads them, on its device; `panel` is one that is there already."""
        if kind in LAST_BAR_KINDS:
            return LastBars(self, device)
        if device.type == "cpu":
            return self.sequences()
        return DeviceBatches(
            self.panel if panel is None else panel,
            self.index,
            self.rows,
            self.scaler,
            self.targets,
            self.weights,
            device=device,
            context=self.contexts(),
        )


class LastBars:
    """A `BatchSource` of sequences of length 1, held on the device: 400 bytes a row."""

    def __init__(self, rows: Rows, device: torch.device) -> None:
        self.x = torch.from_numpy(rows.last_bars()).unsqueeze(1).to(device)  # (n, 1, 69)
        context = rows.contexts()
        assert context is not None
        self.context = torch.from_numpy(context).to(device)
        self.targets = None if rows.targets is None else torch.as_tensor(rows.targets).long().to(device)
        self.weights = None if rows.weights is None else torch.as_tensor(rows.weights).float().to(device)
        self.fused = device.type == "cuda"  # a batch is made on the device alone: a step on it can be captured

    def __len__(self) -> int:
        return len(self.x)

    def _at(self, i: np.ndarray | torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(i, dtype=torch.int64).to(self.x.device)

    def batch(self, i: np.ndarray | torch.Tensor) -> Batch:
        """x (b, 1, 69), mask (b, 1), classes and weights."""
        at = self._at(i)
        x = self.x[at]
        y = None if self.targets is None else self.targets[at]
        w = None if self.weights is None else self.weights[at]
        return x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device), y, w

    def bar_context(self, i: np.ndarray | torch.Tensor) -> torch.Tensor:
        """The context (b, k) of positions i."""
        return self.context[self._at(i)]
