"""Whether the bars of a ticker are one daily series on its exchange's sessions, and where one listing ends.

A function of the rows sane so far. Weekends that repeat the last bar, several bars a day, weekly bars and series that
stand beside the sessions are refused; a silence of more sessions than `listing_gap_sessions` ends a listing, after
which the same ticker is another history: `CAR`, then `CAR#2` (`VOD.L`, then `VOD#2.L`), so that nothing computed for
the second reads a bar of the first. The name of a bar depends on the bars before it alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from k4_pipeline.config import CleaningConfig
from k4_pipeline.market import calendar
from k4_pipeline.market.bars import PRICE_COLUMNS
from k4_pipeline.market.exchanges import exchange_of, split_suffix

INTRADAY = "ticker holds several bars a day: no daily series"
REPEATED = "repeats the last bar on a day without a session"
OFF_SESSION = "ticker stands beside the sessions of its exchange"
NOT_DAILY = "ticker holds weekly or longer bars: no daily series"
SERIES_REASONS = (INTRADAY, REPEATED, OFF_SESSION, NOT_DAILY)

_FEW = 10  # rows from which a share says something
_INTRADAY_SHARE = 0.2
_LONG_STEP = 4  # sessions from bar to bar, median
_SAID_SHARE = 0.02


@dataclass(frozen=True)
class Sessions:
    """Per row: is its day a session of the ticker's exchange, and how many sessions lie before and up to it."""

    on: np.ndarray  # (n,) bool
    before: np.ndarray  # (n,) int32, sessions before the day
    upto: np.ndarray  # (n,) int32, sessions up to the day


def place_on_sessions(code: np.ndarray, names: np.ndarray, day: np.ndarray, default_exchange: str) -> Sessions:
    """The rows (n,) of `code` and `day` on the calendars of their exchanges."""
    exchange = np.array([exchange_of(n, default_exchange) for n in names], dtype=object)
    on, before = np.zeros(len(day), dtype=bool), np.zeros(len(day), dtype=np.int32)
    kinds = sorted(set(exchange))
    for name in kinds:
        rows = slice(None) if len(kinds) == 1 else np.flatnonzero((exchange == name)[code])
        own = day[rows]
        if not len(own):
            continue
        low, high = int(own.min()), int(own.max())
        table = calendar.sessions(name, low, high)
        counts = np.zeros(high - low + 2, dtype=np.int32)
        counts[table - low + 1] = 1
        before[rows] = np.cumsum(counts, dtype=np.int32)[own - low]
        on[rows] = counts[own - low + 1] == 1
    return Sessions(on, before, before + on)


def judge_series(
    reason: np.ndarray,
    contradicts: int,
    reason_codes: dict[str, np.uint8],
    order: np.ndarray | None,
    code: np.ndarray,
    names: np.ndarray,
    day: np.ndarray,
    values: dict[str, np.ndarray],
    config: CleaningConfig,
) -> list[str]:
    """Put the reasons above on rows that are sane so far; returns sentences about what stays and looks odd."""
    n = len(names)
    twice = np.bincount(code[reason == contradicts], minlength=n)
    sane = np.bincount(code[reason == 0], minlength=n)
    intraday = (twice > _INTRADAY_SHARE * (twice + sane)) & (twice >= _FEW)
    if intraday.any():
        reason[((reason == 0) | (reason == contradicts)) & intraday[code]] = reason_codes[INTRADAY]

    rows = np.flatnonzero(reason == 0) if order is None else order[reason[order] == 0]
    if not len(rows):
        return []
    place = place_on_sessions(code[rows], names, day[rows], config.default_exchange)
    repeated = _repeats(rows, code, place, values)
    reason[rows[repeated]] = reason_codes[REPEATED]
    rows, on, upto = rows[~repeated], place.on[~repeated], place.upto[~repeated]

    total = np.bincount(code[rows], minlength=n)
    off = np.bincount(code[rows[~on]], minlength=n)
    share = off / np.maximum(total, 1)
    beside = (share > config.max_off_session_frac) & (off >= 5)
    reason[rows[beside[code[rows]]]] = reason_codes[OFF_SESSION]
    # Where most rows are refused the steps between the others say nothing.
    slow = _slow(code[rows], upto, n) & ~beside & (total >= _FEW) & (total > 0.5 * np.bincount(code, minlength=n))
    reason[rows[slow[code[rows]]]] = reason_codes[NOT_DAILY]

    said = []
    odd = np.flatnonzero((share > _SAID_SHARE) & (off >= 3))
    if len(odd):
        worst = odd[np.argmax(share[odd])]
        exchange = exchange_of(names[worst], config.default_exchange)
        said.append(
            f"{share[worst]:.0%} of the bars of {names[worst]} lie on days without a session of {exchange}"
            + (f" (and so do more than {_SAID_SHARE:.0%} of {len(odd) - 1} other tickers)" if len(odd) > 1 else "")
            + ": a time zone that moves dates, or another exchange (--set cleaning.default_exchange=...)"
        )
    return said


