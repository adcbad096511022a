"""The patterns and snapshots of one ticker found a second time, from docs/patterns.md, sharing no code with patterns/.

Window sums are taken by numpy over sliding views, the state machine and the ADX by plain loops. What stored snapshots
are compared with: a pattern that only hindsight removed leaves no trace that a replay of the others could find.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from k4_pipeline.config import PatternConfig

_BAND, _RANK, _ADX = 20, 100, 14
_TIE = 1e-6  # of the previous close: directional moves closer than this are equal
_MASK = 2**64 - 1


@dataclass(frozen=True)
class FoundPattern:
    """Bar numbers within the ticker; `end` is the first bar that is not ACTIVE (the number of bars when still open)."""

    start: int
    activation: int
    end: int


def _full(n: int, window: int, values: np.ndarray) -> np.ndarray:
    """(n,) with NaN in front of the first filled window."""
    out = np.full(n, np.nan)
    out[window - 1 :] = values
    return out


def _mean(x: np.ndarray, window: int) -> np.ndarray:
    return _full(len(x), window, sliding_window_view(x, window).mean(axis=1))


def band_width(close: np.ndarray) -> np.ndarray:
    """bbw_20 in percent, rounded to 9 decimals, (n,)."""
    windows = sliding_window_view(close, _BAND)
    mean = windows.mean(axis=1)
    spread = np.sqrt(((windows - mean[:, None]) ** 2).mean(axis=1))
    flat = (windows == windows[:, :1]).all(axis=1)
    return _full(len(close), _BAND, np.round(np.where(flat, 0.0, 4.0 * spread / mean * 100.0), 9))


def band_percentile(width: np.ndarray) -> np.ndarray:
    """Share of the last 100 widths strictly below the current one; NaN while one of them is missing."""
    windows = sliding_window_view(width, _RANK)
    share = (windows < windows[:, -1:]).sum(axis=1) / _RANK
    return _full(len(width), _RANK, np.where(np.isnan(windows).any(axis=1), np.nan, share))


def directional_index(high: np.ndarray, low: np.ndarray, close: np.ndarray) -> np.ndarray:
    """Wilder's ADX (14), seeded as TA-Lib does, ties of the directional moves ignored, (n,)."""
    n = len(close)
    out = np.full(n, np.nan)
    up, down = np.maximum(np.diff(high), 0.0), np.maximum(-np.diff(low), 0.0)
    tie = np.abs(up - down) < _TIE * close[:-1]
    plus = np.where((up > down) & ~tie, up, 0.0).tolist()
    minus = np.where((down > up) & ~tie, down, 0.0).tolist()
    p, m, seeds, adx = sum(plus[: _ADX - 1]), sum(minus[: _ADX - 1]), [], np.nan
    for t in range(_ADX, n):
        p, m = p - p / _ADX + plus[t - 1], m - m / _ADX + minus[t - 1]
        dx = 100.0 * abs(p - m) / (p + m) if p + m > 0 else None
        if t < 2 * _ADX:
            seeds.append(0.0 if dx is None else dx)
            if t == 2 * _ADX - 1:
                adx = out[t] = sum(seeds) / _ADX
            continue
        adx = adx if dx is None else (adx * (_ADX - 1) + dx) / _ADX
        out[t] = adx
    return out


def _ratio(x: np.ndarray) -> np.ndarray:
    mean = _mean(x, _BAND)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(mean != 0, x / mean, np.nan)


def qualifies(
    high: np.ndarray, low: np.ndarray, close: np.ndarray, volume: np.ndarray, config: PatternConfig
) -> np.ndarray:
    """Whether each bar meets the criteria, bool (n,); what is not available is not met."""
    if len(close) < _BAND + _RANK - 1:
        return np.zeros(len(close), dtype=bool)
    with np.errstate(invalid="ignore"):
        others = (
            (directional_index(high, low, close) < config.adx_max).astype(int)
            + (_ratio(volume) < config.volume_ratio_max)
            + (_ratio(high - low) < config.range_ratio_max)
        )
        return (band_percentile(band_width(close)) < config.bbw_percentile_max) & (others >= config.min_other)


def scan(
    high: np.ndarray, low: np.ndarray, close: np.ndarray, volume: np.ndarray, config: PatternConfig
) -> list[FoundPattern]:
    """The patterns of one ticker that count, in order."""
    good = qualifies(high, low, close, volume, config).tolist()
    closes, n = close.tolist(), len(close)
    found, in_a_row, t = [], 0, 0
    while t < n:
        in_a_row = in_a_row + 1 if good[t] else 0
        if in_a_row == config.qualifying_bars:
            start = t - config.qualifying_bars + 1
            top, bottom = float(high[start : t + 1].max()), float(low[start : t + 1].min())
            power, end = top * config.power_factor, t + 1
            while end < n and bottom <= closes[end] <= power and end - t < config.max_active_bars:
                end += 1
            # Ten identical bars of a dead listing give a box without height: no snapshot can be made of it.
            if t + 1 >= config.min_history_bars and 0 < bottom < top:
                found.append(FoundPattern(start, t, end))
            in_a_row, t = 0, end  # the ending bar does not itself start a pattern
        t += 1
    return found


def _mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def is_sampled(pattern: FoundPattern, bar: int, day: int, ticker: str, config: PatternConfig) -> bool:
    """Whether the ACTIVE bar `bar` dated `day` becomes a snapshot: the documented hash of (seed, ticker, date)."""
    age = bar - pattern.activation
    if age == 0:
        return True
    digest = int.from_bytes(hashlib.blake2b(ticker.encode(), digest_size=8).digest(), "little")
    number = (_mix(_mix(_mix(config.sampling_seed & _MASK) ^ digest) ^ (day & _MASK)) >> 11) / 2**53
    late = age > config.late_after_bars
    return number < (config.sample_probability_late if late else config.sample_probability)
