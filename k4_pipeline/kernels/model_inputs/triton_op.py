"""One Triton kernel from panel, index and geometry to a batch: gather, pattern channels, scale-free form, scaler.

A program holds a few bars and all channels. What a channel is (which column or pattern value, which scale, clip, center
and scale) comes from tables, so the kernel knows no channel by name. Differences of prices are taken in float64, as in
the reference; what follows is float32. The result may be wider than the channels (zeros behind them) and bfloat16: what
a matrix product on tensor cores wants.
"""

import contextlib
import dataclasses
from typing import Any, Optional

import torch
import triton
import triton.language as tl
from torch import Tensor

# scale classes of features/spec.py, by the numbers the kernel knows them by
SCALES = ("invariant", "price_level", "price_width", "volume", "count")
_BARS_PER_PROGRAM = 16


@dataclasses.dataclass(frozen=True)
class Tables:
    """Per channel, (channels,) each: source is a panel column, or the panel's width plus k for pattern value k."""

    source: Tensor  # int32
    scale: Tensor  # int32, a position in SCALES
    log_offset: Tensor  # float32
    lower: Tensor
    upper: Tensor
    center: Tensor
    inverse_scale: Tensor


@triton.jit
def _pick(x, k, number: tl.constexpr, value):
    """x, but `value` (bars,) in the columns of pattern value `number`."""
    return tl.where(k == number, value[:, None], x)


