"""What every source hands over: the bars as the vendor sent them, and what went wrong while reading.

Sources repair nothing and judge nothing but readability; `market/cleaning.py` decides which rows are sane.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pandas as pd

from k4_pipeline.errors import BadInputError

RAW_COLUMNS = ("ticker", "date", "open", "high", "low", "close", "volume", "source")

Progress = Callable[[int, int], None]

# Spellings seen in the wild, reduced by `_plain` to lower-case letters. The last ones of `date` are what pandas makes
# of a date index that was saved without a name.
_SPELLINGS: dict[str, tuple[str, ...]] = {
    "ticker": ("ticker", "symbol", "sym", "code", "instrument", "ric", "tic", "permticker", "stock"),
    "date": (
        "date",
        "datetime",
        "timestamp",
        "time",
        "day",
        "tradedate",
        "tradingday",
        "sessiondate",
        "dt",
        "asofdate",
        "index",
        "indexlevel",
        "unnamed",
        "",
    ),
    "open": ("open", "o", "openprice", "pxopen", "opening"),
    "high": ("high", "h", "highprice", "pxhigh", "max"),
    "low": ("low", "l", "lowprice", "pxlow", "min"),
    "close": ("close", "c", "closeprice", "pxlast", "last", "closelast", "price"),
    "volume": ("volume", "vol", "v", "pxvolume", "sharevolume", "tradedvolume", "totalvolume", "shares"),
}
_ADJUSTED_CLOSE = ("adjclose", "adjustedclose", "closeadj", "closeadjusted", "adjcloseprice")


@dataclass(frozen=True)
class RawBars:
    """Bars as sent.

    `frame` has exactly `RAW_COLUMNS`; values keep the dtypes of the source (dates may be text, prices may be objects).
    `problems` are sentences about whole files or tickers that could not be read.
    """

    frame: pd.DataFrame
    problems: list[str] = field(default_factory=list)


def _plain(name: object) -> str:
    return re.sub(r"[^a-z]", "", str(name).lower())


def match_columns(names: Iterable[object], *, where: str, need_ticker: bool) -> dict[str, str]:
    """Map canonical column name -> the file's own spelling, e.g. "<CLOSE>", "Date/Time", "Adj Close", "vol".

    Of several spellings of one column the first in the table above wins ("date" before "time", "close" before an
    adjusted close; the adjusted close is taken only when there is no plain one, because mixing an adjusted close with
    unadjusted highs and lows would break the bar). Raises `BadInputError` naming the file, the missing columns and
    the columns found.
    """
    own = [str(name) for name in names]
    by_plain: dict[str, str] = {}
    for name in own:
        if _plain(name) or not name.strip():  # "2015-01-02" is no name: the file has no header
            by_plain.setdefault(_plain(name), name)
    found: dict[str, str] = {}
    for column, spellings in _SPELLINGS.items():
        candidates = spellings + (_ADJUSTED_CLOSE if column == "close" else ())
        hit = next((by_plain[s] for s in candidates if s in by_plain), None)
        if hit is not None:
            found[column] = hit
    missing = [c for c in _SPELLINGS if c not in found and (c != "ticker" or need_ticker)]
    if missing:
        raise BadInputError(
            f"{where}: no column for {', '.join(missing)}; it has {', '.join(own) or 'no columns'}. "
            "Needed are date, open, high, low, close, volume" + (" and ticker" if need_ticker else "")
        )
    return found
