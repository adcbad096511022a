"""Parquet, Feather and DuckDB files as Arrow columns under canonical names, their rows counted before they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.dialect.headings import match_columns, wide_groups
from k4_pipeline.market.files.opening import DATABASE_SUFFIXES, PARQUET_SUFFIXES, Entry, read_bytes
from k4_pipeline.market.files.partitions import lacking, partitions_of, with_partitions
from k4_pipeline.market.files.places import is_remote

Groups = dict[str, dict[str, int]]


def read_typed(
    entry: Entry, *, need_ticker: bool, prices: str, max_rows: int, max_bytes: int
) -> tuple[pa.Table, dict[str, str], Groups]:
    """(table with the file's own headings, field -> heading, groups of a wide table)."""
    in_memory = bool(entry.member) or is_remote(entry.path)
    if not is_remote(entry.path) and not entry.path.is_file():
        raise BadInputError(f"{entry.path} is no file; check the path")
    if entry.suffix in DATABASE_SUFFIXES:
        if in_memory:
            raise BadInputError(f"{entry.label}: a database is read from a file on this machine alone; copy it here")
        return _read_database(entry.path, need_ticker, prices, max_rows)
    source: Any = pa.BufferReader(read_bytes(entry, max_bytes)) if in_memory else entry.path
    folders = partitions_of(entry.relative)
    try:
        if entry.suffix in PARQUET_SUFFIXES:
            file = pq.ParquetFile(source, page_checksum_verification=True)
            check_rows(file.metadata.num_rows, max_rows, entry.label)
            own = file.schema_arrow.names
            folders = lacking(own, folders)
            columns, groups = _columns([*own, *folders], entry.label, need_ticker, prices)
            wanted = [name for name in dict.fromkeys(columns.values()) if name not in folders]
            table = file.read(columns=None if groups else wanted)
        else:
            table = feather.read_table(source, memory_map=not in_memory)
            check_rows(table.num_rows, max_rows, entry.label)
            folders = lacking(table.column_names, folders)
            columns, groups = _columns([*table.column_names, *folders], entry.label, need_ticker, prices)
    except (OSError, pa.ArrowException, ValueError) as problem:
        if isinstance(problem, BadInputError):
            raise
        reason, kind = " ".join(str(problem).split())[:200], entry.suffix.lstrip(".").capitalize()
        raise BadInputError(f"{entry.label} cannot be read: {reason}; the file is damaged or no {kind} file") from (
            problem
        )
    return with_partitions(table, {n: v for n, v in folders.items() if n in columns.values()}), columns, groups


def _columns(names: list[str], where: str, need_ticker: bool, prices: str) -> tuple[dict[str, str], Groups]:
    try:
        return match_columns(names, where=where, need_ticker=need_ticker, prices=prices), {}
    except BadInputError:
        if groups := wide_groups(names):
            return {}, groups
        raise


def check_rows(n: int, max_rows: int, label: str) -> None:
    """Refuse a table of more rows than the limit, before it is read."""
    if n > max_rows:
        raise BadInputError(
            f"{label} has {n:,} rows, more than {max_rows:,}; split it, or raise the limit with --set source.max_rows=N"
        )


def _read_database(
    path: Path, need_ticker: bool, prices: str, max_rows: int
) -> tuple[pa.Table, dict[str, str], Groups]:
    with path.open("rb") as handle:
        if handle.read(15) == b"SQLite format 3":
            raise BadInputError(f"{path} is an SQLite file, which is not read; export its table as CSV or Parquet")
    try:
        import duckdb
    except ImportError as problem:
        raise BadInputError(
            f"{path} is a DuckDB file and the package duckdb is not installed; pip install 'k4-pipeline[duckdb]'"
        ) from problem
    try:
        with duckdb.connect(str(path), read_only=True) as base:
            found_tables = base.execute("select table_schema, table_name from information_schema.tables").fetchall()
            tables = [f'"{schema}"."{name}"' for schema, name in found_tables]
            fitting: dict[str, dict[str, str]] = {}
            for name in tables:
                names = [r[0] for r in base.execute(f"describe {name}").fetchall()]
                try:
                    fitting[name] = match_columns(
                        names, where=f"{path}, table {name}", need_ticker=need_ticker, prices=prices
                    )
                except BadInputError:
                    continue
            if len(fitting) != 1:
                found = f"{len(fitting)} tables of bars ({', '.join(fitting)})" if fitting else "no table of bars"
                raise BadInputError(f"{path} holds {found} among {', '.join(tables) or 'none'}; it must hold one")
            ((name, columns),) = fitting.items()
            count = base.execute(f"select count(*) from {name}").fetchone()
            check_rows(count[0] if count else 0, max_rows, f"{path}, table {name}")
            wanted = ", ".join(f'"{c}"' for c in dict.fromkeys(columns.values()))
            table = base.execute(f"select {wanted} from {name}").to_arrow_table()
    except duckdb.Error as problem:
        raise BadInputError(f"{path} cannot be read: {' '.join(str(problem).split())[:200]}") from problem
    return table, columns, {}
