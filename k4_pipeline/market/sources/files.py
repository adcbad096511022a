"""One file of bars, CSV or Parquet, as a frame with canonical column names and the values as sent.

Shared by `folder` (one ticker per file) and `table` (one long file). Raises `BadInputError` naming the file for what
cannot be read at all; single odd rows are left for cleaning.
"""

from __future__ import annotations

import csv
import gzip
import os
import warnings
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.sources.base import match_columns

PARQUET_SUFFIXES = (".parquet", ".pq")
TEXT_SUFFIXES = (".csv", ".txt", ".tsv")
# What an empty cell looks like in a price column. Not used for tickers: NA, NAN and NULL are listed companies.
_MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "-", "#N/A", "<NA>")
_VALUES = ("open", "high", "low", "close", "volume")


def is_bar_file(path: Path) -> bool:
    """Whether the name looks like a table this module reads (`.csv`, `.txt`, `.tsv`, also `.gz`; `.parquet`, `.pq`)."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        return suffixes[-2:-1] != [] and suffixes[-2] in TEXT_SUFFIXES
    return suffixes[-1:] != [] and suffixes[-1] in PARQUET_SUFFIXES + TEXT_SUFFIXES


def read_bar_file(path: Path, *, need_ticker: bool) -> tuple[pd.DataFrame, list[str]]:
    """(frame with the canonical columns found, sentences about oddities). "ticker" is there when the file has one."""
    if not path.is_file():
        raise BadInputError(f"{path} is no file; check the path")
    if path.suffix.lower() in PARQUET_SUFFIXES:
        return _read_parquet(path, need_ticker), []
    try:
        return _read_text(path, need_ticker)
    except (OSError, EOFError, zlib.error) as problem:
        raise BadInputError(f"{path} cannot be read: {problem}; the file is damaged or cut short, get it again") from (
            problem
        )


def _read_parquet(path: Path, need_ticker: bool) -> pd.DataFrame:
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        columns = match_columns(file.schema_arrow.names, where=str(path), need_ticker=need_ticker)
        table = file.read(columns=list(columns.values()))
    except (OSError, pa.ArrowException, ValueError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise BadInputError(f"{path} cannot be read: {reason}; the file is damaged or no Parquet file") from problem
    table = table.select(list(columns.values())).rename_columns(list(columns))
    for i, column in enumerate(table.schema):
        kind = column.type
        if column.name == "ticker" and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            table = table.set_column(i, column.name, pc.dictionary_encode(table.column(i)).unify_dictionaries())
        elif pa.types.is_date(kind):
            table = table.set_column(i, column.name, table.column(i).cast(pa.timestamp("us")))
        elif pa.types.is_decimal(kind):
            table = table.set_column(i, column.name, table.column(i).cast(pa.float64()))
    table = table.replace_schema_metadata(None)  # an index noted by pandas is a column here
    return table.to_pandas(split_blocks=True, self_destruct=True, ignore_metadata=True)


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")


def _read_text(path: Path, need_ticker: bool) -> tuple[pd.DataFrame, list[str]]:
    with _open(path) as handle:
        head = handle.read(1 << 16)
    if not head.strip():
        raise BadInputError(f"{path} is empty; get it again or remove it")
    if b"\x00" in head:
        raise BadInputError(f"{path} is no text file (it holds zero bytes); give it its right extension")
    encoding = "utf-8-sig"
    try:
        head.decode(encoding, errors="strict") if len(head) < 1 << 16 else head[: head.rfind(b"\n")].decode(encoding)
    except UnicodeDecodeError:
        encoding = "latin-1"
    lines = head.decode(encoding, errors="replace").splitlines()
    separator = max(",;\t|", key=lines[0].count)
    names = [cell.strip().strip('"') for cell in lines[0].split(separator)]
    skip = 1
    if names[0] == "Price" and len(lines) > 2 and lines[1].startswith("Ticker") and lines[2].startswith("Date"):
        names[0], skip = "Date", 3  # three header lines: how yfinance frames look when saved
    columns = match_columns(names, where=str(path), need_ticker=need_ticker)
    first_row = lines[skip] if len(lines) > skip else ""
    # Room for rows with more cells than the header, so that they are seen and not shifted or cut in silence.
    width = max((len(cells) for cells in csv.reader(lines[skip:-1] or [first_row], delimiter=separator)), default=0)
    extra = [f"extra {i}" for i in range(max(1, width - len(names)))]
    missing = {columns[name]: list(_MISSING) for name in (*_VALUES, "date")} | {name: [""] for name in extra}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                sep=separator,
                header=None,
                names=_unique(names) + extra,
                skiprows=skip,
                dtype={columns[name]: "str" for name in ("ticker", "date") if name in columns},
                na_values=missing,
                keep_default_na=False,
                decimal="," if separator == ";" and "," in first_row else ".",
                encoding=encoding,
                compression="gzip" if path.suffix.lower() == ".gz" else None,
                index_col=False,
                low_memory=False,
                on_bad_lines="warn",
            )
    except (pd.errors.ParserError, UnicodeDecodeError) as problem:
        raise BadInputError(f"{path} cannot be read as a table: {' '.join(str(problem).split())[:200]}") from problem
    problems = [
        f"{path}: {' '.join(str(w.message).split())}" for w in caught if issubclass(w.category, pd.errors.ParserWarning)
    ]
    too_long = frame[extra].notna().any(axis=1)
    frame = frame[list(columns.values())].set_axis(list(columns), axis=1)
    if too_long.any():
        # Which cell is the surplus one nobody knows (thousands separators, usually): no number of the row is trusted.
        frame.loc[too_long, list(_VALUES)] = None
        problems.append(
            f"{path}: {int(too_long.sum())} rows have more cells than the header; their numbers are refused"
        )
    if not _ends_with_line_break(path):
        problems.append(f"{path} does not end with a line break: its last row may be cut short")
    return frame, problems


def _ends_with_line_break(path: Path) -> bool:
    if path.suffix.lower() == ".gz":
        return True  # gzip carries its own length and checksum
    with path.open("rb") as handle:
        handle.seek(-1, os.SEEK_END)
        return handle.read(1) in (b"\n", b"\r")


def _unique(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return out
