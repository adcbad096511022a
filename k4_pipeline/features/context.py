"""Context of a bar: what the 69 channels cannot see, because it needs a longer look-back or the other tickers.

One float32 row per (ticker, date). Every feature reads closes, highs, lows and close * volume, each as a ratio, a rank
or a dollar amount, so a later split (prices times k, volumes over k) changes none of them. Features of the scope
`ticker` read bars of their own ticker up to t. Those of the scope `date` compare with the other tickers of the same
date; they are functions of the bars dated <= t of the tickers that have a bar on that date, and of nothing else.
What is not available is NaN. The canonical 69 channels and their export do not change.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from k4_pipeline._numba import n_threads, run_chunks
from k4_pipeline.errors import ConfigError
from k4_pipeline.features.compute import ticker_ranges
from k4_pipeline.features.kernels import context_kernels as kernels
from k4_pipeline.market.bars import Bars

HISTORY_BARS = kernels.HISTORY_BARS
_CHUNK_BARS = 100_000
_LONGEST_BARS = 251  # the longest window of a feature of one ticker but for the count of its bars


@dataclass(frozen=True)
class ContextSpec:
    """One context feature.

    lookback_bars: bars of a ticker needed up to and including t, NaN before (`bars` counts them and is never NaN).
    scope: `ticker` for its own bars alone, `date` for a comparison within the date. scale: always
    `invariant`, a split does not change it.
    """

    name: str
    formula: str
    lookback_bars: int
    scope: Literal["ticker", "date"] = "ticker"
    scale: Literal["invariant"] = "invariant"


# `r` is the log return of one bar, `dv` close * volume. The kernels write the columns in this order.
_OWN = (
    ContextSpec("log_volatility_20", "log of the standard deviation of r over 20 bars", 21),
    ContextSpec("log_volatility_60", "log of the standard deviation of r over 60 bars", 61),
    ContextSpec("log_volatility_250", "log of the standard deviation of r over 250 bars", 251),
    ContextSpec("return_20", "log(C / C[t-20])", 21),
    ContextSpec("return_60", "log(C / C[t-60])", 61),
    ContextSpec("return_120", "log(C / C[t-120])", 121),
    ContextSpec("return_250", "log(C / C[t-250])", 251),
    ContextSpec("distance_to_high_250", "log(C / highest H of 250 bars)", 250),
    ContextSpec("distance_to_low_250", "log(C / lowest L of 250 bars)", 250),
    ContextSpec("zero_return_share_60", "share of 60 bars with r = 0", 61),
    ContextSpec("log_largest_move_60", "log of the largest |r| of 60 bars", 61),
    ContextSpec("skew_60", "skewness of r over 60 bars", 61),
    ContextSpec("dollar_volume_trend", "log(mean_20(dv) + 1) - log(mean_250(dv) + 1)", 250),
    ContextSpec("log_illiquidity_60", "log((mean_60(|r|) + 1e-5) / (mean_60(dv) + 1)), after Amihud 2002", 61),
    ContextSpec("log_history", f"log(1 + bars of the ticker up to t, at most {HISTORY_BARS})", HISTORY_BARS),
)
_DATE = (
    ContextSpec("relative_dollar_volume", "log(mean_20(dv) + 1) minus its mean over the date", 20, "date"),
    ContextSpec("market_volatility_20", "mean of log_volatility_20 over the date", 21, "date"),
    ContextSpec("market_volatility_60", "mean of log_volatility_60 over the date", 61, "date"),
    ContextSpec("market_return_20", "mean of return_20 over the date", 21, "date"),
    ContextSpec("market_return_60", "mean of return_60 over the date", 61, "date"),
)
_RANKED = (
    "log_volatility_20",
    "log_volatility_60",
    "log_volatility_250",
    "return_20",
    "return_60",
    "return_250",
    "distance_to_high_250",
    "zero_return_share_60",
    "log_illiquidity_60",
    "relative_dollar_volume",
)
_BEFORE_RANKS = (*_OWN, *_DATE)
_BY_NAME = {spec.name: spec for spec in _BEFORE_RANKS}
CONTEXT_FEATURES: tuple[ContextSpec, ...] = (
    *_BEFORE_RANKS,
    *(
        ContextSpec(
            f"rank_{name}", f"share of the date's tickers below in {name}", _BY_NAME[name].lookback_bars, "date"
        )
        for name in _RANKED
    ),
)
CONTEXT_NAMES: tuple[str, ...] = tuple(spec.name for spec in CONTEXT_FEATURES)
N_CONTEXT = len(CONTEXT_FEATURES)

_AT = {name: i for i, name in enumerate(CONTEXT_NAMES)}
_MEANS_OF = np.array([_AT[name] for name in ("log_volatility_20", "log_volatility_60", "return_20", "return_60")])
_MEANS_TO = np.array([_AT[s.name] for s in _DATE[1:]])
MARKET_MEANS: tuple[int, ...] = tuple(_MEANS_TO.tolist())  # columns that are the same for all tickers of a date
_RANKS_OF = np.array([_AT[name] for name in _RANKED])
_DOLLAR_VOLUME = _AT["relative_dollar_volume"]

if len(_OWN) != kernels.N_OWN or _DOLLAR_VOLUME != kernels.N_OWN:
    raise ConfigError(f"{len(_OWN)} context features of one ticker are declared; the kernel writes {kernels.N_OWN}")


def context_list_hash() -> str:
    """16 hex digits that change when any declaration changes; stored with tables and models."""
    rows = [[s.name, s.formula, s.lookback_bars, s.scope, s.scale] for s in CONTEXT_FEATURES]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def compute_context(bars: Bars, *, out: np.ndarray | None = None, threads: int | None = None) -> np.ndarray:
    """The context of every bar, (n_bars, N_CONTEXT) float32, row i = row i of `bars`, columns as `CONTEXT_NAMES`.

    Cutting the bars at any date leaves the rows up to it as they are, to the bit: sums over a date run in the order of
    the tickers. `out` (same shape, float32, possibly memory-mapped) is filled and returned.
    """
    n_bars = len(bars)
    if out is None:
        out = np.empty((n_bars, N_CONTEXT), dtype=np.float32)
    own_columns(bars, out, threads=threads)
    return date_columns(bars.date, out, threads=threads)


def own_columns(bars: Bars, out: np.ndarray, *, threads: int | None = None) -> np.ndarray:
    """Fill the columns of `out` (n_bars, N_CONTEXT) that need a bar's own ticker alone; the first pass of two."""
    wanted = threads or n_threads()
    ranges = ticker_ranges(bars.offsets, max(1, min(_CHUNK_BARS, len(bars) // (4 * wanted) + 1)))

    def own(start: int, stop: int) -> None:
        for first, last in ranges[start:stop]:
            for ticker in range(first, last):
                rows = int(bars.offsets[ticker]), int(bars.offsets[ticker + 1])
                kernels.own_rows(*rows, bars.high, bars.low, bars.close, bars.volume, out)

    run_chunks(own, len(ranges), 1, wanted)
    return out


def date_columns(date: np.ndarray, out: np.ndarray, *, threads: int | None = None) -> np.ndarray:
    """Fill the columns that compare within a date, from those of `own_columns`; the second pass.

    `date` (n,) int32; rows of one date stand in the order of the tickers, and all of them are there.
    """
    wanted = threads or n_threads()
    order = np.argsort(date, kind="stable")  # within a date in the order of the tickers
    edges = np.flatnonzero(np.diff(date[order], prepend=date[order[:1]] - 1, append=date.max() + 1))

    def dates(start: int, stop: int) -> None:
        kernels.date_rows(order, edges[start : stop + 1], _MEANS_OF, _MEANS_TO, _DOLLAR_VOLUME, _RANKS_OF, out)

    n_dates = len(edges) - 1
    run_chunks(dates, n_dates, max(1, n_dates // (8 * wanted)), wanted)
    return out


def last_day_context(bars: Bars, *, threads: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(tickers with a bar on the last day (n,), their context on it (n, N_CONTEXT)), equal to those rows of
    `compute_context` to the bit, at the cost of the longest window and not of the whole history.
    """
    ends = bars.offsets[1:] - 1
    there = np.flatnonzero(bars.date[ends] == bars.last_day)
    history = np.diff(bars.offsets)[there]
    kept = np.minimum(history, _LONGEST_BARS)
    offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    rows = np.repeat(ends[there] + 1 - offsets[1:], kept) + np.arange(int(offsets[-1]))
    high, low, close, volume = (np.ascontiguousarray(x[rows]) for x in (bars.high, bars.low, bars.close, bars.volume))
    tail = np.empty((len(rows), N_CONTEXT), dtype=np.float32)

    def own(start: int, stop: int) -> None:
        for i in range(start, stop):
            kernels.own_rows(int(offsets[i]), int(offsets[i + 1]), high, low, close, volume, tail)

    run_chunks(own, len(there), 64, threads or n_threads())
    out = np.ascontiguousarray(tail[offsets[1:] - 1])
    counted = np.minimum(history, HISTORY_BARS)
    out[:, _AT["log_history"]] = [math.log(1.0 + int(n)) for n in counted]  # bars before the tail count, too
    order, edges = np.arange(len(there)), np.array([0, len(there)])
    kernels.date_rows(order, edges, _MEANS_OF, _MEANS_TO, _DOLLAR_VOLUME, _RANKS_OF, out)
    return bars.tickers[there], out
