"""Source `table`: one file of many tickers, long or wide: CSV, Parquet, Feather, DuckDB, also packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from k4_pipeline.config import SourceConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.files.assemble import assemble
from k4_pipeline.market.files.interpret import HowToRead, read_entry
from k4_pipeline.market.files.opening import Entry, is_bar_file, zip_entries
from k4_pipeline.market.files.places import is_remote, place_of
from k4_pipeline.market.files.table import Again, FileBars
from k4_pipeline.market.sources.base import RawBars
from k4_pipeline.progress import Progress


def read_table(
    path: Path | str,
    *,
    tickers: Sequence[str] = (),
    progress: Progress | None = None,
    config: SourceConfig | None = None,
    default_exchange: str = "XNYS",
) -> RawBars:
    """All bars of one file (or those of `tickers`), columns in any usual spelling.

    Raises `BadInputError` naming the file when it is missing, unreadable, cut short, too large or lacks a column.
    """
    place, config = place_of(path), config or SourceConfig()
    if not is_remote(path) and place.is_dir():
        raise BadInputError(f"{path} is a folder; use source 'folder' for one file per ticker")
    if not is_remote(path) and not place.exists():
        raise BadInputError(f"{path} does not exist; give the path of a Parquet or CSV file of daily bars")
    packed = place.suffix.lower() == ".zip"
    entries = zip_entries(place) if packed else [Entry(place, Path(place.name))]
    if len(entries) != 1 or not is_bar_file(entries[0].relative):
        why = f"holds {len(entries)} tables; use source 'folder'" if packed else "has an unknown extension"
        raise BadInputError(f"{path} {why}; give a .parquet, .feather, .duckdb, .csv, .txt or .tsv file (also packed)")
    how = HowToRead.of(config, need_ticker=True)
    file = read_entry(entries[0], how)
    if len(file) == 0:
        raise BadInputError(f"{path} holds no rows; give a file with daily bars")
    problems: list[str] = []
    if tickers:
        problems = [f"{path} holds no bars of {t}" for t in tickers if t not in file.names]
        if len(problems) == len(tickers):
            raise BadInputError(f"{path} holds none of the {len(tickers)} tickers asked for, e.g. {tickers[0]}")
        file = only_tickers(file, tickers)
    if progress is not None:
        progress(1, 1)
    return assemble([file], problems, [], given_order=how.given.date_order, default_exchange=default_exchange)


def only_tickers(file: FileBars, tickers: Sequence[str]) -> FileBars:
    """The rows of these tickers."""
    wanted = np.array([name in tickers for name in file.names], dtype=bool)
    keep = wanted[file.ticker]
    place = np.cumsum(keep) - 1
    days = replace(file.days)
    for name in ("first", "second", "numeric", "wall", "offset", "zoned"):
        values = getattr(days, name)
        setattr(days, name, None if values is None else values[keep])
    names = [n for n, w in zip(file.names, wanted) if w]
    return replace(
        file,
        ticker=(np.cumsum(wanted) - 1)[file.ticker[keep]].astype(np.int32),
        names=names,
        days=days,
        values={f: x[keep] for f, x in file.values.items()},
        fault=file.fault[keep],
        sent={int(place[r]): cells for r, cells in file.sent.items() if keep[r]},
        again=None if file.again is None else partial(_again, file.again, np.flatnonzero(keep)),
    )


def _again(ask: Again, origin: np.ndarray, rows: np.ndarray) -> dict[int, tuple[str, ...]]:
    """Cells of the rows of a part of a file, whose rows stand at `origin` in the whole."""
    found = ask(origin[rows])
    return {int(row): found[int(at)] for row, at in zip(rows, origin[rows]) if int(at) in found}
