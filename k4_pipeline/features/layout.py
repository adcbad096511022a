"""Where each series of one ticker lies in the scratch buffer the kernels share: 55 channel rows, then helper rows.

One flat float64 buffer holds `N_ROWS` rows of equal stride, so that every row is contiguous; it is reused from ticker
to ticker and stays in the cache. Positions are frozen into the compiled kernels (`_numba`).
"""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.config import N_MARKET_FEATURES
from k4_pipeline.features.spec import MARKET_COLUMN

_HELPERS = (
    "bbw_key",  # bbw_20 * 1e9, rounded: what comparisons, ranks, medians and minima read
    "bbw_filled",  # bbw_20 values in a row that are there
    "range",  # H - L
    "true_range",
    "return",  # simple one-bar return of close
    "mean_v5",
    "mean_v20",
    "mean_v50",
    "equal_close",  # equal closes in a row
    "equal_volume",
    "a",  # a-d hold nothing from one function to the next
    "b",
    "c",
    "d",
    "work_0",  # four rows side by side, used as one piece inside a kernel
    "work_1",
    "work_2",
    "work_3",
)
HELPER_ROW: dict[str, int] = {name: N_MARKET_FEATURES + i for i, name in enumerate(_HELPERS)}
N_ROWS = N_MARKET_FEATURES + len(_HELPERS)


def channel_row(name: str) -> np.int64:
    """Scratch row of a market channel. A numpy integer: numba compiles a kernel anew for every plain literal."""
    return np.int64(MARKET_COLUMN[name])


def helper_row(name: str) -> np.int64:
    """Scratch row of a helper series."""
    return np.int64(HELPER_ROW[name])


_WORK = helper_row("work_0")


def scratch_stride(n_bars: int) -> int:
    """Row length for `n_bars` bars: whole cache lines, and rows do not start a multiple of 4 KiB apart."""
    stride = (n_bars + 7) // 8 * 8
    return stride + 8 if stride % 512 == 0 else stride


@njit
def row(buffer: np.ndarray, index: int, stride: int, n: int) -> np.ndarray:
    """Row `index` of the scratch buffer, (n,) contiguous."""
    return buffer[index * stride : index * stride + n]


@njit
def work_rows(buffer: np.ndarray, stride: int, n: int) -> np.ndarray:
    """Scratch of four rows, (4n,) contiguous, for the inside of one kernel."""
    return buffer[_WORK * stride : _WORK * stride + 4 * n]
