"""Which kind of security a ticker is, as far as its form and its past bars tell: no list of names is needed.

Forms: `BAC_C`, `BAC-PC`, `BAC.PRC`, `BAC^C` and five letters of Nasdaq that end in M, N, O or P are preferred shares;
`-WS`, `+` and a fifth letter W are warrants, `-U` and a fifth letter U units, `-RT` and a fifth letter R rights. What
moved less than `BOND_LIKE_VOLATILITY` in a year is held for bond-like whatever it is called: bond funds, baby bonds,
shares whose take-over is agreed.
"""

from __future__ import annotations

import re

import numpy as np

from k4_pipeline.market.bars import Bars
from k4_pipeline.market.series import original_ticker

BOND_LIKE_VOLATILITY = 0.10  # standard deviation of daily log returns, annualised with 252
YEAR_BARS = 250
_FORMS = (
    ("warrant", re.compile(r".*([-._/+ ]WS?([-._]?[A-Z])?|\+)|[A-Z]{4}W")),
    ("unit", re.compile(r".*[-._/ ]UN?|[A-Z]{4}U")),
    ("right", re.compile(r".*[-._/ ]RT?|[A-Z]{4}R")),
    (
        "preferred",
        re.compile(r".*([-./ ]PR?[-.]?[A-Z]?|[_^][A-Z]?|[-./ ]PFD?[-.]?[A-Z]?)|[A-Z]{4}[MNOP]|[A-Z]+p[A-Z]?"),
    ),
)


def kind_by_form(ticker: str) -> str:
    """`warrant`, `unit`, `right` or `preferred` by the form of the ticker; "" where it says nothing."""
    ticker = original_ticker(ticker)
    return next((kind for kind, form in _FORMS if form.fullmatch(ticker)), "")


def volatility(close: np.ndarray) -> float:
    """Annualised standard deviation of the daily log returns of the last year; NaN with fewer than 60."""
    returns = np.diff(np.log(close[-YEAR_BARS - 1 :].astype(np.float64)))
    return float(returns.std(ddof=1) * np.sqrt(252)) if len(returns) >= 60 else float("nan")


def kind_of(bars: Bars, ticker: str) -> str:
    """The kind by form, else `bond_like` by the past bars, else ""."""
    return kind_by_form(ticker) or (
        "bond_like" if volatility(bars.close[bars.ticker_slice(ticker)]) < BOND_LIKE_VOLATILITY else ""
    )
