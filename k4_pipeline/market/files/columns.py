"""Arrow columns to tickers, days and numbers, text or typed alike."""

from __future__ import annotations

import contextlib
import datetime as dt
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from k4_pipeline.market.dialect import numbers
from k4_pipeline.market.dialect.dates import NO_DAY, Written, in_one_language, read_date
from k4_pipeline.market.files.table import Days

_EPOCH = dt.date(1970, 1, 1).toordinal()
_FORMULA = re.compile(r'^="([^"]*)"$')  # what keeps a spreadsheet from taking `00005` for 5
_FAR = 1_000_000  # days: beyond any calendar


def as_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array; dictionaries, views and binary text become plain text."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if kinds.is_dictionary(column.type):
        column = column.dictionary_decode()
    if kinds.is_binary(column.type) or kinds.is_large_binary(column.type) or kinds.is_fixed_size_binary(column.type):
        try:
            column = column.cast(pa.binary()).cast(pa.string())
        except pa.ArrowInvalid:
            column = pa.array([None if v is None else v.as_py().decode("latin-1") for v in column], pa.string())
    if str(column.type) in ("string_view", "large_string", "binary_view"):
        column = column.cast(pa.string())
    return column


def as_text(column: pa.Array) -> list[str]:
    """Values as people would write them; "" where missing."""
    if kinds.is_string(column.type):
        return [v or "" for v in column.to_pylist()]
    return ["" if v is None else str(v) for v in column.to_pylist()]


