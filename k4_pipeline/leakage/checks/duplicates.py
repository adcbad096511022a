"""Pairs of tickers that are one listing under two names, found by the correlation of their daily returns."""

from __future__ import annotations

import numpy as np

from k4_pipeline.market.bars import Bars

MIN_COMMON_BARS = 60
_BLOCK = 512  # tickers a block: 512 x 512 correlations at a time


def return_matrix(bars: Bars, tickers: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Daily log returns (n_tickers, n_days) float32 on the universe's sessions, 0 where missing, and where they are."""
    days = np.unique(bars.date)
    values = np.zeros((len(tickers), len(days)), dtype=np.float32)
    there = np.zeros_like(values)
    for i, ticker in enumerate(tickers):
        rows = bars.ticker_slice(ticker)
        at = np.searchsorted(days, bars.date[rows])[1:]
        change = np.diff(np.log(bars.close[rows]))
        # One outlier must not hide or feign a copy.
        values[i, at] = np.clip(change, -0.5, 0.5)
        there[i, at] = 1.0
    return values, there


def near_duplicates(bars: Bars, tickers: list[str], limit: float) -> tuple[list[tuple[str, str, float, int]], int]:
    """(ticker, ticker, correlation, common bars) of every pair from `limit` on, and the number of pairs compared."""
    values, there = return_matrix(bars, tickers)
    squares = values * values
    found: list[tuple[str, str, float, int]] = []
    pairs = 0
    for i in range(0, len(tickers), _BLOCK):
        for j in range(i, len(tickers), _BLOCK):
            a, b = slice(i, i + _BLOCK), slice(j, j + _BLOCK)
            n = there[a] @ there[b].T
            with np.errstate(all="ignore"):
                sx, sy = values[a] @ there[b].T, there[a] @ values[b].T
                covariance = values[a] @ values[b].T - sx * sy / n
                spread = (squares[a] @ there[b].T - sx * sx / n) * (there[a] @ squares[b].T - sy * sy / n)
                r = covariance / np.sqrt(spread)
            enough = n >= MIN_COMMON_BARS
            if i == j:
                enough &= np.triu(np.ones_like(enough, dtype=bool), 1)
            pairs += int(enough.sum())
            # float32 sums are good to a few 1e-4; what is near the limit is computed again exactly.
            for p, q in np.argwhere(enough & (r > limit - 0.01)):
                exact, common = _exact(values[i + p], there[i + p], values[j + q], there[j + q])
                if exact >= limit:
                    found.append((tickers[i + p], tickers[j + q], exact, common))
    return found, pairs


def _exact(x: np.ndarray, in_x: np.ndarray, y: np.ndarray, in_y: np.ndarray) -> tuple[float, int]:
    common = (in_x > 0) & (in_y > 0)
    a, b = x[common].astype(np.float64), y[common].astype(np.float64)
    if a.std() == 0 or b.std() == 0:
        return 0.0, len(a)  # two dead listings say nothing about each other
    return float(np.corrcoef(a, b)[0, 1]), len(a)
