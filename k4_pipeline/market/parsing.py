"""From the columns of a frame, as a source sent them, to plain numbers: ticker codes, days, float64.

What cannot be read is marked, not guessed. Dates are read by `dialect/dates.py`, put on their sessions by `instants.py`
and ordered by `dialect/orders.py`: the rules of files hold for frames too.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from k4_pipeline.market.dialect.dates import NO_DAY
from k4_pipeline.market.dialect.orders import MONTH_FIRST, OPEN, decide_orders
from k4_pipeline.market.exchanges import exchange_of
from k4_pipeline.market.files.columns import day_column
from k4_pipeline.market.instants import exchange_zone, sessions_of

AMBIGUOUS_DAY = NO_DAY + 1  # day first or month first? nothing in the file decides


def ticker_codes(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Tickers stripped of white space: codes (n,) int32 into ascending names (m,) object; missing becomes ""."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, values = column.cat.codes.to_numpy(), np.asarray(column.cat.categories, dtype=object)
    else:
        if column.dtype == object:
            # 5 and "5" are one ticker, and factorizing mixed types would keep them apart.
            column = column.map(lambda v: v if isinstance(v, str) else "" if pd.isna(v) else str(v))
        codes, uniques = pd.factorize(column)
        values = np.asarray(uniques, dtype=object)
    names = np.array([*(str(v).strip() for v in values), ""], dtype=object)  # code -1 (missing) points at the last
    ordered = np.array(sorted(set(names[np.unique(codes)])), dtype=object)
    position = {name: i for i, name in enumerate(ordered)}
    lookup = np.array([position.get(name, -1) for name in names], dtype=np.int32)
    return lookup[codes], ordered


def numbers(column: pd.Series) -> np.ndarray:
    """float64 (n,); what is missing or no number is NaN."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "fiu":
        return column.to_numpy(dtype=np.float64)
    if column.dtype.kind in "fiu":  # pandas' nullable and Arrow-backed numbers
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    if column.dtype.kind not in "OUS" and not isinstance(column.dtype, (pd.StringDtype, pd.CategoricalDtype)):
        return np.full(len(column), np.nan)  # bool, datetime: no prices
    found = pd.to_numeric(column.astype(object), errors="coerce")
    if found.dtype == object:
        found = found.map(_as_float)
    return found.to_numpy(dtype=np.float64, na_value=np.nan)


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def days(
    column: pd.Series, source: pd.Series, ticker: pd.Series | None = None, *, default_exchange: str = "XNYS"
) -> np.ndarray:
    """Days since 1970-01-01, int32 (n,); `NO_DAY` where unreadable, `AMBIGUOUS_DAY` where two readings remain.

    `source` (n,) names the file of each row, which decides the order of day and month; `ticker` (n,) its ticker, whose
    exchange decides the session of an instant (`default_exchange` without).
    """
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "M":
        whole = column.to_numpy(dtype="datetime64[us]").astype("datetime64[D]")
        return np.where(np.isnat(whole), NO_DAY, whole.astype(np.int64)).astype(np.int32)
    found = day_column(_as_arrow(column))
    if found.numeric is not None and found.second is not None:
        file = pd.factorize(source)[0] + 1
        code = np.zeros(len(column), dtype=np.int64) if ticker is None else pd.factorize(ticker)[0] + 1
        order = decide_orders(found.first, found.second, found.numeric, file, code)
        settled = np.where(order == MONTH_FIRST, found.second, found.first)
        settled[(order == OPEN) & (found.first != found.second)] = AMBIGUOUS_DAY
        found.first = np.where(found.numeric, settled, found.first).astype(np.int32)
    if found.zoned is not None and found.wall is not None and found.offset is not None:
        moved = found.zoned & (found.wall != 0) & (found.first > AMBIGUOUS_DAY)
        utc = found.first.astype(np.int64) * 86_400 + found.wall - found.offset.astype(np.int64) * 60
        codes, names = (np.zeros(len(column), int), [""]) if ticker is None else pd.factorize(ticker)
        exchanges = np.array([exchange_of(str(n), default_exchange) for n in names] + [default_exchange], dtype=object)
        for exchange in sorted(set(exchanges)):
            zone, rows = exchange_zone(exchange), moved & (exchanges == exchange)[codes]
            if zone is not None and rows.any():
                found.first[rows] = sessions_of(utc[rows], zone)
    return found.first


def _as_arrow(column: pd.Series) -> pa.Array:
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) != "string":
        # Stamps of several zones, text and dates in one column: equal instants may be unequal dates.
        return pa.array([_written(v) for v in column], pa.string())
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "f":
        return pa.array(column.to_numpy(), from_pandas=True)
    found = pa.array(column, from_pandas=True)
    found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    return found.cast(pa.string()) if pa.types.is_large_string(found.type) else found


def _written(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, (dt.date, dt.datetime)) and not pd.isna(value):
        return value.isoformat()
    if isinstance(value, np.datetime64) and not np.isnat(value):
        return str(value)
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and not pd.isna(value):
        return str(int(value)) if float(value).is_integer() else str(value)
    return None
