"""A snapshot file as sent: CSV or Parquet, column names, classes and numbers. Nothing here knows the bars."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from k4_pipeline.config import CLASS_NAMES, N_CLASSES
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.dialect.encoding import to_utf8
from k4_pipeline.market.dialect.numbers import PRICES
from k4_pipeline.market.files.columns import value_columns
from k4_pipeline.patterns.dates import MISSING_TEXT

REQUIRED = ("ticker", "start_date", "snapshot_date")
BOUNDARIES = ("upper_boundary", "lower_boundary", "power_boundary")
KNOWN = (*REQUIRED, "activation_date", *BOUNDARIES, "outcome_class")
_ALIASES = {
    "symbol": "ticker",
    "upper": "upper_boundary",
    "lower": "lower_boundary",
    "power": "power_boundary",
    "outcome": "outcome_class",
}
_UNREADABLE = (
    OSError,
    UnicodeDecodeError,
    pd.errors.ParserError,
    pd.errors.ParserWarning,
    pd.errors.EmptyDataError,
    pa.ArrowException,
)
_CLASS = re.compile(r"^K?([0-9]+)(?:\.0)?$")


def _normalise(name: object) -> str:
    key = re.sub(r"[\s\-]+", "_", str(name).strip().lower())
    return _ALIASES.get(key, key)


def _read_csv(path: Path) -> pd.DataFrame:
    data, _ = to_utf8(path.read_bytes(), f"snapshot file {path}", None, lambda text: "ticker" in text.lower())
    separator = max((",", ";", "\t", "|"), key=data.partition(b"\n")[0].decode().count)
    # Everything as text, and no word taken for a missing value: NA and NAN are tickers.
    with warnings.catch_warnings():
        # A row longer than the header would be cut off, or shift the columns, with nothing but a warning.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame = pd.read_csv(io.BytesIO(data), sep=separator, dtype=str, keep_default_na=False, index_col=False)
    frame.attrs["delimiter"] = separator
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    frame = pq.read_table(path, page_checksum_verification=True).to_pandas()
    named = [name for name in frame.index.names if name is not None]
    return frame.reset_index(names=None) if named else frame


def read_raw_snapshots(path: Path | str) -> pd.DataFrame:
    """The file as sent, known columns only and under their canonical names.

    Raises `BadInputError` for a missing, empty, truncated or unknown kind of file and for missing or doubled columns.
    """
    path = Path(path)
    suffixes = [s.lower() for s in path.suffixes]
    if not path.is_file():
        raise BadInputError(f"snapshot file {path} does not exist; give a CSV or Parquet file")
    try:
        if suffixes and suffixes[-1] in (".parquet", ".pq"):
            frame = _read_parquet(path)
        elif suffixes and suffixes[-1] in (".csv", ".tsv", ".txt"):
            frame = _read_csv(path)
        else:
            raise BadInputError(f"snapshot file {path} is neither .csv nor .parquet; convert it or rename it")
    except _UNREADABLE as error:
        raise BadInputError(
            f"snapshot file {path} cannot be read ({error}); it may be truncated, write it again"
        ) from error
    names = [_normalise(c) for c in frame.columns]
    doubled = sorted({n for n in names if n in KNOWN and names.count(n) > 1})
    if doubled:
        raise BadInputError(f"snapshot file {path} holds more than one column for {', '.join(doubled)}; keep one")
    frame.columns = pd.Index(names)
    missing = [c for c in REQUIRED if c not in names]
    if missing:
        raise BadInputError(
            f"snapshot file {path} has no column {', '.join(missing)}; it has {', '.join(names)}. At least "
            "ticker, start_date and snapshot_date are needed"
        )
    if len(frame) == 0:
        raise BadInputError(f"snapshot file {path} holds no rows")
    return frame[[c for c in KNOWN if c in names]].reset_index(drop=True)


def read_snapshot_tickers(path: Path | str) -> list[str]:
    """The distinct tickers of a snapshot file, ascending: what a coverage check compares with the bars."""
    return sorted(set(ticker_names(read_raw_snapshots(path)["ticker"])) - {""})


def ticker_names(column: pd.Series) -> np.ndarray:
    """Tickers stripped of white space, object (n,); "" where missing."""
    return np.array(["" if pd.isna(v) else str(v).strip() for v in column.tolist()], dtype=object)


def parse_outcomes(column: pd.Series) -> tuple[pd.Series, np.ndarray]:
    """Classes written as `K4_EXCEPTIONAL`, `K4`, 4, 4.0 or "4": Int8 (n,), and a problem per row ("" where none)."""
    names = {name: i for i, name in enumerate(CLASS_NAMES)}
    classes = np.zeros(len(column), dtype=np.int8)
    missing = np.zeros(len(column), dtype=bool)
    problems = np.full(len(column), "", dtype=object)
    for row, value in enumerate(column.tolist()):
        text = "" if pd.isna(value) else str(value).strip().upper()
        if text.lower() in MISSING_TEXT:
            missing[row] = True
            continue
        match = _CLASS.match(text)
        number = names.get(text, int(match[1]) if match else -1)
        if 0 <= number < N_CLASSES:
            classes[row] = number
        else:
            missing[row] = True
            problems[row] = (
                f"outcome_class {value!r} is unknown; use {CLASS_NAMES[0]}..{CLASS_NAMES[-1]}, K0..K5 or 0..5"
            )
    return pd.Series(pd.arrays.IntegerArray(classes, missing), name="outcome_class"), problems


def parse_numbers(columns: dict[str, pd.Series], problems: np.ndarray) -> dict[str, np.ndarray]:
    """float64 (n,) by column, NaN where missing. The decimal sign is decided once for all of them, as in files of bars;
    a text that is no number, or one of two readings, becomes a problem of its row."""
    texts = {
        name: pa.array(column.to_numpy(dtype=np.float64, na_value=np.nan))
        if column.dtype.kind in "fiu"
        else pa.array([None if pd.isna(v) else str(v).strip() for v in column.tolist()], pa.string())
        for name, column in columns.items()
    }
    delimiter = next((str(c.attrs.get("delimiter", "")) for c in columns.values()), "")
    fields = dict(zip(PRICES, columns))  # any field of a bar that is no volume
    values, unclear, form = value_columns({f: texts[name] for f, name in fields.items()}, delimiter, None)
    out = {}
    for field, name in fields.items():
        out[name] = values[field]
        for row in np.flatnonzero(np.isnan(values[field])):
            text = texts[name][int(row)].as_py()
            if field in unclear and unclear[field][row]:
                problems[row] = problems[row] or f"{name} {text!r} has two readings: {form.problem}"
            elif isinstance(text, str) and text.lower() not in MISSING_TEXT:
                problems[row] = problems[row] or f"{name} {text!r} is not a number"
    return out
