"""What a person should hear about a source: tickers that lose rows, losses that have a cause in common, odd series.

Each function gives sentences; none means that nothing was found. They judge what cleaning refused and kept, and change
nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from k4_pipeline.market.bars import Bars, to_days
from k4_pipeline.market.series import INTRADAY, NOT_DAILY, OFF_SESSION, REPEATED, original_ticker

MAX_LOST_SHARE = 0.02
_ENOUGH = 10  # refused rows from which a common cause can be told from chance
_EXCESS = 3.0  # how much more often a group is refused than the others
_SIGMAS = 6.0
# Nothing is lost with a row that says what another row says, or that is not due yet.
_NO_LOSS = (
    "repeats another row of the same ticker and date",
    "ticker has too few sane bars",
    "bar of today may be incomplete",
    REPEATED,
)
_WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


def lost_rows(rejects: pd.DataFrame) -> pd.DataFrame:
    """The refused rows with which something was lost."""
    return rejects[~rejects["reason"].isin(_NO_LOSS)]


def few_rows_were_refused(rejects: pd.DataFrame, rows_read: Mapping[str, int]) -> list[str]:
    """Tickers that lose more than 2% of their rows; `rows_read` counts the rows sent, by ticker as sent."""
    lost = lost_rows(rejects)
    out = []
    for ticker, count in lost["ticker"].value_counts().items():
        read = rows_read.get(str(ticker), int(count))
        if count > MAX_LOST_SHARE * read:
            row = lost[lost["ticker"] == ticker].iloc[0]
            example = str(row["value"] or row["row"])[:60]
            out.append(
                f"{ticker} loses {count} of {read} rows ({count / read:.1%}), first: {row['reason']}, {example!r} in "
                f"{row['source']}"
            )
    return out


def refused_rows_have_something_in_common(rejects: pd.DataFrame, bars: Bars) -> list[str]:
    """A month, weekday, price range or word in which rows are refused far more often than elsewhere.

    The price of a refused row is one it was sent with, else the last close kept of its ticker. With fewer than ten
    refused rows nothing is said.
    """
    lost = lost_rows(rejects)
    if len(lost) < _ENOUGH:
        return []
    out = _words(lost)
    date = pd.to_datetime(lost["date"].str.slice(0, 10), format="%Y-%m-%d", errors="coerce")
    dated = lost[date.notna().to_numpy()]
    day = to_days(date.dropna().to_numpy())
    if len(dated) < _ENOUGH:
        return out
    out += _groups(_month(day), _month(bars.date), lambda m: f"in month {m + 1} of the year")
    out += _groups((day + 3) % 7, (bars.date + 3) % 7, lambda d: f"on {_WEEKDAYS[d]}")
    price = _prices(dated, day, bars)
    known = np.isfinite(price)
    if np.count_nonzero(known) >= _ENOUGH:
        out += _groups(
            _decade(price[known]), _decade(bars.close), lambda p: f"at prices from {10.0**p:g} to {10.0 ** (p + 1):g}"
        )
    return out


def _groups(refused: np.ndarray, kept: np.ndarray, say: Callable[[int], str]) -> list[str]:
    """Groups (ints) with many more refused rows than the share of all rows that lies in them."""
    low = int(min(refused.min(), kept.min()))
    size = int(max(refused.max(), kept.max())) - low + 1
    lost = np.bincount(refused - low, minlength=size)
    rows = lost + np.bincount(kept - low, minlength=size)
    share = rows / rows.sum()
    expected = share * len(refused)
    spread = np.sqrt(np.maximum(expected * (1 - share), 1.0))
    hit = (lost >= _ENOUGH) & (lost > _EXCESS * expected) & (lost - expected > _SIGMAS * spread)
    if np.count_nonzero(rows) < 2:
        return []
    return [
        f"{lost[g]} of {len(refused)} refused rows lie {say(int(g + low))}, where {share[g]:.1%} of all rows are"
        for g in np.flatnonzero(hit)
    ]


def _words(lost: pd.DataFrame) -> list[str]:
    """Words that many refused cells share, such as the name of a month that is not understood."""
    texts = [str(v) or str(r) for v, r in zip(lost["value"], lost["row"])]
    tickers = {str(t).lower() for t in lost["ticker"]}
    words = Counter(w for text in texts for w in {m.lower() for m in re.findall(r"[^\W\d_]{2,}", text)} - tickers)
    common = [(w, n) for w, n in words.most_common(3) if n >= max(_ENOUGH, 0.1 * len(lost)) and w not in ("nan", "nat")]
    return [f"{n} of {len(lost)} refused rows hold the word {w!r}" for w, n in common]


def _month(day: np.ndarray) -> np.ndarray:
    return day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12


def _decade(price: np.ndarray) -> np.ndarray:
    return np.floor(np.log10(price)).astype(np.int64)


def _prices(lost: pd.DataFrame, day: np.ndarray, bars: Bars) -> np.ndarray:
    """float64 (n,): about what each refused row cost."""
    out = np.full(len(lost), np.nan)
    guesses = [lost[c].to_numpy(dtype=np.float64) for c in ("close", "open", "high", "low")]
    guesses.append(np.array([_roughly(str(v)) for v in lost["value"]]))
    guesses.append(_last_close(lost["ticker"].to_numpy(dtype=object), day, bars))
    for guess in guesses:
        usable = np.isnan(out) & np.isfinite(guess) & (guess > 0)
        out[usable] = guess[usable]
    return out


def _roughly(text: str) -> float:
    """The size of a price that could not be read for certain, NaN without digits: only its decade counts here."""
    digits = re.sub(r"[^\d.,]", "", text)
    whole, sign, rest = digits, "", ""
    if match := re.search(r"^(.*)([.,])(\d*)$", digits):
        whole, sign, rest = match[1], match[2], match[3]
        if len(rest) == 3 and not re.search(r"[.,]", whole):
            whole, rest = whole + rest, ""
    whole = re.sub(r"\D", "", whole)
    return float(f"{whole or 0}.{rest or 0}") if whole or sign else float("nan")


def _last_close(ticker: np.ndarray, day: np.ndarray, bars: Bars) -> np.ndarray:
    """float64 (n,): the last close kept before each day (the first one after it, where there is none); NaN without."""
    places: dict[str, list[int]] = {}
    for i, name in enumerate(bars.tickers):
        places.setdefault(original_ticker(str(name)), []).append(i)
    out = np.full(len(day), np.nan)
    for row, (name, when) in enumerate(zip(ticker, day)):
        for i in reversed(places.get(str(name), [])):
            start, stop = int(bars.offsets[i]), int(bars.offsets[i + 1])
            at = start + int(np.searchsorted(bars.date[start:stop], when)) - 1
            if at >= start:
                out[row] = bars.close[at]
                break
        else:
            if str(name) in places:
                out[row] = bars.close[int(bars.offsets[places[str(name)][0]])]
    return out


def series_that_are_not_daily(rejects: pd.DataFrame, complete: pd.DataFrame) -> list[str]:
    """Tickers refused as no daily series, and those kept with more than 2% of their bars beside the sessions.

    `complete` is the table of `market/completeness.py`.
    """
    out = []
    for reason in (INTRADAY, OFF_SESSION, NOT_DAILY, REPEATED):
        rows = rejects[rejects["reason"] == reason]
        if len(rows):
            names = list(dict.fromkeys(rows["ticker"]))
            out.append(
                f"{len(names)} tickers, {len(rows)} rows refused: {reason}; e.g. {names[0]}: {rows['row'].iloc[0]}"
            )
    share = complete["off_session_bars"] / complete["bars"].clip(lower=1)
    for i in np.flatnonzero((share > MAX_LOST_SHARE) & (complete["off_session_bars"] >= 3)):
        row = complete.iloc[i]
        out.append(
            f"{row['ticker']}: {row['off_session_bars']} of {row['bars']} bars lie on days without a session of "
            f"{row['exchange']}"
        )
    return out


def duplicates_of(bars: Bars) -> dict[str, str]:
    """Ticker -> another one whose dates, closes and volumes it has."""
    seen: dict[bytes, str] = {}
    out = {}
    for i, name in enumerate(bars.tickers):
        rows = slice(int(bars.offsets[i]), int(bars.offsets[i + 1]))
        key = bars.date[rows].tobytes() + bars.close[rows].tobytes() + bars.volume[rows].tobytes()
        first = seen.setdefault(key, str(name))
        if first != name:
            out[str(name)] = first
    return out


def duplicate_series(bars: Bars) -> list[str]:
    """Tickers that have the bars of another: one company under two names, or a wrong file."""
    return [f"{name} has the very bars of {first}" for name, first in duplicates_of(bars).items()]
