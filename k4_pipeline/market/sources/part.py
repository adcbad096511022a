"""A part of a source: its newest rows, or the rows of a few tickers, without reading what is not asked for.

Long Parquet tables are filtered while they are read; other files are read as a whole and cut afterwards. Either way the
rows go through the same reader as a whole source, so that a part is read as the whole would be.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from k4_pipeline.config import SimulationConfig, SourceConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.dialect.headings import match_columns
from k4_pipeline.market.files.opening import PARQUET_SUFFIXES
from k4_pipeline.market.parsing import days
from k4_pipeline.market.sources import read_bars
from k4_pipeline.market.sources.base import RawBars


def read_part(
    source: SourceConfig,
    simulation: SimulationConfig,
    *,
    since: int | None = None,
    tickers: Sequence[str] | None = None,
    raw_dir: Path | str | None = None,
    default_exchange: str = "XNYS",
) -> RawBars:
    """The raw rows dated `since` (days since 1970-01-01) or later, or those of `tickers`, as sent."""
    filtered = _filtered_parquet(source, since, tickers)
    if filtered is not None:
        return filtered
    try:
        chosen = source if tickers is None else replace(source, tickers=tuple(tickers))
        raw = read_bars(chosen, simulation, raw_dir=raw_dir, default_exchange=default_exchange)
    except BadInputError:  # none of them is there any more; a source that cannot be read says so again
        raw = read_bars(source, simulation, raw_dir=raw_dir, default_exchange=default_exchange)
    frame = raw.frame
    keep = np.ones(len(frame), dtype=bool)
    if since is not None:
        keep &= days(frame["date"], frame["source"], frame["ticker"], default_exchange=default_exchange) >= since
    if tickers is not None:
        keep &= frame["ticker"].isin(set(tickers)).to_numpy()
    return replace(raw, frame=frame[keep].reset_index(drop=True), resend=None)


def _filtered_parquet(source: SourceConfig, since: int | None, tickers: Sequence[str] | None) -> RawBars | None:
    """The part of a long Parquet table with plain dates; None for any other source."""
    path = Path(source.path)
    if source.source != "table" or path.suffix.lower() not in PARQUET_SUFFIXES or not path.is_file():
        return None
    try:
        names = pq.read_schema(path).names
        columns = match_columns(names, where=str(path), need_ticker=True, prices=source.prices)
        data = ds.dataset(path, format="parquet")
        kind = data.schema.field(columns["date"]).type
        if not (pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and kind.tz is None)):
            return None
        wanted: ds.Expression | None = None
        if since is not None:
            first = pa.scalar(dt.date(1970, 1, 1) + dt.timedelta(days=since)).cast(kind)
            wanted = ds.field(columns["date"]) >= first
        if tickers is not None:
            if not pa.types.is_string(data.schema.field(columns["ticker"]).type):
                return None
            own = ds.field(columns["ticker"]).isin(list(tickers))
            wanted = own if wanted is None else wanted & own
        if source.tickers:
            listed = ds.field(columns["ticker"]).isin(list(source.tickers))
            wanted = listed if wanted is None else wanted & listed
        table = data.to_table(columns=list(dict.fromkeys(columns.values())), filter=wanted)
    except (BadInputError, pa.ArrowException, OSError):
        return None  # the reader of whole files says what is wrong
    if table.num_rows == 0:
        return RawBars(pd.DataFrame({c: [] for c in ("ticker", "date", "open", "high", "low", "close", "volume")}))
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / path.name
        pq.write_table(table, part, compression="none")
        raw = read_bars(replace(source, path=str(part), tickers=()), SimulationConfig())
    frame = raw.frame.copy()
    frame["source"] = frame["source"].astype(str).str.replace(str(part), str(path), regex=False)
    return replace(raw, frame=frame, resend=None, problems=[p.replace(str(part), str(path)) for p in raw.problems])
