"""Where each series of one ticker lies in the scratch buffer the kernels share: 55 channel rows, then helper rows.

One flat float64 buffer holds `N_ROWS` rows of equal stride, reused from ticker to ticker. Before every row lies a
margin of NaN that nothing writes to: a kernel reads what lies earlier without asking whether the ticker is that old,
and what is not there is missing. After it lies room for the last group of lanes. Positions are frozen into the compiled
kernels (`_numba`).
"""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.config import N_MARKET_FEATURES
from k4_pipeline.features.spec import MARKET_COLUMN

MARGIN = 128  # bars of NaN before each row: the longest distance any kernel looks back at once
_GROUP = 16  # rows end on a whole group of this many bars
_LINE = 8  # float64 values of a cache line

_HELPERS = (
    "bbw_key",  # bbw_20 * 1e9, rounded: what comparisons, ranks, medians and minima read
    "range",  # H - L
    "true_range",
    "plus_move",  # directional movement up, down
    "minus_move",
    "return",  # simple one-bar return of close
    "log_return",
    "mean_v20",
    "std_30",  # std_30(C)
    "mean_bbw_30",
    "mean_ratio_30",  # mean_30 of volume_ratio_20
    "mass",  # m of feature 33
    "work_0",  # partial sums of one kernel
    "work_1",
    "work_2",
    "work_3",
    "work_4",
    "work_5",
)
HELPER_ROW: dict[str, int] = {name: N_MARKET_FEATURES + i for i, name in enumerate(_HELPERS)}
N_ROWS = N_MARKET_FEATURES + len(_HELPERS)


def channel_row(name: str) -> np.int64:
    """Scratch row of a market channel. A numpy integer: numba compiles a kernel again for every plain literal."""
    return np.int64(MARKET_COLUMN[name])


def helper_row(name: str) -> np.int64:
    """Scratch row of a helper series."""
    return np.int64(HELPER_ROW[name])


def scratch_stride(n_bars: int) -> int:
    """Distance between rows for `n_bars` bars: whole groups, and rows do not start a multiple of 4 KiB apart."""
    stride = MARGIN + (n_bars + _GROUP - 1) // _GROUP * _GROUP
    return stride + _LINE if stride % 512 == 0 else stride


def scratch(stride: int) -> np.ndarray:
    """A scratch buffer of `N_ROWS` rows, all NaN, that starts on a cache line."""
    room = np.full(N_ROWS * stride + _LINE, np.nan)
    first = -(room.ctypes.data // room.itemsize) % _LINE
    return room[first : first + N_ROWS * stride]


@njit
def start(index: int, stride: int) -> int:
    """Position in the buffer of the first bar of row `index`."""
    return index * stride + MARGIN


@njit
def row(buffer: np.ndarray, index: int, stride: int, n: int) -> np.ndarray:
    """Row `index` of the scratch buffer, (n,) contiguous."""
    return buffer[index * stride + MARGIN : index * stride + MARGIN + n]
