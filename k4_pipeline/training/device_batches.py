"""Batches computed where the model runs: the panel stays on the device, a batch is an index gather and one formula.

The same function as sequences/model_inputs.py (scale-free transform, clip, standardisation, padding), so that a GPU
never waits for a data loader: one Triton kernel on CUDA (kernels/model_inputs), torch elsewhere. The reference is the
numba kernel there; agreement to 1e-5 is tested.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from k4_pipeline.config import SEQUENCE_BARS
from k4_pipeline.errors import BadInputError
from k4_pipeline.features.spec import FEATURES, MARKET_COLUMN
from k4_pipeline.kernels.selective_scan import choose_backend
from k4_pipeline.sequences.assemble import (
    ACTIVATION,
    CLOSE,
    END,
    LOWER,
    MEAN_VOLUME,
    N_VALID,
    POWER,
    PRIOR_WIDTH,
    QUALIFYING,
    START,
    START_PRICE,
    UPPER,
    SequenceIndex,
)
from k4_pipeline.sequences.model_inputs import CLIP_LOWER, CLIP_UPPER, VOLUME_FLOOR
from k4_pipeline.sequences.standardisation import Scaler

_ALIGNED = 8  # bfloat16 values in the 16 bytes to which matrix kernels want rows aligned

# The pattern channels in the order `_pattern_channels` stacks them.
_PATTERN_ORDER = (
    "days_since_activation",
    "days_in_pattern",
    "consolidation_channel_width_pct",
    "consolidation_period_days",
    "price_position_in_range",
    "price_distance_from_upper_pct",
    "price_distance_from_lower_pct",
    "distance_from_power_pct",
    "start_price",
    "upper_boundary",
    "lower_boundary",
    "power_boundary",
    "channel_narrowing_pct",
    "days_in_qualification",
)


def _permutation() -> np.ndarray:
    """Where each canonical channel stands in [55 market columns, 14 pattern channels]: int64 (69,)."""
    pattern = {name: len(MARKET_COLUMN) + k for k, name in enumerate(_PATTERN_ORDER)}
    return np.array([MARKET_COLUMN[f.name] if f.name in MARKET_COLUMN else pattern[f.name] for f in FEATURES])


def _is(scale: str) -> np.ndarray:
    return np.array([f.scale == scale for f in FEATURES])


def _pattern_channels(r: Tensor, price: Tensor, index: Tensor, geometry: Tensor) -> Tensor:
    """(b, 50, 14) float32 of bars r (b, 50), their closes, index rows (b, 4) and geometry (b, 8), both float64.

    In float64, because distances to a boundary are small differences of prices.
    """

    def of(column: int) -> Tensor:
        return geometry[:, column, None]  # (b, 1)

    upper, lower, power, prior = of(UPPER), of(LOWER), of(POWER), of(PRIOR_WIDTH)
    width = upper - lower
    since_start = r - index[:, START, None]
    columns = [
        (r - index[:, ACTIVATION, None]).double(),
        since_start.double(),
        width / lower * 100.0,
        (since_start + 1).clamp(min=0).double(),
        (price - lower) / width,
        (upper - price) / price * 100.0,
        (price - lower) / price * 100.0,
        (power - price) / price * 100.0,
        of(START_PRICE),
        upper,
        lower,
        power,
        (prior - width) / prior * 100.0,
        of(QUALIFYING),
    ]
    return torch.stack([c.expand(r.shape) for c in columns], dim=-1).float()


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
        compile: bool = False,
        context: np.ndarray | Tensor | None = None,
    ) -> None:
        """Arguments as `sequences.dataset.SequenceDataset`; a panel that is a tensor on the device already is shared.
        `compile` is for devices without the kernel.

        Raises `BadInputError` for rows outside index or panel, or without a bar.
        """
        self.device, self.dtype = torch.device(device), dtype
        scaler.check_usable(exact_close=index.close is not None)
        rows = np.asarray(rows, dtype=np.int64)
        self._check(len(panel_values), index, rows)
        self.panel = torch.as_tensor(panel_values).to(self.device, torch.float32)
        self.close = None if index.close is None else torch.from_numpy(index.close).to(self.device)
        self.index = torch.from_numpy(index.rows[rows]).to(self.device)  # (n, 4) int64
        self.geometry = torch.from_numpy(index.geometry[rows]).to(self.device)  # (n, 8) float64
        self.targets = None if targets is None else torch.as_tensor(targets).long().to(self.device)
        self.weights = None if weights is None else torch.as_tensor(weights).float().to(self.device)
        self.context: Tensor | None = None
        if context is not None:  # (n, k), of the last bars
            self.context = torch.as_tensor(context).to(self.device, torch.float32)
        self._constants(scaler)
        self.tables: Any = None
        self._assemble: Callable[..., tuple[Tensor, Tensor]] = self._formula
        self.fused = choose_backend(self.device) == "triton"
        if self.fused:
            self._assemble = self._kernel
        elif compile:
            self._assemble = torch.compile(self._formula, dynamic=False)

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

    def _constants(self, scaler: Scaler) -> None:
        def channel(values: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.as_tensor(values).to(self.device, dtype)

        self.permutation = channel(_permutation(), torch.int64)
        self.level, self.width, self.volume, self.count = (
            channel(_is(s), torch.bool) for s in ("price_level", "price_width", "volume", "count")
        )
        self.logged = self.level | self.volume | self.count
        self.log_offset = channel(np.where(_is("volume"), VOLUME_FLOOR, np.where(_is("count"), 1.0, 0.0)))
        self.lower, self.upper = channel(CLIP_LOWER), channel(CLIP_UPPER)
        self.center, self.inverse_scale = channel(scaler.center), channel(1.0 / scaler.scale.astype(np.float64))
        self.bound = scaler.clip_sigmas
        self.bars = torch.arange(SEQUENCE_BARS, device=self.device)
        self.price_column = MARKET_COLUMN["current_price"]

    def __len__(self) -> int:
        return len(self.index)

    def _formula(self, i: Tensor) -> tuple[Tensor, Tensor]:
        """x (b, 50, 69) and mask (b, 50) of positions i (b,) int64 on the device."""
        index, geometry = self.index[i], self.geometry[i]  # (b, 4), (b, 8)
        r = index[:, END, None] - (SEQUENCE_BARS - 1) + self.bars  # (b, 50)
        mask = self.bars >= SEQUENCE_BARS - index[:, N_VALID, None]
        at = r.clamp(min=0)  # before the first bar of the panel there is only padding
        market = self.panel[at]  # (b, 50, 55)
        price = market[..., self.price_column].double() if self.close is None else self.close[at]
        raw = torch.cat([market, _pattern_channels(r, price, index, geometry)], dim=-1)
        x = raw.index_select(-1, self.permutation)  # (b, 50, 69)

        anchor = geometry[:, CLOSE, None, None]  # not positive: NaN, as the reference has it
        per_anchor = torch.where(anchor > 0, 1.0 / anchor, torch.nan).float()
        volume = geometry[:, MEAN_VOLUME, None, None]
        per_volume = torch.where(volume > 0, 1.0 / volume, torch.nan).float()
        per_price = (1.0 / price)[..., None].float()
        x = torch.where(self.level, x * per_anchor, x)
        x = torch.where(self.width, x * per_price, x)
        x = torch.where(self.volume, x * per_volume, x)
        magnitude = torch.log(torch.where(self.count, x.abs(), x) + self.log_offset)
        x = torch.where(self.logged, torch.where(self.count, torch.copysign(magnitude, x), magnitude), x)

        # Clamp passes NaN on; infinity is missing too, so finiteness is asked before it.
        z = ((x.clamp(self.lower, self.upper) - self.center) * self.inverse_scale).clamp(-self.bound, self.bound)
        keep = torch.isfinite(x) & mask[..., None]
        return torch.where(keep, z, 0.0).to(self.dtype), mask

    def _kernel(self, i: Tensor, width: int = len(FEATURES), dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """`_formula` in one Triton kernel; `width` above the number of channels leaves zeros behind them."""
        from k4_pipeline.kernels.model_inputs.triton_op import SCALES, Tables, assemble_batch

        if self.tables is None:
            codes = np.array([SCALES.index(f.scale) for f in FEATURES])
            self.tables = Tables(
                source=self.permutation.int(),
                scale=torch.as_tensor(codes, dtype=torch.int32).to(self.device),
                log_offset=self.log_offset,
                lower=self.lower,
                upper=self.upper,
                center=self.center,
                inverse_scale=self.inverse_scale,
            )
        return assemble_batch(
            self.panel,
            self.close,
            self.index,
            self.geometry,
            i,
            self.tables,
            bars=SEQUENCE_BARS,
            price_column=self.price_column,
            bound=self.bound,
            width=width,
            dtype=dtype or self.dtype,
        )

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
        x, mask = self._assemble(at)
        return x, mask, *self._labels(at)
