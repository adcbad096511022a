"""Folders that name a column and its value, as in `ticker=CAR/date=2024-01-02/part-0.parquet`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from k4_pipeline.market.dialect.headings import fields_of

_MISSING = "__HIVE_DEFAULT_PARTITION__"


def partitions_of(relative: PurePath) -> dict[str, str]:
    """Heading -> value of the folders of a path; year, month and day together also as `date`."""
    out: dict[str, str] = {}
    for part in relative.parts[:-1]:
        name, equals, value = part.partition("=")
        if equals and name:
            out[name] = "" if value == _MISSING else unquote(value)
    lower = {name.lower(): value for name, value in out.items()}
    if {"year", "month", "day"} <= lower.keys() and not any("date" in fields_of(n) for n in out if n.lower() != "day"):
        day = "-".join((lower["year"], lower["month"].zfill(2), lower["day"].zfill(2)))
        out = {"date": day} | {n: v for n, v in out.items() if n.lower() not in ("year", "month", "day")}
    # Parts of a date are no column of bars; what else stands there (`exchange=…`, `asset=…`) is taken over as it is.
    return {name: value for name, value in out.items() if name.lower() not in ("year", "month", "day")}


def ticker_partition(relative: PurePath) -> str:
    """The ticker that a folder of the path names; "" when none does."""
    named = [value for name, value in partitions_of(relative).items() if "ticker" in fields_of(name)]
    return named[-1] if named else ""


def lacking(names: Sequence[str], partitions: dict[str, str]) -> dict[str, str]:
    """The partitions that give a field which none of the headings gives."""
    there = set().union(*(fields_of(name) for name in names)) if names else set()
    return {name: value for name, value in partitions.items() if fields_of(name) and not fields_of(name) & there}


def with_partitions(table: pa.Table, partitions: dict[str, str]) -> pa.Table:
    """The table with a column of one value for each partition."""
    for name, value in partitions.items():
        codes = pa.array(np.zeros(table.num_rows, dtype=np.int32))
        table = table.append_column(name, pa.DictionaryArray.from_arrays(codes, pa.array([value], pa.string())))
    return table
