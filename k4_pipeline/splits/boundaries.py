"""The dates that decide a split, from the as-of date and the settings alone, and how days are compared.

All bounds are half-open from below: a span is `first <= day < end`. A label window is the closed interval from the bar
after the snapshot to `label_end_date`, and a label counts as known before a day only when `label_end_date < day`,
strictly: a label that becomes known on the boundary day itself is not known before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from k4_pipeline.config import SplitConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.market.bars import DayLike, to_dates, to_day

NEVER = np.int64(2**31)  # "label_end_date" of a label that is not known: later than any boundary


@dataclass(frozen=True)
class SplitBoundaries:
    """Days since 1970-01-01. train: label_end < train_end, snapshot >= train_start; validation and test by spans."""

    train_start: int | None  # first snapshot day of train; None: all history
    train_end: int  # train labels are known strictly before this day (validation start minus the embargo)
    validation_start: int
    as_of: int  # end of validation, start of test
    test_end: int

    @classmethod
    def of(cls, as_of: DayLike, config: SplitConfig) -> SplitBoundaries:
        """Boundaries of one as-of date; `ConfigError` for a span that is empty or negative."""
        for name in ("test_months", "validation_months"):
            if getattr(config, name) < 1:
                raise ConfigError(f"split.{name} is {getattr(config, name)}; it must be at least 1 month")
        for name in ("embargo_days", "train_years"):
            if getattr(config, name) < 0:
                raise ConfigError(f"split.{name} is {getattr(config, name)}; it must not be negative")
        t = pd.Timestamp(to_dates(np.array([to_day(as_of)]))[0])
        v = t - pd.DateOffset(months=config.validation_months)
        start = v - pd.DateOffset(years=config.train_years)
        return cls(
            train_start=to_day(start) if config.train_years else None,
            train_end=to_day(v) - config.embargo_days,
            validation_start=to_day(v),
            as_of=to_day(t),
            test_end=to_day(t + pd.DateOffset(months=config.test_months)),
        )


def day_numbers(dates: pd.Series) -> np.ndarray:
    """A date column as int64 days since 1970-01-01, shape (n,); a missing date becomes `NEVER`."""
    values = dates.to_numpy(dtype="datetime64[D]")
    days = values.astype(np.int64)
    days[np.isnat(values)] = NEVER
    return days


def known_label_end(labeled: pd.DataFrame) -> np.ndarray:
    """Day on which each row's label is known, int64 (n,); `NEVER` without a class or without a `label_end_date`."""
    days = day_numbers(labeled["label_end_date"])
    days[labeled["outcome_class"].isna().to_numpy()] = NEVER
    return days


def iso(day: int) -> str:
    """`YYYY-MM-DD` of a day number."""
    return str(np.datetime64(int(day), "D"))
