"""Source `folder`: one file per ticker, of any make `market/files` reads; archives and `ticker=…` folders too.

The ticker comes from the file's name, its folder or its path (`names.py`). Sub-folders and links to folders are
followed, hidden files are not. A file that cannot be read is named, and the others are used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from k4_pipeline.config import SourceConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.dialect.dates import NO_DAY
from k4_pipeline.market.files.assemble import assemble
from k4_pipeline.market.files.interpret import HowToRead, read_entry
from k4_pipeline.market.files.opening import Entry, is_bar_file, zip_entries
from k4_pipeline.market.files.partitions import ticker_partition
from k4_pipeline.market.files.places import files_below, is_remote, place_of
from k4_pipeline.market.files.table import FileBars
from k4_pipeline.market.files.typed import check_rows
from k4_pipeline.market.files.unchanged import Unchanged
from k4_pipeline.market.sources.base import RawBars
from k4_pipeline.market.sources.names import Named, is_generic, original_of, stem_of, tickers_of
from k4_pipeline.progress import Progress


def find_entries(folder: Path) -> tuple[list[Entry], list[str]]:
    """(the tables below a folder, files that are none with the cause)."""
    entries: list[Entry] = []
    skipped: list[str] = []
    for path, stamp in files_below(folder):
        if path.suffix.lower() == ".zip":
            try:
                members = zip_entries(path)
            except BadInputError as problem:
                skipped.append(str(problem))
                continue
            if len(members) == 1:
                members = [replace(members[0], relative=_below(path, folder).with_name(_named(path, members[0])))]
            entries += members
            if not members:
                skipped.append(f"{path}: the archive holds no table of bars")
        elif is_bar_file(path):
            entries.append(Entry(path, _below(path, folder), stamp=stamp))
        else:
            skipped.append(f"{path}: the format {''.join(path.suffixes[-2:]) or 'without a suffix'} is not read")
    return entries, skipped


def _below(path: Path, folder: Path) -> Path:
    return Path(str(path)[len(str(folder)) :].lstrip("/")) if is_remote(path) else path.relative_to(folder)


def _named(path: Path, member: Entry) -> str:
    """`CAR.zip` with one table is CAR, whatever the table is called; `export.zip` goes by its member."""
    return member.relative.name if is_generic(stem_of(path.with_suffix(""))) else path.stem + member.suffix


def read_folder(
    path: Path | str,
    *,
    tickers: Sequence[str] = (),
    progress: Progress | None = None,
    config: SourceConfig | None = None,
    default_exchange: str = "XNYS",
    kept: Path | None = None,
    keep: bool = True,
    wanted: Callable[[Entry], bool] = lambda entry: True,
) -> RawBars:
    """All bars below a folder (or those of `tickers`); `progress(done, total)` counts files.

    `kept`: where files that were read before are kept, so that what has not changed is not read again
    (`files/unchanged.py`); `keep` False: only look there. `wanted` leaves files out.

    Raises `BadInputError` when the folder is missing, holds no bar file, or none of them can be read.
    """
    folder, config = place_of(path), config or SourceConfig()
    if folder.suffix.lower() == ".zip" and (is_remote(path) or folder.is_file()):
        found, skipped = zip_entries(folder), list[str]()
    elif not is_remote(path) and not folder.is_dir():
        what = "is a file; use source 'table' for one long file" if folder.exists() else "does not exist"
        raise BadInputError(f"{folder} {what}; give a folder with one CSV or Parquet file per ticker")
    else:
        found, skipped = find_entries(folder)
    found = [entry for entry in found if wanted(entry)]
    if not found:
        named = f"; skipped: {skipped[0]}" if skipped else ""
        raise BadInputError(
            f"{folder} holds no .csv, .txt, .tsv (also .gz, .bz2, .zip), .feather or .parquet file{named}; "
            "give a folder of daily bars"
        )
    names, notes = tickers_of(found)
    chosen: dict[str, Named] = {}
    parts: list[Named] = []  # of one ticker, or of a long table
    copies = [stem_of(e.relative) != original_of(stem_of(e.relative)) for e in found]
    for _, file in sorted(zip(copies, names), key=lambda item: item[0]):
        ticker, entry = file.ticker, file.entry
        if tickers and (named := ticker_partition(entry.relative)) and named not in tickers:
            continue
        if file.is_part:
            parts.append(file)
        elif tickers and ticker not in tickers:
            continue
        elif ticker in chosen:
            skipped.append(
                f"{entry.label} is ignored: {chosen[ticker].entry.label} is read for {ticker} already; keep one of them"
            )
            notes.append(skipped[-1])
        else:
            chosen[ticker] = file
    work = [*chosen.values(), *parts]
    how = HowToRead.of(config, need_ticker=False)
    with Unchanged(kept, str(path), how, keep=keep and not tickers) as before:
        files, unread = read_all(work, before, progress)
    empty = [f"{f.label} holds no rows; get it again or remove it" for f in files if not len(f)]
    skipped, notes = [*skipped, *unread, *empty], [*notes, *empty]
    if tickers:
        from k4_pipeline.market.sources.table import only_tickers

        files = [only_tickers(f, tickers) for f in files]
        there = {name for f in files for name in f.names}
        notes += [f"{folder} holds no file for {ticker}" for ticker in tickers if ticker not in there]
    files = [f for f in files if len(f)]
    if not files:
        first = unread[0] if unread else skipped[0] if skipped else notes[0] if notes else "no file is left"
        raise BadInputError(f"none of the {len(work)} files of {folder} can be read; first: {first}")
    raw = assemble(
        files, [*notes, *unread], skipped, given_order=how.given.date_order, default_exchange=default_exchange
    )
    del files
    pa.default_memory_pool().release_unused()  # what the parser needed is as large as the bars
    return replace(raw, files_unchanged=before.unchanged)


def read_all(work: Sequence[Named], before: Unchanged, progress: Progress | None) -> tuple[list[FileBars], list[str]]:
    """(the files, read or known from `before`, in order; sentences about those that could not be read)."""

    def one(named: Named) -> FileBars | str:
        try:
            file = before.get(named.entry)
            if file is None:
                file = read_entry(named.entry, before.how)
                before.put(named.entry, file)
            return named_file(file, named)
        except BadInputError as problem:
            return str(problem)

    files: list[FileBars] = []
    problems: list[str] = []
    rows = 0
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for i, found in enumerate(pool.map(one, work)):
            if isinstance(found, str):
                problems.append(found)
            else:
                files.append(found)
                rows += len(found)
                check_rows(rows, before.how.max_rows, "the folder")
            if progress is not None:
                progress(i + 1, len(work))
    return files, problems


def named_file(file: FileBars, named: Named) -> FileBars:
    """The file under its ticker. A file may name its ticker in a column: it must be one, and the file's name wins.

    A wide file, and a file whose name says nothing, keep the tickers they hold.
    """
    ticker, relative = named.ticker, named.entry.relative
    dated = (file.ticker >= 0) & (file.days.first != NO_DAY)  # a footer names no ticker
    own = [file.names[i] for i in np.unique(file.ticker[dated]) if file.names[i]]
    anonymous = is_generic(stem_of(relative)) and not ticker_partition(relative)
    if len(own) > 1 or (own and (anonymous or file.dialect.layout == "wide")):
        if file.dialect.layout == "wide" or named.is_part:
            return file
        raise BadInputError(
            f"{file.label} holds {len(own)} tickers ({', '.join(own[:3])}, ...); a folder has one file per ticker, "
            "use source 'table' for one long file"
        )
    notes = file.notes
    if own and own[0].upper().removesuffix(".US") != ticker.upper().removesuffix(".US"):
        notes = [*notes, f"{file.label} names its ticker {own[0]} inside; {ticker}, the file's name, is used"]
    return replace(file, ticker=np.zeros(len(file), dtype=np.int32), names=[ticker], notes=notes)
