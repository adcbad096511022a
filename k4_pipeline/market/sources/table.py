"""Source `table`: one long file of bars, Parquet or CSV, one row per (ticker, date)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.sources.base import RAW_COLUMNS, Progress, RawBars
from k4_pipeline.market.sources.files import is_bar_file, read_bar_file


def read_table(path: Path | str, *, tickers: Sequence[str] = (), progress: Progress | None = None) -> RawBars:
    """All bars of one file (or those of `tickers`), columns in any usual spelling.

    Raises `BadInputError` naming the file when it is missing, unreadable, cut short or lacks a column.
    """
    path = Path(path)
    if path.is_dir():
        raise BadInputError(f"{path} is a folder; use source 'folder' for one file per ticker")
    if not path.exists():
        raise BadInputError(f"{path} does not exist; give the path of a Parquet or CSV file of daily bars")
    if not is_bar_file(path):
        raise BadInputError(f"{path} has an unknown extension; give a .parquet, .csv, .txt or .tsv file (also .gz)")
    frame, problems = read_bar_file(path, need_ticker=True)
    if len(frame) == 0:
        raise BadInputError(f"{path} holds no rows; give a file with daily bars")
    if tickers:
        frame = frame[frame["ticker"].isin(tickers)].reset_index(drop=True)
        found = set(frame["ticker"].unique())
        absent = [t for t in tickers if t not in found]
        if len(frame) == 0:
            raise BadInputError(f"{path} holds none of the {len(tickers)} tickers asked for, e.g. {tickers[0]}")
        problems += [f"{path} holds no bars of {ticker}" for ticker in absent]
    frame["source"] = pd.Categorical.from_codes(np.zeros(len(frame), dtype=np.int8), [str(path)])
    if progress is not None:
        progress(1, 1)
    return RawBars(frame[list(RAW_COLUMNS)], problems)