@triton.jit
def _channels(
    panel, tables, out, bar, r, real, valid, values, factors, bound, c,
    COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Channels c of the bars: raw value, scale-free form, clip, scaler."""
    source_of, scale_of, offset_of, lower_of, upper_of, center_of, inverse_of = tables
    inside = c < CHANNELS
    source = tl.load(source_of + c, mask=inside, other=0)
    scale = tl.load(scale_of + c, mask=inside, other=0)[None, :]
    market = real[:, None] & (inside & (source < COLUMNS))[None, :]
    x = tl.load(panel + r[:, None] * COLUMNS + source[None, :], mask=market, other=0.0)  # (bars, channels)
    k = source[None, :] - COLUMNS
    for number in tl.static_range(CHANNELS - COLUMNS):
        x = _pick(x, k, number, values[number])
    per_anchor, per_price, per_volume = factors
    factor = tl.where(scale == 1, per_anchor[:, None], 1.0)
    factor = tl.where(scale == 2, per_price[:, None], factor)
    factor = tl.where(scale == 3, per_volume[:, None], factor)
    x = x * factor
    offset = tl.load(offset_of + c, mask=inside, other=1.0)[None, :]
    logged = tl.log(tl.where(scale == 4, tl.abs(x), x) + offset)
    logged = tl.where((scale == 4) & (x < 0.0), -logged, logged)
    x = tl.where((scale == 1) | (scale == 3) | (scale == 4), logged, x)

    finite = tl.abs(x) < float("inf")  # false for NaN
    x = tl.maximum(x, tl.load(lower_of + c, mask=inside, other=0.0)[None, :])
    x = tl.minimum(x, tl.load(upper_of + c, mask=inside, other=0.0)[None, :])
    x = x - tl.load(center_of + c, mask=inside, other=0.0)[None, :]
    x = x * tl.load(inverse_of + c, mask=inside, other=0.0)[None, :]
    x = tl.minimum(tl.maximum(x, -bound), bound)
    x = tl.where(finite & valid[:, None] & inside[None, :], x, 0.0)
    wide = real[:, None] & (c < WIDE)[None, :]
    tl.store(out + bar[:, None] * WIDE + c[None, :], x.to(out.dtype.element_ty), mask=wide)


@triton.jit
def assemble(
    panel, close, index, geometry, positions, source_of, scale_of, offset_of, lower_of, upper_of, center_of, inverse_of,
    out, mask, total, bound,
    BARS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr,
    PRICE: tl.constexpr, EXACT: tl.constexpr, BB: tl.constexpr,
):  # fmt: skip
    """out (total / BARS, BARS, WIDE) and mask (total / BARS, BARS); columns of index: end, bars, start, activation; of
    geometry: upper, lower, power, start price, prior width, bars in qualification, close, mean volume.

    Channels are taken 64 at a time and REST, a power of two, at the end.
    """
    bar = tl.program_id(0).to(tl.int64) * BB + tl.arange(0, BB)
    real = bar < total
    row = tl.load(positions + bar // BARS, mask=real, other=0)
    j = bar % BARS
    r = tl.load(index + row * 4, mask=real, other=0) - (BARS - 1) + j
    valid = real & (j >= BARS - tl.load(index + row * 4 + 1, mask=real, other=0))
    r = tl.maximum(r, 0)  # before the first bar of the panel there is only padding
    since = (r - tl.load(index + row * 4 + 2, mask=real, other=0)).to(tl.float32)
    active = (r - tl.load(index + row * 4 + 3, mask=real, other=0)).to(tl.float32)
    if EXACT:
        price = tl.load(close + r, mask=real, other=1.0)
    else:
        price = tl.load(panel + r * COLUMNS + PRICE, mask=real, other=1.0).to(tl.float64)
    shape = geometry + row * 8
    upper = tl.load(shape, mask=real, other=1.0)
    lower = tl.load(shape + 1, mask=real, other=1.0)
    power = tl.load(shape + 2, mask=real, other=1.0)
    opening = tl.load(shape + 3, mask=real, other=1.0)
    prior = tl.load(shape + 4, mask=real, other=1.0)
    qualifying = tl.load(shape + 5, mask=real, other=1.0)
    anchor = tl.load(shape + 6, mask=real, other=1.0)
    volume = tl.load(shape + 7, mask=real, other=1.0).to(tl.float32)
    missing = float("nan")
    per_price = 1.0 / price
    per_anchor = tl.where(anchor > 0, 1.0 / anchor, missing).to(tl.float32)
    per_volume = tl.where(volume > 0, 1.0 / volume, missing)
    percent = 100.0 * per_price
    width = upper - lower
    values = (
        active,
        since,
        100.0 * width.to(tl.float32) / lower.to(tl.float32),
        tl.maximum(since + 1.0, 0.0),
        (price - lower).to(tl.float32) / width.to(tl.float32),
        ((upper - price) * percent).to(tl.float32),
        ((price - lower) * percent).to(tl.float32),
        ((power - price) * percent).to(tl.float32),
        opening.to(tl.float32),
        upper.to(tl.float32),
        lower.to(tl.float32),
        power.to(tl.float32),
        100.0 * (prior - width).to(tl.float32) / prior.to(tl.float32),
        qualifying.to(tl.float32),
    )
    factors = (per_anchor, per_price.to(tl.float32), per_volume)
    tables = (source_of, scale_of, offset_of, lower_of, upper_of, center_of, inverse_of)
    tl.store(mask + bar, valid, mask=real)
    WHOLE: tl.constexpr = WIDE // 64
    for part in tl.static_range(WHOLE):
        c = part * 64 + tl.arange(0, 64)
        _channels(panel, tables, out, bar, r, real, valid, values, factors, bound, c, COLUMNS, CHANNELS, WIDE)
    if WHOLE * 64 < WIDE:
        c = WHOLE * 64 + tl.arange(0, REST)
        _channels(panel, tables, out, bar, r, real, valid, values, factors, bound, c, COLUMNS, CHANNELS, WIDE)


def assemble_batch(
    panel: Tensor,
    close: Optional[Tensor],  # noqa: UP045
    index: Tensor,
    geometry: Tensor,
    positions: Tensor,
    tables: Tables,
    *,
    bars: int,
    price_column: int,
    bound: float,
    width: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """x (b, bars, width), zero behind the channels, and mask (b, bars) bool for positions (b,) int64 of `index`."""
    batch, channels = len(positions), len(tables.source)
    x = torch.empty((batch, bars, width), dtype=dtype, device=panel.device)
    mask = torch.empty((batch, bars), dtype=torch.bool, device=panel.device)
    total = batch * bars
    where: Any = torch.cuda.device(panel.device) if panel.is_cuda else contextlib.nullcontext()
    with where:
        assemble[(triton.cdiv(total, _BARS_PER_PROGRAM),)](
            panel, panel if close is None else close, index, geometry, positions,
            tables.source, tables.scale, tables.log_offset, tables.lower, tables.upper,
            tables.center, tables.inverse_scale, x, mask, total, bound,
            BARS=bars, COLUMNS=panel.shape[1], CHANNELS=channels, WIDE=width,
            REST=triton.next_power_of_2(width % 64 or 1), PRICE=price_column, EXACT=close is not None,
            BB=_BARS_PER_PROGRAM, num_warps=1,
        )  # fmt: skip
    return x, mask
