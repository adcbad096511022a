"""The hash of a set of snapshots, by which an artifact says which rows something was fitted on."""

from __future__ import annotations

import hashlib

import pandas as pd

from k4_pipeline.config import KEYS


def key_strings(keys: pd.DataFrame) -> list[str]:
    """`ticker|start|snapshot` of each row, dates as YYYY-MM-DD."""
    start, snapshot = (keys[c].to_numpy(dtype="datetime64[D]").astype(str) for c in KEYS[1:])
    return [f"{t}|{a}|{b}" for t, a, b in zip(keys["ticker"], start, snapshot)]


def keys_hash(keys: pd.DataFrame) -> str:
    """sha256 over the (ticker, start_date, snapshot_date) of a set of rows, whatever their order."""
    digest = hashlib.sha256()
    for line in sorted(key_strings(keys)):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
