"""Source `yfinance`: Yahoo's daily bars, fetched only as far as they are missing. An optional extra.

Per ticker the newest stored date decides what is asked for: from a few days before it (the overlap) to now. When the
overlap has other prices than what is stored, Yahoo has re-adjusted the history (a split, usually) and the ticker is
fetched again from its start; old and new versions are both kept with the moment they were received
(market/revisions.py). Nothing is adjusted or repaired here: `auto_adjust` and `repair` are off.

A bar whose session has not closed yet is not stored, so today's partial bar never becomes history. Requests are spaced
and retried; each ticker is stored as soon as it has come, so a run that was cut off continues with the next one.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from k4_pipeline.config import CleaningConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market import calendar
from k4_pipeline.market.bars import PRICE_COLUMNS, to_dates, to_day, to_days
from k4_pipeline.market.revisions import as_known, changed_rows
from k4_pipeline.market.sources.base import RAW_COLUMNS, RawBars
from k4_pipeline.market.sources.raw_store import RawStore, vendor_frame
from k4_pipeline.progress import Progress

DEFAULT_START = "1990-01-01"


class VendorUnavailable(Exception):
    """The vendor did not answer this time (network, rate limit); worth another try."""


class UnknownTicker(Exception):
    """The vendor has no such ticker."""


class Client(Protocol):
    """What is needed of a vendor: daily bars from a day on, dates in the index (time-zone-aware)."""

    def history(self, ticker: str, start: str) -> pd.DataFrame: ...


@dataclass(frozen=True)
class FetchSettings:
    """How politely and how stubbornly to ask."""

    overlap_days: int = 10  # calendar days asked for again, to notice a revised history
    attempts: int = 4
    first_wait_s: float = 2.0  # doubled after each failed attempt
    spacing_s: float = 0.5  # between two requests
    give_up_after: int = 5  # tickers in a row without an answer: the vendor is down


class YahooClient:
    """`Client` on top of the yfinance package."""

    def __init__(self) -> None:
        try:
            import yfinance
        except ImportError as problem:
            raise BadInputError(
                "source 'yfinance' needs the yfinance package, which is not installed; install it with: pip install "
                "'k4-pipeline[yfinance]'"
            ) from problem
        self._yfinance = yfinance
        # Without this yfinance logs errors and returns an empty frame: a failure would look like "no bars".
        yfinance.config.debug.hide_exceptions = False

    def history(self, ticker: str, start: str) -> pd.DataFrame:
        errors = self._yfinance.exceptions
        try:
            return self._yfinance.Ticker(ticker).history(
                start=start, interval="1d", auto_adjust=False, back_adjust=False, repair=False, actions=True
            )
        except errors.YFTzMissingError as problem:
            raise UnknownTicker(str(problem)) from problem
        except errors.YFPricesMissingError:
            return pd.DataFrame()  # a known ticker without bars in this span
        except (errors.YFException, OSError, ValueError) as problem:
            # OSError: every network error of requests and curl; ValueError: an answer that is no JSON.
            raise VendorUnavailable(f"{type(problem).__name__}: {problem}") from problem


class _Fetcher:
    def __init__(
        self, store: RawStore, client: Client, settings: FetchSettings, now: dt.datetime, sleep: Callable[[float], None]
    ) -> None:
        self.store, self.client, self.settings, self.now, self.sleep = store, client, settings, now, sleep
        self.asked = False

    def ask(self, ticker: str, start: str) -> pd.DataFrame:
        """One request, with spacing and retries; complete sessions only."""
        wait = self.settings.first_wait_s
        for attempt in range(1, self.settings.attempts + 1):
            if self.asked:
                self.sleep(self.settings.spacing_s)
            self.asked = True
            try:
                sent = vendor_frame(ticker, self.client.history(ticker, start))
                return sent[self._complete(ticker, sent)].reset_index(drop=True)
            except VendorUnavailable:
                if attempt == self.settings.attempts:
                    raise
                self.sleep(wait)
                wait *= 2
        raise AssertionError("unreachable: attempts is at least 1")

    def _complete(self, ticker: str, sent: pd.DataFrame) -> np.ndarray:
        exchange = calendar.exchange_of(ticker, CleaningConfig.default_exchange)
        day = to_days(sent["date"])
        recent = day >= to_day(self.now.date()) - 2  # older sessions are closed anywhere on earth
        ok = ~recent
        for row in np.flatnonzero(recent):
            ok[row] = calendar.has_closed(exchange, int(day[row]), self.now)
        return ok

    def update(self, ticker: str, start: str) -> None:
        """Bring one ticker up to date; raises `VendorUnavailable` or `UnknownTicker`."""
        last_session = self._last_closed_session(ticker)
        state = self.store.state(ticker)
        known = self.store.latest(ticker)
        covered = known is not None and len(known) > 0 and state.get("requested_from", "9999") <= start
        if covered and state.get("complete_until", "") >= last_session:
            return
        record: dict[str, Any] = {"ingested_at": self.now, "requested_from": start, "complete_until": last_session}
        if not covered:
            self.store.add(ticker, self.ask(ticker, start), **record)
            return
        assert known is not None
        since = known["date"].max() - pd.Timedelta(days=self.settings.overlap_days)
        sent = self.ask(ticker, f"{since:%Y-%m-%d}")
        # Corrected volumes of the last days are ordinary; other prices mean that the whole history was adjusted again.
        if len(sent) and changed_rows(known, sent, columns=PRICE_COLUMNS)["is_revision"].any():
            sent = self.ask(ticker, start)
        self.store.add(ticker, sent, **{**record, "requested_from": min(start, state["requested_from"])})

    def _last_closed_session(self, ticker: str) -> str:
        exchange = calendar.exchange_of(ticker, CleaningConfig.default_exchange)
        today = to_day(self.now.date()) + 1  # east of here the date may be one ahead
        recent = calendar.sessions(exchange, today - 30, today)
        closed = [d for d in recent if calendar.has_closed(exchange, int(d), self.now)]
        return str(to_dates(np.array(closed[-1:]))[0])[:10] if closed else ""


def fetch(
    tickers: Sequence[str],
    raw_dir: Path | str,
    *,
    start: str = "",
    client: Client | None = None,
    now: dt.datetime | None = None,
    settings: FetchSettings | None = None,
    sleep: Callable[[float], None] = time.sleep,
    progress: Progress | None = None,
) -> RawBars:
    """Update the version tables in `raw_dir` and return the newest version of every bar, unadjusted and uncleaned.

    `start` (ISO date) is the first day wanted; `now` a time-zone-aware moment (default: the clock); `client` another
    vendor or a recorded one. A ticker that cannot be fetched is named in `problems`, and what is stored of it is used.
    Raises `BadInputError` when yfinance is needed and missing, no ticker is named, or no bar at all is there.
    """
    if not tickers:
        raise BadInputError("source 'yfinance' needs tickers; name them with --universe AAPL,MSFT,...")
    store, settings = RawStore(raw_dir), settings or FetchSettings()
    moment = now or dt.datetime.now(dt.UTC)
    fetcher = _Fetcher(store, client or YahooClient(), settings, moment, sleep)
    first_day = str(to_dates(np.array([to_day(start or DEFAULT_START)]))[0])[:10]
    problems: list[str] = []
    silent = 0
    names = list(dict.fromkeys(t.strip() for t in tickers if t.strip()))
    for i, ticker in enumerate(names):
        try:
            fetcher.update(ticker, first_day)
            silent = 0
        except UnknownTicker as problem:
            problems.append(f"{ticker} is unknown to the vendor: {problem}")
            silent = 0
        except VendorUnavailable as problem:
            problems.append(f"{ticker} could not be fetched: {problem}; run again to continue")
            silent += 1
        if progress is not None:
            progress(i + 1, len(names))
        if silent >= settings.give_up_after:
            left = len(names) - i - 1
            problems.append(f"the vendor did not answer {silent} times in a row; {left} tickers were not asked for")
            break
    return _stored_bars(store, names, first_day, problems)


def _stored_bars(store: RawStore, names: Sequence[str], first_day: str, problems: list[str]) -> RawBars:
    frames = []
    for ticker in names:
        versions = store.versions(ticker)
        if versions is None or len(versions) == 0:
            continue
        frame = as_known(versions)
        frame = frame[frame["date"] >= first_day]
        frames.append(frame.assign(source=str(store.path(ticker)))[list(RAW_COLUMNS)])
    if not frames or sum(map(len, frames)) == 0:
        first = problems[0] if problems else "the vendor sent none"
        raise BadInputError(f"no bars of {len(names)} tickers since {first_day}; {first}")
    return RawBars(pd.concat(frames, ignore_index=True), problems)
