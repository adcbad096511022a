"""From what a vendor sent to plain numbers: ticker codes, days, float64. What cannot be read is marked, not guessed.

Dates: a bar belongs to the calendar date written in its stamp, **in the stamp's own time zone**; converting to UTC or
to the local zone could move it by a day. Time of day is dropped. Text may be ISO (with or without time and offset),
YYYYMMDD, YYYY/MM/DD, DD.MM.YYYY, a date with a month name, or D/M/YYYY against M/D/YYYY, decided per file by the rows
that allow one reading only; rows of a file that never decides are left unread. Numbers are read as YYYYMMDD; seconds
since 1970 are refused, because they name no zone.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import numpy as np
import pandas as pd

NO_DAY = np.iinfo(np.int32).min  # the date could not be read
AMBIGUOUS_DAY = NO_DAY + 1  # day first or month first? nothing in the file decides

_YMD = re.compile(r"(\d{4})([-/.]?)(\d{1,2})\2(\d{1,2})(?:\.0|[T ]\s*\d.*)?")
_XXY = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})(?:[T ]\s*\d.*)?")
_NAMED_MONTH = re.compile(r"(?=.*[A-Za-z]{3})(?=.*\d{4}).*")
_EPOCH = dt.date(1970, 1, 1).toordinal()


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


def days(column: pd.Series, source: pd.Series) -> np.ndarray:
    """Days since 1970-01-01, int32 (n,); `NO_DAY` where unreadable, `AMBIGUOUS_DAY` where two readings remain.

    `source` (n,) names the file of each row: the order of day and month is decided per file.
    """
    zone = getattr(getattr(column.dtype, "pyarrow_dtype", None), "tz", None)
    if isinstance(column.dtype, pd.DatetimeTZDtype) or zone is not None:
        column = column.dt.tz_localize(None)  # the wall clock of its own zone
    if column.dtype.kind == "M":
        if isinstance(column.dtype, pd.ArrowDtype):  # its dates do not convert by themselves when one is missing
            column = column.astype("timestamp[us][pyarrow]")
        return _from_datetime64(column.to_numpy(dtype="datetime64[us]"))
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
        return days(column, source)
    if column.dtype.kind in "fiu":
        return _from_ymd_numbers(numbers(column))
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind == "date":
        return _from_datetime64(column.where(column.notna(), None).to_numpy(dtype="datetime64[D]"))
    if kind == "string":
        codes, uniques = pd.factorize(column)
        return _from_text(codes, [str(u) for u in uniques], source)
    return _from_mixed(column, source)


def _from_datetime64(values: np.ndarray) -> np.ndarray:
    whole = values.astype("datetime64[D]")
    out = whole.astype(np.int64)
    far = np.isnat(whole) | (np.abs(out) > 1_000_000)
    return np.where(far, NO_DAY, out).astype(np.int32)


def _from_ymd_numbers(values: np.ndarray) -> np.ndarray:
    codes, uniques = pd.factorize(values)
    table = np.array([*(_day_of_number(u) for u in uniques), NO_DAY], dtype=np.int32)
    return table[codes]


def _day_of_number(value: float) -> int:
    if not (10_000_101 <= value <= 99_991_231) or value != int(value):
        return NO_DAY
    whole = int(value)
    return _day(whole // 10_000, whole // 100 % 100, whole % 100)


def _day(year: int, month: int, day: int) -> int:
    try:
        return dt.date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        return NO_DAY


def _from_mixed(column: pd.Series, source: pd.Series) -> np.ndarray:
    # Stamps of several zones, text and dates in one column: one value at a time, equal instants may be unequal dates.
    out = np.full(len(column), NO_DAY, dtype=np.int32)
    texts: list[str] = []
    rows: list[int] = []
    for row, value in enumerate(column):
        if isinstance(value, str):
            texts.append(value)
            rows.append(row)
        elif isinstance(value, (dt.date, dt.datetime)) and not pd.isna(value):
            out[row] = _day(value.year, value.month, value.day)
        elif isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and not pd.isna(value):
            out[row] = _day_of_number(float(value))
        elif isinstance(value, np.datetime64):
            out[row] = _from_datetime64(np.array([value]))[0]
    if texts:
        codes, uniques = pd.factorize(np.array(texts, dtype=object))
        out[rows] = _from_text(codes, list(uniques), source.iloc[rows])
    return out


def _from_text(codes: np.ndarray, uniques: list[str], source: pd.Series) -> np.ndarray:
    table = np.full(len(uniques) + 1, NO_DAY, dtype=np.int32)  # last: missing
    both: dict[int, tuple[int, int]] = {}  # text with two readings -> (day if the day is first, day if the month is)
    order = np.zeros(len(uniques) + 1, dtype=np.int8)  # 1: only day first, 2: only month first
    for i, raw in enumerate(uniques):
        value = raw.strip().strip("\"'")
        if match := _YMD.fullmatch(value):
            year, _, month, day = match.groups()
            if match[2] or len(month) == len(day) == 2:
                table[i] = _day(int(year), int(month), int(day))
        elif match := _XXY.fullmatch(value):
            a, separator, b, year = match.groups()
            day_first, month_first = _day(int(year), int(b), int(a)), _day(int(year), int(a), int(b))
            if separator == "." or month_first == NO_DAY or day_first == month_first:
                table[i] = day_first
            elif day_first == NO_DAY:
                table[i] = month_first
            else:
                both[i] = (day_first, month_first)
            if separator != "." and (month_first == NO_DAY) != (day_first == NO_DAY):
                order[i] = 1 if month_first == NO_DAY else 2
        elif _NAMED_MONTH.fullmatch(value):
            table[i] = _day_of_named_month(value)
    out = table[codes]
    if both:
        _decide_order(out, codes, both, order, source)
    return out


def _day_of_named_month(value: str) -> int:
    try:
        stamp = pd.Timestamp(value)
    except (ValueError, OverflowError):
        return NO_DAY
    return NO_DAY if pd.isna(stamp) else _day(stamp.year, stamp.month, stamp.day)


def _decide_order(
    out: np.ndarray, codes: np.ndarray, both: dict[int, tuple[int, int]], order: np.ndarray, source: pd.Series
) -> None:
    """Fill the rows with two readings: by the clear rows of their own file, else of all files, else not at all."""
    files, _ = pd.factorize(source)
    files = files + 1  # -1: no file named
    n_files = int(files.max(initial=0)) + 1
    seen = np.zeros((n_files, 3), dtype=bool)
    seen[files, order[codes]] = True
    everywhere: np.ndarray = np.logical_or.reduce(seen, axis=0)
    readings = np.full((len(order), 3), AMBIGUOUS_DAY, dtype=np.int32)
    for i, (day_first, month_first) in both.items():
        readings[i, 1:] = day_first, month_first
    decided = np.zeros(n_files, dtype=np.int8)
    for file in range(n_files):
        clear = seen[file] if seen[file, 1] or seen[file, 2] else everywhere
        if clear[1] != clear[2]:
            decided[file] = 1 if clear[1] else 2
    unclear = np.isin(codes, np.fromiter(both, dtype=np.int64))
    out[unclear] = readings[codes[unclear], decided[files[unclear]]]