def _repeats(rows: np.ndarray, code: np.ndarray, place: Sessions, values: dict[str, np.ndarray]) -> np.ndarray:
    """bool (len(rows),): off-session rows with the prices of the row before, or flat at its close without volume."""
    off = np.flatnonzero(~place.on)
    off = off[off > 0]
    out = np.zeros(len(rows), dtype=bool)
    if not len(off):
        return out
    now, last = rows[off], rows[off - 1]
    same = code[now] == code[last]
    close = values["close"]
    equal, flat = same.copy(), same & (values["volume"][now] == 0)
    for column in PRICE_COLUMNS:
        equal &= values[column][now] == values[column][last]
        flat &= values[column][now] == close[last]
    out[off] = equal | flat
    return out


def _slow(code: np.ndarray, upto: np.ndarray, n: int) -> np.ndarray:
    """bool (n tickers,): more than half of the steps from bar to bar span `_LONG_STEP` sessions or more."""
    same = code[1:] == code[:-1]
    step = np.diff(upto)
    steps = np.bincount(code[1:][same], minlength=n)
    long = np.bincount(code[1:][same & (step >= _LONG_STEP)], minlength=n)
    return long > 0.5 * np.maximum(steps, 1)


def split_listings(
    rows: np.ndarray | slice, code: np.ndarray, names: np.ndarray, day: np.ndarray, config: CleaningConfig
) -> tuple[np.ndarray | slice, np.ndarray, np.ndarray, list[str]]:
    """(rows sorted by (listing, date), listing of each, names of the listings ascending, sentences).

    `rows` are sane and sorted by (ticker, date).
    """
    own = code[rows]
    place = place_on_sessions(own, names, day[rows], config.default_exchange)
    same = own[1:] == own[:-1]
    ends = same & (place.before[1:] - place.upto[:-1] > config.listing_gap_sessions)
    if not ends.any():
        return rows, own, names, []
    rows = np.arange(len(code))[rows]
    starts = np.concatenate([[True], ~same | ends])
    listing = np.cumsum(starts) - 1
    first = np.flatnonzero(starts)
    ticker = own[first]
    number = np.arange(len(first)) - np.searchsorted(ticker, ticker) + 1
    made = [names[t] if k == 1 else _listing_name(names[t], int(k)) for t, k in zip(ticker, number)]
    ordered = np.array(sorted(made), dtype=object)
    position = {name: i for i, name in enumerate(ordered)}
    code_of = np.array([position[name] for name in made], dtype=np.int32)[listing]
    again = np.argsort(code_of, kind="stable")
    at = int(np.flatnonzero(ends)[0]) + 1
    since, until = (str(np.datetime64(int(day[rows[k]]), "D")) for k in (at, at - 1))
    said = (
        f"{int(ends.sum())} silences of more than {config.listing_gap_sessions} sessions end a listing: after them the "
        f"ticker starts a new history, e.g. {names[own[at]]} until {until}, {made[listing[at]]} since {since}"
    )
    return rows[again], code_of[again], ordered, [said]


def _listing_name(ticker: str, number: int) -> str:
    stem, suffix = split_suffix(ticker)
    return f"{stem}#{number}.{ticker.rpartition('.')[2]}" if suffix else f"{ticker}#{number}"


def original_ticker(name: str) -> str:
    """The ticker of a listing's name: `CAR#2` is CAR, `VOD#2.L` is VOD.L."""
    return re.sub(r"#\d+(?=\.|$)", "", name)
