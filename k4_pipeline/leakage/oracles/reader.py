"""A source of bars read a second time, plainly, with pandas, pyarrow and DuckDB alone: no code of market/ is used.

It knows the usual spellings of the columns and no more; a file it cannot read is said so, never passed over.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

VALUES = ("open", "high", "low", "close", "volume")
_NAMES = {
    "ticker": ("ticker", "symbol", "sym", "code", "instrument", "tic", "stock"),
    "date": ("date", "datetime", "timestamp", "time", "day", "tradedate", "index", ""),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c", "closeprice", "price"),
    "volume": ("volume", "vol", "v", "shares"),
}
_ARROW, _DATABASE = (".feather", ".arrow", ".ipc"), (".duckdb", ".db")
_SUFFIXES = (".parquet", ".pq", ".csv", ".txt", ".tsv", ".csv.gz", ".txt.gz", ".tsv.gz", *_ARROW, *_DATABASE)


def plain_copy(path: str, folder: Path) -> Path:
    """A copy of what lies in a store or is packed in a zip archive, below `folder`; any other path as it is."""
    root = Path(path)
    if "://" in path:
        import fsspec

        store, place = fsspec.core.url_to_fs(path)
        root = folder / root.name
        store.get(place, str(root), recursive=True)
    if root.suffix.lower() != ".zip" or not root.is_file():
        return root
    unpacked = folder / "unpacked"
    with zipfile.ZipFile(root) as archive:
        archive.extractall(unpacked)
    return unpacked


def files_of(root: Path) -> list[Path]:
    """The files of bars at a path, in order."""
    if root.is_file():
        return [root]
    found = sorted(p for p in root.rglob("*") if p.is_file() and p.name.lower().endswith(_SUFFIXES))
    return [p for p in found if not p.name.startswith((".", "~"))]


def _database(path: Path) -> tuple[str, pd.DataFrame]:
    """The name of the one table that holds bars, and the table."""
    import duckdb

    try:
        with duckdb.connect(str(path), read_only=True) as base:
            tables = {name: base.sql(f'select * from "{name}"').df() for (name,) in base.sql("show tables").fetchall()}
    except duckdb.Error as problem:  # no OSError, also where the file may not be opened
        raise ValueError(f"{path} cannot be read: {problem}") from problem
    fitting = {name: table for name, table in tables.items() if {"date", *VALUES} <= _columns(table).keys()}
    if len(fitting) != 1:
        raise ValueError(f"{path} has {len(fitting)} tables with the columns of bars")
    return next(iter(fitting.items()))


def plain_table(path: Path) -> pd.DataFrame:
    if path.name.lower().endswith(_ARROW):
        return pd.read_feather(path)
    if path.name.lower().endswith(_DATABASE):
        return _database(path)[1]
    if path.name.endswith((".parquet", ".pq")):
        table = pd.read_parquet(path)
        if not isinstance(table.index, pd.RangeIndex):
            table = table.reset_index()
        return table
    separator = "\t" if ".tsv" in path.name else None
    return pd.read_csv(path, sep=separator, engine="python", dtype=str, keep_default_na=False)


def _columns(table: pd.DataFrame) -> dict[str, str]:
    plain = {re.sub(r"[^a-z]", "", str(c).lower()): c for c in reversed(list(table.columns))}
    return {k: next(plain[n] for n in names if n in plain) for k, names in _NAMES.items() if set(names) & set(plain)}


def _ticker_of(path: Path) -> str:
    """Of a part `ticker=…` of the path, else of the file's name."""
    for part in reversed(path.parts[:-1]):
        key, sign, value = part.partition("=")
        if sign and key.lower() in _NAMES["ticker"]:
            return unquote(value)
    name = re.sub(r"(\.gz)$", "", path.name)
    stem = re.sub(r"\.(parquet|pq|csv|txt|tsv|feather|arrow|ipc)$", "", name, flags=re.IGNORECASE)
    if name.lower().endswith(".txt") and stem == stem.lower():
        return stem.upper().removesuffix(".US")
    return stem


def plain_day(values: pd.Series) -> pd.Series:
    """`YYYY-MM-DD` as written in each stamp; "" where the date is written in another way."""
    if values.dtype.kind == "M":
        return values.dt.strftime("%Y-%m-%d").fillna("")
    text = values.map(lambda v: v.isoformat() if hasattr(v, "isoformat") else str(v).strip())
    compact = text.str.fullmatch(r"\d{8}")
    text = text.where(~compact, text.str[:4] + "-" + text.str[4:6] + "-" + text.str[6:8])
    return text.str[:10].where(text.str.match(r"\d{4}-\d{2}-\d{2}"), "")


