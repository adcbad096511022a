"""Which rows of the sequence table are meant: snapshots and members of a split, found by key, never by position."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS
from k4_pipeline.errors import BadInputError
from k4_pipeline.storage.keys import keys_hash


def rows_of(sequences: pd.DataFrame, wanted: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """Ascending row numbers (n,) int64 in `sequences` of the snapshots in `wanted`, and `wanted` in that order.

    Raises `BadInputError` when a wanted snapshot has no sequence.
    """
    numbered = sequences[KEYS].assign(_row=np.arange(len(sequences), dtype=np.int64))
    found = wanted[KEYS].merge(numbered, on=KEYS, how="left", validate="1:1")["_row"]
    missing = found.isna().to_numpy()
    if missing.any():
        row = wanted[missing].iloc[0]
        raise BadInputError(
            f"{int(missing.sum())} snapshots have no sequence, first {row['ticker']} at {row['snapshot_date'].date()}; "
            "materialize sequences again"
        )
    rows = found.to_numpy(dtype=np.int64)
    order = np.argsort(rows, kind="stable")
    return rows[order], wanted.iloc[order].reset_index(drop=True)


def align(keys: pd.DataFrame, table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """`columns` of `table` in the order of `keys` (n rows), joined on the snapshot keys."""
    return keys.merge(table[[*KEYS, *columns]], on=KEYS, how="left", validate="1:1")[columns]


def member_of(split: pd.DataFrame, sequences: pd.DataFrame, name: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Rows of `sequences` that the split calls `name`, ascending, and their split rows in the same order."""
    if _same_keys(split, sequences):  # as production makes them: the join by key is one by position
        rows = np.flatnonzero((split["split"] == name).to_numpy())
        return rows, split.iloc[rows].reset_index(drop=True)
    return rows_of(sequences, split[split["split"] == name])


def _same_keys(split: pd.DataFrame, sequences: pd.DataFrame) -> bool:
    """Both tables hold the same keys in the same order, each once."""
    return (
        len(split) == len(sequences)
        and all(np.array_equal(split[k].to_numpy(), sequences[k].to_numpy()) for k in KEYS)
        and not sequences.duplicated(KEYS).any()
    )


def seen(table: pd.DataFrame) -> dict[str, Any]:
    """What a fitted thing records of the rows it saw: number, hash of the keys, and dates."""
    return {
        "rows": len(table),
        "keys_hash": keys_hash(table),
        "first_snapshot": str(table["snapshot_date"].min().date()),
        "last_snapshot": str(table["snapshot_date"].max().date()),
        "last_label_end": str(table["label_end_date"].max().date()),
    }
