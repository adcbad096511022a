"""Which rows of the sequence table stand for given snapshots: joined on keys, never by position."""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.errors import BadInputError

KEYS = ["ticker", "start_date", "snapshot_date"]


def rows_of(sequences: pd.DataFrame, wanted: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """Ascending row numbers (n,) int64 in `sequences` of the snapshots in `wanted`, and their keys in that order.

    Raises `BadInputError` when a wanted snapshot has no sequence.
    """
    numbered = sequences[KEYS].assign(_row=np.arange(len(sequences), dtype=np.int64))
    found = wanted[KEYS].merge(numbered, on=KEYS, how="left", validate="1:1")
    missing = found["_row"].isna()
    if missing.any():
        row = found[missing].iloc[0]
        raise BadInputError(
            f"{int(missing.sum())} snapshots have no sequence, first {row['ticker']} at {row['snapshot_date'].date()}; "
            "materialize sequences again"
        )
    rows = np.sort(found["_row"].to_numpy(dtype=np.int64))
    return rows, sequences.iloc[rows][KEYS].reset_index(drop=True)


def align(keys: pd.DataFrame, table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """`columns` of `table` in the order of `keys` (n rows), joined on the snapshot keys."""
    return keys.merge(table[[*KEYS, *columns]], on=KEYS, how="left", validate="1:1")[columns]
