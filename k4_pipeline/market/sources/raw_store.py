"""The vendor's bars as they came, one version table (market/revisions.py) per ticker, apart from everything cleaned.

`<raw_dir>/<ticker>.parquet`; what was asked for, and until when it is complete, stands in the file's metadata, so an
interrupted download continues where it stopped.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from k4_pipeline.market.bars import to_dates
from k4_pipeline.market.parsing import NO_DAY, days
from k4_pipeline.market.revisions import as_known, record_versions
from k4_pipeline.storage.parquet import read_parquet, read_parquet_metadata, write_parquet

VENDOR_COLUMNS = ("open", "high", "low", "close", "adj_close", "volume", "dividends", "stock_splits")


class RawStore:
    """The version tables below one folder. Files are replaced atomically, one at a time."""

    def __init__(self, raw_dir: Path | str) -> None:
        self.raw_dir = Path(raw_dir)

    def path(self, ticker: str) -> Path:
        """The ticker's file; characters a file name cannot hold are percent-encoded."""
        return self.raw_dir / f"{quote(ticker, safe='^=-')}.parquet"

    def versions(self, ticker: str) -> pd.DataFrame | None:
        """Everything ever received for a ticker; None when nothing was. Damaged file: `StaleArtifactError`."""
        path = self.path(ticker)
        return read_parquet(path) if path.is_file() else None

    def state(self, ticker: str) -> dict[str, Any]:
        """`requested_from` and `complete_until` (ISO dates) of the last successful request; empty before the first."""
        path = self.path(ticker)
        return read_parquet_metadata(path) if path.is_file() else {}

    def add(
        self, ticker: str, sent: pd.DataFrame, *, ingested_at: dt.datetime, requested_from: str, complete_until: str
    ) -> pd.DataFrame:
        """Record what the vendor sent (may be empty) and return the version table now stored."""
        known = self.versions(ticker)
        versions = record_versions(known, sent, ingested_at) if len(sent) or known is None else known
        write_parquet(versions, self.path(ticker), {"requested_from": requested_from, "complete_until": complete_until})
        return versions

    def latest(self, ticker: str) -> pd.DataFrame | None:
        """One row per date: the newest version."""
        versions = self.versions(ticker)
        return None if versions is None else as_known(versions)


def vendor_frame(ticker: str, answer: pd.DataFrame) -> pd.DataFrame:
    """A vendor's answer (dates in the index, its own column names) as rows: ticker, date, stamp, `VENDOR_COLUMNS`.

    `date` is the calendar date in the stamp's own time zone, `stamp` the text of what was sent; a column the vendor
    left out is NaN. Rows whose stamp is no date are dropped: there is no key to keep them under.
    """
    index = pd.Series(answer.index)
    day = days(index, pd.Series([ticker] * len(index)))
    by_name = {"_".join(str(c).lower().split()): c for c in answer.columns}
    out = pd.DataFrame(
        {
            "ticker": pd.Series([ticker] * len(index), dtype="str"),
            "date": to_dates(day),
            "stamp": pd.Series([str(v) for v in answer.index], dtype="str"),
        }
    )
    for column in VENDOR_COLUMNS:
        values = answer[by_name[column]].to_numpy(dtype=np.float64) if column in by_name else np.nan
        out[column] = pd.Series(values, index=out.index, dtype="float64")
    return out[day != NO_DAY].drop_duplicates("date", keep="last").sort_values("date", ignore_index=True)
