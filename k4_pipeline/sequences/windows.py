"""Where the bars of each snapshot's sequence lie in the panel, and the geometry its pattern channels need.

The `sequences` table holds row numbers and a handful of numbers per snapshot; the (50, 69) tensor itself is assembled
when a batch is read (assemble.py, model_inputs.py). Everything here is a function of bars up to the snapshot bar.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline._numba import njit
from k4_pipeline.config import MEAN_VOLUME_BARS, MIN_VALID_HISTORY_BARS, SEQUENCE_BARS, PatternConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import Bars, to_days

KEY_COLUMNS = ("ticker", "pattern_id", "start_date", "snapshot_date")
SEQUENCE_COLUMNS = (
    *KEY_COLUMNS,
    "end_row",
    "first_row",
    "start_row",
    "activation_row",
    "n_valid",
    "upper",
    "lower",
    "power",
    "start_price",
    "prior_width",
    "close_at_snapshot",
    "mean_volume",
    "qualifying_bars",
)


@njit
def _prior_width(start: np.ndarray, first: np.ndarray, high: np.ndarray, low: np.ndarray, n_bars: int) -> np.ndarray:
    """max(high) - min(low) of the `n_bars` bars before each start row; NaN where the ticker has fewer."""
    out = np.full(len(start), np.nan)
    for i in range(len(start)):
        if start[i] - first[i] >= n_bars:
            before = slice(start[i] - n_bars, start[i])
            out[i] = high[before].max() - low[before].min()
    return out


@njit
def _mean_volume(end: np.ndarray, first: np.ndarray, volume: np.ndarray, n_bars: int, least: int) -> np.ndarray:
    """Mean of the last `n_bars` volumes up to each end row (those there are); NaN with fewer than `least`.

    Each window is summed afresh: a running sum would carry rounding from the history before it.
    """
    out = np.full(len(end), np.nan)
    for i in range(len(end)):
        begin = max(first[i], end[i] - n_bars + 1)
        count = end[i] - begin + 1
        if count >= least:
            total = 0.0
            for r in range(begin, end[i] + 1):
                total += volume[r]
            out[i] = total / count
    return out


def index_sequences(
    bars: Bars, snapshots: pd.DataFrame, *, prior_range_bars: int = PatternConfig.prior_range_bars
) -> pd.DataFrame:
    """The `sequences` table: one row per snapshot, in order; row numbers count in `bars` (and in its panel).

    A bar is valid from its ticker's 20th bar on; `n_valid` (1..50) valid bars end at the snapshot bar, the rest of the
    50 is padding in front. Raises `BadInputError` naming the snapshots whose bars are missing, out of order or preceded
    by fewer than 20 bars.
    """
    rows = {
        name: bars.locate(snapshots["ticker"], _days(snapshots, column))
        for name, column in (
            ("start_row", "start_date"),
            ("activation_row", "activation_date"),
            ("end_row", "snapshot_date"),
        )
    }
    for name, located in rows.items():
        _refuse(snapshots, located < 0, f"have no bar on their {name.removesuffix('_row')} date", "use the same bars")
    start, activation, end = rows["start_row"], rows["activation_row"], rows["end_row"]
    _refuse(
        snapshots,
        (start > activation) | (activation > end),
        "do not satisfy start <= activation <= snapshot",
        "correct their dates",
    )
    first = bars.offsets[np.searchsorted(bars.offsets, end, side="right") - 1]
    n_valid = np.minimum(end - first - (MIN_VALID_HISTORY_BARS - 1) + 1, SEQUENCE_BARS)
    _refuse(
        snapshots,
        n_valid < 1,
        f"have fewer than {MIN_VALID_HISTORY_BARS} bars of history",
        "leave them out, or add bars",
    )
    return pd.DataFrame(
        {
            **{column: snapshots[column].to_numpy(copy=True) for column in ("start_date", "snapshot_date")},
            "ticker": snapshots["ticker"].astype("str").reset_index(drop=True),
            "pattern_id": snapshots["pattern_id"].astype("str").reset_index(drop=True),
            "end_row": end,
            "first_row": first,
            "start_row": start,
            "activation_row": activation,
            "n_valid": n_valid,
            **{
                c: snapshots[c].to_numpy(dtype=np.float64, copy=True)
                for c in ("upper", "lower", "power", "start_price")
            },
            "prior_width": _prior_width(start, first, bars.high, bars.low, prior_range_bars),
            "close_at_snapshot": bars.close[end],
            "mean_volume": _mean_volume(end, first, bars.volume, MEAN_VOLUME_BARS, MIN_VALID_HISTORY_BARS),
            "qualifying_bars": snapshots["qualifying_bars"].to_numpy(dtype=np.int64, copy=True),
        }
    )[list(SEQUENCE_COLUMNS)]


def _days(snapshots: pd.DataFrame, column: str) -> np.ndarray:
    missing = snapshots[column].isna().to_numpy()
    _refuse(snapshots, missing, f"have no {column}", "fill it in")
    return to_days(snapshots[column].to_numpy())


def _refuse(snapshots: pd.DataFrame, bad: np.ndarray, what: str, remedy: str) -> None:
    if not bad.any():
        return
    named = "; ".join(
        f"{row.ticker} started {row.start_date:%Y-%m-%d}, snapshot {row.snapshot_date:%Y-%m-%d}"
        for row in snapshots[bad].head(5).itertuples(index=False)
    )
    raise BadInputError(f"{int(bad.sum())} of {len(snapshots)} snapshots {what}: {named}; {remedy}")