def ticker_column(column: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Codes (n,) int32 into names as sent, stripped; a missing ticker is ""."""
    if isinstance(column, pa.ChunkedArray) and kinds.is_dictionary(column.type):
        column = column.unify_dictionaries().combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0)
    if kinds.is_floating(column.type):
        with contextlib.suppress(pa.ArrowInvalid):
            column = pc.cast(column, pa.int64())  # 700.0 is ticker 700
    if not kinds.is_dictionary(column.type) or not kinds.is_string(column.type.value_type):
        column = as_array(column).dictionary_encode()
    codes = column.indices.cast(pa.int32())
    codes = (pc.fill_null(codes, -1) if codes.null_count else codes).to_numpy(zero_copy_only=False)
    names = [_FORMULA.sub(r"\1", t.strip()) for t in as_text(column.dictionary)]
    if len(codes) and codes.min() < 0:
        codes, names = np.where(codes < 0, len(names), codes).astype(np.int32), [*names, ""]
    return codes, names


def day_column(column: pa.Array) -> Days:
    """Every reading of a date column."""
    kind = column.type
    if kinds.is_date(kind) or (kinds.is_timestamp(kind) and kind.tz is None):
        return Days(_whole_days(column))
    if kinds.is_timestamp(kind):
        utc = pc.cast(column.cast(pa.timestamp("us", kind.tz)), pa.int64())
        wall = pc.cast(pc.local_timestamp(column.cast(pa.timestamp("us", kind.tz))), pa.int64())
        seconds = pc.fill_null(wall, 0).to_numpy(zero_copy_only=False) // 1_000_000
        shift = seconds - pc.fill_null(utc, 0).to_numpy(zero_copy_only=False) // 1_000_000
        first = np.where(column.is_null().to_numpy(zero_copy_only=False), NO_DAY, seconds // 86_400).astype(np.int32)
        of_day = (seconds % 86_400).astype(np.int32)
        zoned = (of_day != 0) & (first != NO_DAY)
        if not zoned.any():
            return Days(first)
        return Days(first, wall=of_day, offset=(shift // 60).astype(np.int32), zoned=zoned)
    if kinds.is_string(kind):
        try:
            return Days(_whole_days(pc.cast(column, pa.date32())))
        except pa.ArrowInvalid:
            return _from_words(column)
    if kinds.is_floating(kind) or kinds.is_decimal(kind):
        with contextlib.suppress(pa.ArrowInvalid):
            column = pc.cast(column, pa.int64())
    return _from_words(pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string()))


def _whole_days(column: pa.Array) -> np.ndarray:
    if not kinds.is_date32(column.type):
        column = pc.cast(
            pc.floor_temporal(column, unit="day") if kinds.is_timestamp(column.type) else column, pa.date32()
        )
    days = pc.cast(column, pa.int32())
    days = (pc.fill_null(days, NO_DAY) if days.null_count else days).to_numpy(zero_copy_only=False)
    if len(days) and int(days.min()) >= -_FAR and int(days.max()) <= _FAR:
        return days
    return np.where(np.abs(days.astype(np.int64)) > _FAR, NO_DAY, days).astype(np.int32)


def _from_words(column: pa.Array) -> Days:
    coded = column.dictionary_encode()
    codes = pc.fill_null(coded.indices.cast(pa.int64()), len(coded.dictionary)).to_numpy(zero_copy_only=False)
    read = [read_date(text) for text in in_one_language(coded.dictionary.to_pylist())]
    first = np.array([*(w.first for w in read), NO_DAY], dtype=np.int32)[codes]
    days = Days(first)
    if any(w.numeric for w in read):
        days.numeric = np.array([*(w.numeric for w in read), False])[codes]
        days.second = np.array([*(w.second for w in read), NO_DAY], dtype=np.int32)[codes]
    if any(w.offset is not None for w in read):
        days.zoned = np.array([*(w.offset is not None for w in read), False])[codes]
        days.wall = np.array([*(w.wall for w in read), 0], dtype=np.int32)[codes]
        days.offset = np.array([*(w.offset or 0 for w in read), 0], dtype=np.int32)[codes]
    if any(w.serial for w in read) and not all(w.serial or w.first == NO_DAY for w in read):
        days.swapped = np.array([*(w.serial or w.numeric for w in read), False])[codes]
    elif days.numeric is not None and _half_converted(read):
        days.swapped = np.array([*(w.first != NO_DAY or w.numeric for w in read), False])[codes]
    return days


def _half_converted(read: list[Written]) -> bool:
    """Whether a spreadsheet took some dates for its own: those it left as text have a number above 12, all of them, and
    every one that it rewrote has a day below 13, so that day and month may be swapped."""
    left = [w for w in read if w.numeric]
    made = [dt.date.fromordinal(w.first + _EPOCH) for w in read if not w.numeric and w.first != NO_DAY]
    one_reading = all((w.first == NO_DAY) != (w.second == NO_DAY) for w in left)
    return len(left) >= 5 and len(made) >= 5 and one_reading and all(d.day <= 12 for d in made)


def value_columns(
    texts: dict[str, pa.Array], delimiter: str, given: numbers.NumberFormat | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], numbers.NumberFormat]:
    """(float64 by field, mask of refused cells with two readings by field, the format decided)."""
    words = {f: c for f, c in texts.items() if kinds.is_string(c.type)}
    out = {f: _typed(c) for f, c in texts.items() if f not in words}
    unclear: dict[str, np.ndarray] = {}
    fast = (
        {f: numbers.fast_floats(c) for f, c in words.items()} if given in (None, numbers.NumberFormat(".", ",")) else {}
    )
    if len(words) == len(texts) and fast and all(x is not None for x in fast.values()):
        plain = {f: x for f, x in fast.items() if x is not None}
        if given is not None or numbers.is_plain(plain, words):
            return {**out, **plain}, unclear, numbers.NumberFormat(".", "")
    tidied = {f: numbers.tidy(c, volume=f == "volume") for f, c in words.items()}
    form = given or (numbers.decide(tidied, delimiter) if words else numbers.NumberFormat())
    for field, column in tidied.items():
        out[field], unclear[field] = numbers.read(column, form, volume=field == "volume")
    return out, unclear, form


def _typed(column: pa.Array) -> np.ndarray:
    kind = column.type
    if kinds.is_floating(kind) or kinds.is_integer(kind) or kinds.is_decimal(kind):
        found = pc.cast(column, pa.float64(), safe=False)
        return (pc.fill_null(found, float("nan")) if found.null_count else found).to_numpy(zero_copy_only=False)
    return np.full(len(column), np.nan)  # bool, dates: no prices
