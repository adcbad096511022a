"""The cleaned daily bars of a universe as flat arrays: what every computation after cleaning reads.

Rows are sorted by (ticker, date); the rows of ticker i are `offsets[i]:offsets[i + 1]`. Prices and volumes are float64,
dates are whole days since 1970-01-01 (int32), so that kernels see plain numbers. Nothing here repairs or fills.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import pandas as pd

from k4_pipeline.errors import BadInputError

BAR_COLUMNS = ("ticker", "date", "open", "high", "low", "close", "volume")
PRICE_COLUMNS = ("open", "high", "low", "close")

DayLike: TypeAlias = int | str | dt.date | pd.Timestamp | np.datetime64


def to_day(value: DayLike) -> int:
    """A date in any usual form as whole days since 1970-01-01."""
    if isinstance(value, (int, np.integer)):
        return int(value)
    return int(np.datetime64(pd.Timestamp(value).date(), "D").astype(np.int64))


def to_days(dates: pd.Series | pd.DatetimeIndex | np.ndarray) -> np.ndarray:
    """A datetime column as int32 days since 1970-01-01, shape as given."""
    return np.asarray(dates, dtype="datetime64[D]").astype(np.int32)


def to_dates(days: np.ndarray) -> np.ndarray:
    """int days since 1970-01-01 as datetime64[us], the dtype of every date column in a table."""
    return np.asarray(days).astype("datetime64[D]").astype("datetime64[us]")


@dataclass(frozen=True, eq=False)
class Bars:
    """Cleaned OHLCV of many tickers, (n_bars,) per column, sorted by (ticker, date), one row per key."""

    tickers: np.ndarray  # (n_tickers,) object, ascending
    offsets: np.ndarray  # (n_tickers + 1,) int64
    date: np.ndarray  # (n_bars,) int32 days since 1970-01-01
    open: np.ndarray  # (n_bars,) float64, and so on
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray

    def __len__(self) -> int:
        return len(self.date)

    @property
    def n_tickers(self) -> int:
        return len(self.tickers)

    @property
    def last_day(self) -> int:
        """The newest date of the whole universe, in days since 1970-01-01."""
        return int(self.date.max())

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Bars:
        """From a long table with `BAR_COLUMNS`, already sorted by (ticker, date) and without duplicates.

        Raises `BadInputError` naming the first row out of order; cleaning (market/cleaning.py) sorts and rejects.
        """
        ticker = frame["ticker"].to_numpy(dtype=object)
        date = to_days(frame["date"].to_numpy())
        if len(frame) == 0:
            raise BadInputError("no bars: the table is empty; check the source and the rejects table")
        change = ticker[1:] != ticker[:-1]
        starts = np.concatenate([[0], np.flatnonzero(change) + 1, [len(ticker)]]).astype(np.int64)
        names = ticker[starts[:-1]]
        bad_date = ~change & (date[1:] <= date[:-1])
        if bad_date.any():
            row = int(np.flatnonzero(bad_date)[0]) + 1
            raise BadInputError(
                f"bars of {ticker[row]} are not sorted or hold a date twice at {to_dates(date[row : row + 1])[0]}; "
                "clean them first (market/cleaning.py)"
            )
        if any(names[i] >= names[i + 1] for i in range(len(names) - 1)):
            raise BadInputError("tickers are not in ascending order, or one stands in two places; clean the bars first")
        columns = {c: np.ascontiguousarray(frame[c].to_numpy(dtype=np.float64)) for c in (*PRICE_COLUMNS, "volume")}
        return cls(tickers=names, offsets=starts, date=date, **columns)

    def to_frame(self) -> pd.DataFrame:
        """The long table: ticker (str), date (datetime64[us]), float64 prices and volume."""
        return pd.DataFrame(
            {
                "ticker": pd.Series(np.repeat(self.tickers, np.diff(self.offsets)), dtype="str"),
                "date": to_dates(self.date),
                **{c: getattr(self, c) for c in (*PRICE_COLUMNS, "volume")},
            }
        )

    def _take(self, tickers: np.ndarray, lengths: np.ndarray, rows: np.ndarray | slice) -> Bars:
        keep = lengths > 0
        offsets = np.concatenate([[0], np.cumsum(lengths[keep])]).astype(np.int64)
        columns = {c: np.ascontiguousarray(getattr(self, c)[rows]) for c in ("date", *PRICE_COLUMNS, "volume")}
        return Bars(tickers=tickers[keep], offsets=offsets, **columns)

    def until(self, day: DayLike) -> Bars:
        """Only the bars dated `day` or earlier: the universe as it was known then. Tickers without bars vanish."""
        keep = self.date <= to_day(day)
        lengths = np.add.reduceat(keep.astype(np.int64), self.offsets[:-1])
        return self._take(self.tickers, lengths, keep)

    def subset(self, tickers: Iterable[str]) -> Bars:
        """Only these tickers (unknown names are ignored), order of the universe kept."""
        wanted = set(tickers)
        chosen = np.array([t in wanted for t in self.tickers], dtype=bool)
        lengths = np.where(chosen, np.diff(self.offsets), 0)
        return self._take(self.tickers, lengths, np.repeat(chosen, np.diff(self.offsets)))

    def ticker_slice(self, ticker: str) -> slice:
        """The rows of one ticker; `KeyError` when it is not there."""
        code = self._code_of[ticker]
        return slice(int(self.offsets[code]), int(self.offsets[code + 1]))

    @cached_property
    def _code_of(self) -> dict[str, int]:
        return {t: i for i, t in enumerate(self.tickers)}

    def locate(self, tickers: np.ndarray | pd.Series, days: np.ndarray) -> np.ndarray:
        """Row of each exact (ticker, day), int64 (n,); -1 where that ticker has no bar on that day."""
        codes = np.array([self._code_of.get(t, -1) for t in tickers], dtype=np.int64)
        days = np.asarray(days, dtype=np.int64)
        out = np.full(len(codes), -1, dtype=np.int64)
        known = codes >= 0
        # One sorted key per bar: ticker code in the high part, day in the low part.
        keys = np.repeat(np.arange(self.n_tickers, dtype=np.int64), np.diff(self.offsets)) * (1 << 32) + (
            self.date.astype(np.int64) + (1 << 31)
        )
        wanted = codes[known] * (1 << 32) + (days[known] + (1 << 31))
        at = np.searchsorted(keys, wanted)
        hit = (at < len(keys)) & (keys[np.minimum(at, len(keys) - 1)] == wanted)
        out[known] = np.where(hit, at, -1)
        return out

    def fingerprint(self) -> str:
        """sha256 over every key and value: equal only for equal bars."""
        running = BarsFingerprint()
        running.update(self)
        return running.hexdigest()


class BarsFingerprint:
    """`Bars.fingerprint` of a universe that comes as consecutive `Bars` of whole tickers, without holding it."""

    _COLUMNS = ("date", *PRICE_COLUMNS, "volume")

    def __init__(self) -> None:
        self._digests = {name: hashlib.sha256() for name in ("tickers", "lengths", *self._COLUMNS)}

    def update(self, bars: Bars) -> None:
        """The next tickers."""
        self._digests["tickers"].update("".join(f"{ticker}\x00" for ticker in bars.tickers).encode())
        self._digests["lengths"].update(np.diff(bars.offsets).astype("<i8").data)
        for name in self._COLUMNS:
            self._digests[name].update(np.ascontiguousarray(getattr(bars, name)).view(np.uint8).data)

    def hexdigest(self) -> str:
        """Of everything so far."""
        return hashlib.sha256("".join(digest.hexdigest() for digest in self._digests.values()).encode()).hexdigest()
