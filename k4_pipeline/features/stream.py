"""Cleaned bars read from a Parquet table a few tickers at a time, so that memory does not grow with the universe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import BAR_COLUMNS, Bars

_BATCH_ROWS = 131_072


def bars_in_chunks(path: Path | str, *, chunk_bars: int = 200_000) -> Iterator[Bars]:
    """`Bars` of whole tickers, at least `chunk_bars` bars each but for the last, in the order of the file.

    The table has `BAR_COLUMNS`, sorted by (ticker, date), like `daily_bars`; page checksums are verified. Raises
    `BadInputError` when it cannot be read or is not sorted. A ticker longer than a chunk comes whole.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            held: list[pd.DataFrame] = []
            rows = 0
            for batch in file.iter_batches(batch_size=min(_BATCH_ROWS, chunk_bars), columns=list(BAR_COLUMNS)):
                frame = batch.to_pandas()
                frame["date"] = pd.to_datetime(frame["date"])
                held.append(frame)
                rows += len(frame)
                last = frame["ticker"].iloc[-1]
                if rows < chunk_bars or (held[0]["ticker"].iloc[0] == last):
                    continue
                # The last ticker may go on in the next batch: it waits.
                table = pd.concat(held, ignore_index=True)
                complete = int((table["ticker"] != last).to_numpy().sum())
                yield Bars.from_frame(table.iloc[:complete])
                held, rows = [table.iloc[complete:]], len(table) - complete
            if rows:
                yield Bars.from_frame(pd.concat(held, ignore_index=True))
    except (OSError, pa.ArrowException) as problem:
        raise BadInputError(f"{path} cannot be read as bars: {problem}; write it again") from problem


def bars_of_tickers(path: Path | str, tickers: Iterable[str]) -> Bars:
    """Only these tickers of a table that `bars_in_chunks` reads; `BadInputError` when none of them is there."""
    wanted = set(tickers)
    found = [chunk.subset(wanted) for chunk in bars_in_chunks(path) if not wanted.isdisjoint(chunk.tickers)]
    if not found:
        raise BadInputError(f"{path} holds none of the {len(wanted)} tickers asked for")
    return Bars.from_frame(pd.concat([bars.to_frame() for bars in found], ignore_index=True))