def why_not_plain(path: str) -> str:
    """Why a source is none of those this reader knows; "" when it is: files of this machine, a header it understands,
    of columns in the names of folders the ticker alone. Told from the header of the first of its files."""
    root = Path(path)
    if "://" in path or not root.exists() or root.suffix.lower() == ".zip":
        return f"{path} is no file or folder of this machine that is read as it stands"
    files = files_of(root)
    if not files:
        return f"{path} holds no file of bars"
    keys = {part.partition("=")[0].lower() for part in files[0].relative_to(root).parts[:-1] if "=" in part}
    if others := keys - set(_NAMES["ticker"]):
        return f"the folders of {path} are named by {', '.join(sorted(others))}"
    try:
        lacking = {"date", *VALUES} - _columns(_header(files[0])).keys()
    except (OSError, ValueError, ImportError, pd.errors.ParserError) as problem:
        return f"{files[0]} cannot be read plainly: {problem}"
    return f"{files[0]} has no column for {', '.join(sorted(lacking))} by a plain name" if lacking else ""


def _header(path: Path) -> pd.DataFrame:
    """The columns of a file, with a row or two where its kind tells them with the rows alone."""
    name = path.name.lower()
    if name.endswith((".parquet", ".pq")):
        return pd.DataFrame(columns=pq.read_schema(path).names)
    if name.endswith((*_ARROW, *_DATABASE)):
        return plain_table(path)
    return pd.read_csv(path, sep="\t" if ".tsv" in name else None, engine="python", dtype=str, nrows=2)


def read_plainly(path: str, tickers: tuple[str, ...] = ()) -> pd.DataFrame:
    """ticker, day (`YYYY-MM-DD` or ""), open, high, low, close, volume (float64, NaN where there is no number).

    `path`: one long file, or a folder with one file per ticker; `tickers`: only these. Raises `ValueError` for columns
    it does not know.
    """
    root, parts = Path(path), []
    for file in files_of(root):
        table = plain_table(file)
        found = _columns(table)
        lacking = [c for c in ("date", *VALUES) if c not in found]
        if lacking:
            raise ValueError(f"{file}: no column {', '.join(lacking)} among {', '.join(map(str, table.columns))}")
        out: dict[str, Any] = {"day": plain_day(table[found["date"]])}
        own = root.is_file()
        out["ticker"] = table[found["ticker"]].map(_name) if own else _ticker_of(file.relative_to(root))
        for column in VALUES:
            out[column] = pd.to_numeric(table[found[column]], errors="coerce").astype(np.float64)
        parts.append(pd.DataFrame(out))
    whole = pd.concat(parts, ignore_index=True)
    return whole[whole["ticker"].isin(tickers)].reset_index(drop=True) if tickers else whole


def cut_file(path: Path, day: str, folder: Path) -> Path:
    """A copy of a source (one file, or a folder of them) without the rows written for a later day than `day`."""
    if path.is_dir():
        for file in files_of(path):
            target = folder / file.relative_to(path).parent
            target.mkdir(parents=True, exist_ok=True)
            cut_file(file, day, target)
        return folder
    table, target = plain_table(path), folder / path.name
    table = table[(plain_day(table[_columns(table)["date"]]) <= day).to_numpy()]
    if not len(table):
        return target
    if path.name.endswith((".parquet", ".pq")):
        table.to_parquet(target, index=False)
    elif path.name.lower().endswith(_ARROW):
        table.reset_index(drop=True).to_feather(target)
    elif path.name.lower().endswith(_DATABASE):
        import duckdb

        name = _database(path)[0]
        with duckdb.connect(str(target)) as base:
            base.register("cut", table)
            base.execute(f'create table "{name}" as select * from cut')
    else:
        table.to_csv(target, sep="\t" if ".tsv" in path.name else ",", index=False)
    return target


def as_sent(names: pd.Series) -> pd.Series:
    """The tickers under which bars were sent: a ticker used again years later is stored as `CAR#2` or `VOD#2.L`."""
    return names.astype(str).str.replace(r"#\d+(?=\.|$)", "", regex=True)


def _name(value: Any) -> str:
    return "" if value is None or value != value else str(value).strip()


def plainly_sane(rows: pd.DataFrame, tolerance: float) -> pd.Series:
    """Whether a row is beyond doubt: a date, finite prices in order, and no second row for its day that "
    "says otherwise."""
    values = rows[list(VALUES)]
    sane = np.isfinite(values).all(axis=1) & (values[["open", "high", "low", "close"]] > 0).all(axis=1)
    sane &= (rows["volume"] > 0) & (rows["high"] >= rows["low"])
    for column in ("open", "close"):
        inside = (rows[column] >= rows["low"]) & (rows[column] <= rows["high"])
        sane &= inside if tolerance >= 0 else False
    once = ~rows.duplicated(["ticker", "day"], keep=False)
    weekday = pd.to_datetime(rows["day"].where(rows["day"] != ""), errors="coerce").dt.dayofweek < 5
    return sane & once & weekday & (rows["day"] != "") & (rows["ticker"] != "")
