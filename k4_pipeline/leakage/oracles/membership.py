"""Who belongs to train, validation and test, and what validation is for: docs/design.md, row by row in plain Python."""

from __future__ import annotations

import calendar
import datetime as dt
import hashlib
from collections.abc import Iterable

import numpy as np
import pandas as pd

from k4_pipeline.config import EXCLUDED, SplitConfig

ORDER = ("train", "validation", "test")


def months_before(day: dt.date, months: int) -> dt.date:
    """The same day of the month so many months earlier, or the last day of a shorter month."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return dt.date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def oracle_membership(labeled: pd.DataFrame, as_of: dt.date, config: SplitConfig) -> list[str]:
    """The member each row belongs to, in the order of the rows."""
    start = months_before(as_of, config.validation_months)
    limit = start - dt.timedelta(days=config.embargo_days)
    test_end = months_before(as_of, -config.test_months)
    oldest = months_before(start, 12 * config.train_years) if config.train_years else dt.date.min
    names = []
    earliest: dict[tuple[str, object], int] = {}
    rows = list(zip(labeled["ticker"], labeled["start_date"], labeled["snapshot_date"], labeled["label_end_date"]))
    known = labeled["outcome_class"].notna().tolist()
    for (ticker, pattern, snapshot, end), labelled in zip(rows, known):
        day = snapshot.date()
        ends = end.date() if labelled and not pd.isna(end) else dt.date.max
        if oldest <= day < start and ends < limit:
            name = "train"
        elif start <= day < as_of and ends < as_of:
            name = "validation"
        elif as_of <= day < test_end:
            name = "test"
        else:
            name = EXCLUDED
        names.append(name)
        if name != EXCLUDED:
            place = ORDER.index(name)
            earliest[ticker, pattern] = min(place, earliest.get((ticker, pattern), place))
    for i, (ticker, pattern, _, _) in enumerate(rows):
        if names[i] != EXCLUDED and ORDER.index(names[i]) > earliest[ticker, pattern]:
            names[i] = EXCLUDED
    return names


def oracle_stopping(tickers: Iterable[object], frac: float) -> np.ndarray:
    """Which validation rows (n,) bool early stopping looks at: whole tickers, the share `frac` of them by a hash."""
    shares = (int.from_bytes(hashlib.sha256(str(t).encode()).digest()[:4], "big") / 2**32 for t in tickers)
    return np.array([frac >= 1.0 or share < frac for share in shares], dtype=bool)


def oracle_calibration(tickers: Iterable[object], frac: float) -> np.ndarray:
    """Which are left to the calibrator: those early stopping does not look at, or all where it looks at all."""
    stopping = oracle_stopping(tickers, frac)
    return stopping if stopping.all() else ~stopping
