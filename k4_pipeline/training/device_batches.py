"""Batches computed where the model runs: the panel stays on the device, a batch is one Triton kernel.

The same function as sequences/model_inputs.py (scale-free transform, clip, standardisation, padding), so that a GPU
never waits for a data loader. Agreement to 1e-5 is tested. On a device without Triton the batch is made by
sequences/model_inputs.py on the processor and copied.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from k4_pipeline.config import SEQUENCE_BARS
from k4_pipeline.errors import BadInputError
from k4_pipeline.features.reference import VOLUME_FLOOR
from k4_pipeline.features.spec import FEATURES, MARKET_COLUMN
from k4_pipeline.kernels.selective_scan import choose_backend
from k4_pipeline.sequences.assemble import END, N_VALID, PATTERN_ORDER, SequenceIndex
from k4_pipeline.sequences.model_inputs import CLIP_LOWER, CLIP_UPPER, assemble_inputs
from k4_pipeline.sequences.standardisation import Scaler

_ALIGNED = 8  # bfloat16 values in the 16 bytes to which matrix kernels want rows aligned


def _sources() -> np.ndarray:
    """Where each canonical channel stands in [market columns, pattern channels]: int64 (69,)."""
    pattern = {name: len(MARKET_COLUMN) + k for k, name in enumerate(PATTERN_ORDER)}
    return np.array([MARKET_COLUMN[f.name] if f.name in MARKET_COLUMN else pattern[f.name] for f in FEATURES])


class DeviceBatches:
    """A `BatchSource` whose panel, index, targets and weights live on `device`; x float32 (or `dtype`)."""

    def __init__(
        self,
        panel_values: np.ndarray | Tensor,
        index: SequenceIndex,
        rows: np.ndarray,
        scaler: Scaler,
        targets: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        context: np.ndarray | Tensor | None = None,
    ) -> None:
        """Arguments as `sequences.dataset.SequenceDataset`; a panel that is a tensor on the device already is shared.

        Raises `BadInputError` for rows outside index or panel, or without a bar.
        """
        self.device, self.dtype = torch.device(device), dtype
        scaler.check_usable(exact_close=index.close is not None)
        rows = np.asarray(rows, dtype=np.int64)
        self._check(len(panel_values), index, rows)
        self.fused = choose_backend(self.device) == "triton"
        self._rows, self._index, self._scaler = rows, index, scaler
        self.panel = torch.as_tensor(panel_values).to(self.device if self.fused else "cpu", torch.float32)
        self.close = None if index.close is None else torch.from_numpy(index.close).to(self.device)
        self.index = torch.from_numpy(index.rows[rows]).to(self.device)  # (n, 4) int64
        self.geometry = torch.from_numpy(index.geometry[rows]).to(self.device)  # (n, 8) float64
        self.targets = None if targets is None else torch.as_tensor(targets).long().to(self.device)
        self.weights = None if weights is None else torch.as_tensor(weights).float().to(self.device)
        self.context: Tensor | None = None
        if context is not None:  # (n, k), of the last bars
            self.context = torch.as_tensor(context).to(self.device, torch.float32)
        self.tables: Any = None

    @staticmethod
    def _check(n_bars: int, index: SequenceIndex, rows: np.ndarray) -> None:
        if len(rows) == 0:
            return
        if rows.min() < 0 or rows.max() >= len(index):
            raise BadInputError(f"rows run from {rows.min()} to {rows.max()}; the index has {len(index)} sequences")
        chosen = index.rows[rows]
        if chosen[:, END].max() >= n_bars or (index.close is not None and len(index.close) != n_bars):
            raise BadInputError(f"the index does not belong to this panel of {n_bars} bars; use the same bars for both")
        empty = np.flatnonzero((chosen[:, N_VALID] < 1) | (chosen[:, N_VALID] > SEQUENCE_BARS))
        if len(empty):
            raise BadInputError(f"{len(empty)} sequences have no valid bar (first: row {empty[0]}); leave them out")

    def __len__(self) -> int:
        return len(self.index)

    def _kernel(self, i: Tensor, width: int = len(FEATURES), dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """x (b, 50, width) and mask (b, 50) of positions i (b,) int64 on the device; behind the channels are zeros."""
        from k4_pipeline.kernels.model_inputs.triton_op import SCALES, Tables, assemble_batch

        if self.tables is None:

            def channel(values: Any, dtype: torch.dtype = torch.float32) -> Tensor:
                return torch.as_tensor(np.asarray(values)).to(self.device, dtype)

            offsets = {"volume": VOLUME_FLOOR, "count": 1.0}
            self.tables = Tables(
                source=channel(_sources(), torch.int32),
                scale=channel([SCALES.index(f.scale) for f in FEATURES], torch.int32),
                log_offset=channel([offsets.get(f.scale, 0.0) for f in FEATURES]),
                lower=channel(CLIP_LOWER),
                upper=channel(CLIP_UPPER),
                center=channel(self._scaler.center),
                inverse_scale=channel(1.0 / self._scaler.scale.astype(np.float64)),
            )
        return assemble_batch(
            self.panel,
            self.close,
            self.index,
            self.geometry,
            i,
            self.tables,
            bars=SEQUENCE_BARS,
            price_column=MARKET_COLUMN["current_price"],
            bound=self._scaler.clip_sigmas,
            width=width,
            dtype=dtype or self.dtype,
        )

    def _on_processor(self, i: Tensor) -> tuple[Tensor, Tensor]:
        rows = self._rows[i.cpu().numpy()]
        x, mask = assemble_inputs(self.panel.numpy(), self._index, rows, self._scaler)
        return torch.from_numpy(x).to(self.device, self.dtype), torch.from_numpy(mask).to(self.device)

    def _labels(self, at: Tensor) -> tuple[Tensor | None, Tensor | None]:
        y = None if self.targets is None else self.targets[at]
        return y, None if self.weights is None else self.weights[at]

    def bar_context(self, i: np.ndarray | Tensor) -> Tensor | None:
        """The context (b, k) float32 of the last bars of positions i, on the device."""
        if self.context is None:
            return None
        return self.context[torch.as_tensor(i, dtype=torch.int64).to(self.device, non_blocking=True)]

    def wide_batch(self, at: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """`batch` of positions on the device as bfloat16 with zeros behind the channels, up to a multiple of eight.

        What a bfloat16 product on tensor cores wants; the models' input layers take it. Plain `batch` where there is no
        kernel that writes it.
        """
        if not self.fused:
            return self.batch(at)
        x, mask = self._kernel(at, -(-len(FEATURES) // _ALIGNED) * _ALIGNED, torch.bfloat16)
        return x, mask, *self._labels(at)

    def batch(self, i: np.ndarray | Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """x (b, 50, 69), mask (b, 50), y (b,) int64 or None, w (b,) float32 or None, all on the device."""
        at = torch.as_tensor(i, dtype=torch.int64).to(self.device, non_blocking=True)
        x, mask = self._kernel(at) if self.fused else self._on_processor(at)
        return x, mask, *self._labels(at)
