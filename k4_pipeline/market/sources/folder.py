"""Source `folder`: one CSV or Parquet file per ticker; the ticker is the file's name.

`AAPL.csv`, `VOD.L.parquet`, `0005.HK.csv.gz` name AAPL, VOD.L and 0005.HK. In the style of Stooq, `aapl.us.txt` names
AAPL and `vod.uk.txt` VOD.UK. Sub-folders are read too, hidden files are not. A file that cannot be read is named in
`problems` and the others are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.sources.base import RAW_COLUMNS, Progress, RawBars
from k4_pipeline.market.sources.files import PARQUET_SUFFIXES, TEXT_SUFFIXES, is_bar_file, read_bar_file


def ticker_of_file(path: Path) -> str:
    """The ticker a file name stands for (rules in the module docstring)."""
    name = path.name
    for suffix in (".gz", *PARQUET_SUFFIXES, *TEXT_SUFFIXES):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    if path.name.lower().removesuffix(".gz").endswith(".txt") and name == name.lower():
        return name.upper().removesuffix(".US")
    return name


def read_folder(path: Path | str, *, tickers: Sequence[str] = (), progress: Progress | None = None) -> RawBars:
    """All bars below a folder (or those of `tickers`); `progress(done, total)` counts files.

    Raises `BadInputError` when the folder is missing, holds no bar file, or none of them can be read.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file; use source 'table' for one long file" if folder.exists() else "does not exist"
        raise BadInputError(f"{folder} {what}; give a folder with one CSV or Parquet file per ticker")
    found = sorted(p for p in folder.rglob("*") if p.is_file() and is_bar_file(p) and not _is_hidden(p, folder))
    if not found:
        raise BadInputError(
            f"{folder} holds no .csv, .txt, .tsv (also .gz) or .parquet file; give a folder of daily bars"
        )
    problems: list[str] = []
    files: dict[str, Path] = {}
    for file in found:
        ticker = ticker_of_file(file)
        if tickers and ticker not in tickers:
            continue
        if ticker in files:
            problems.append(f"{file} is ignored: {files[ticker]} is read for {ticker} already; keep one of them")
        else:
            files[ticker] = file
    problems += [f"{folder} holds no file for {ticker}" for ticker in tickers if ticker not in files]

    frames: list[pd.DataFrame] = []
    names: list[str] = []
    for i, (ticker, file) in enumerate(files.items()):
        try:
            frame, oddities = read_bar_file(file, need_ticker=False)
            problems += oddities + _check_own_ticker(frame, ticker, file)
        except BadInputError as problem:
            problems.append(str(problem))
        else:
            frames.append(frame.drop(columns="ticker", errors="ignore"))
            names.append(ticker)
        if progress is not None:
            progress(i + 1, len(files))
    if not frames:
        first = problems[0] if problems else "no file is left"
        raise BadInputError(f"none of the {len(files)} files of {folder} can be read; first: {first}")
    lengths = np.array([len(f) for f in frames])
    code = np.repeat(np.arange(len(frames), dtype=np.int32), lengths)
    whole = pd.concat(frames, ignore_index=True)
    whole["ticker"] = pd.Categorical.from_codes(code, names)
    whole["source"] = pd.Categorical.from_codes(code, [str(files[name]) for name in names])
    return RawBars(whole[list(RAW_COLUMNS)], problems)


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith((".", "~")) for part in path.relative_to(folder).parts)


def _check_own_ticker(frame: pd.DataFrame, ticker: str, file: Path) -> list[str]:
    """A file may name its ticker in a column; it must be one, and the file's name wins."""
    if "ticker" not in frame:
        return []
    own = [str(t) for t in frame["ticker"].dropna().unique()]
    if len(own) > 1:
        raise BadInputError(
            f"{file} holds {len(own)} tickers ({', '.join(own[:3])}, ...); a folder has one file per ticker, "
            "use source 'table' for one long file"
        )
    if own and own[0].upper().removesuffix(".US") != ticker.upper().removesuffix(".US"):
        return [f"{file} names its ticker {own[0]} inside; {ticker}, the file's name, is used"]
    return []
