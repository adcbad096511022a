"""Day first or month first: decided per file by the rows with one reading, per ticker where a file contradicts itself."""

from __future__ import annotations

import numpy as np

from k4_pipeline.market.dialect.dates import NO_DAY

OPEN, DAY_FIRST, MONTH_FIRST = range(3)
ORDER_NAMES = ("", "day first", "month first")


def decide_orders(
    first: np.ndarray, second: np.ndarray, numeric: np.ndarray, file: np.ndarray, ticker: np.ndarray
) -> np.ndarray:
    """int8 (n,): the order of every row. `file` and `ticker` are codes from 0.

    A file with rows of one kind of evidence follows it; without any it follows the other files when they agree. Where a
    file holds both kinds each of its tickers decides for itself; a ticker with both, or none, stays `OPEN` as a whole.
    """
    clear_day = numeric & (second == NO_DAY) & (first != NO_DAY)
    clear_month = numeric & (first == NO_DAY) & (second != NO_DAY)
    by_file = _evidence(clear_day, clear_month, file)
    agreed = {int(o) for o in by_file if o != OPEN}
    common = agreed.pop() if len(agreed) == 1 else OPEN
    both = by_file == 3
    order = np.where(by_file == OPEN, common if not both.any() else OPEN, by_file)[file].astype(np.int8)
    torn = both[file]
    if torn.any():
        key = file[torn].astype(np.int64) * (int(ticker.max()) + 1) + ticker[torn]
        _, group = np.unique(key, return_inverse=True)
        by_ticker = _evidence(clear_day[torn], clear_month[torn], group)
        order[torn] = np.where(by_ticker == 3, OPEN, by_ticker)[group]
    left = np.flatnonzero((order == OPEN) & numeric & ~torn)
    if len(left):
        # 03/03/2015 is one day in either order, and alone leaves nothing open.
        key = file[left].astype(np.int64) * (int(ticker.max()) + 1) + ticker[left]
        _, group = np.unique(key, return_inverse=True)
        two = np.zeros(int(group.max()) + 1, dtype=bool)
        two[group[first[left] != second[left]]] = True
        order[left[~two[group]]] = DAY_FIRST
    return order


def _evidence(clear_day: np.ndarray, clear_month: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Per group: OPEN, DAY_FIRST, MONTH_FIRST, or 3 for both."""
    found = np.zeros(int(group.max(initial=-1)) + 1, dtype=np.int8)
    found[np.unique(group[clear_day])] |= 1
    found[np.unique(group[clear_month])] |= 2
    return found
