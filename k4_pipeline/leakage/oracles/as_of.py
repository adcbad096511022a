"""The default as-of date found a second time, from dates alone: the classes of the labels are not even handed in."""

from __future__ import annotations

import datetime as dt

import pandas as pd

from k4_pipeline.config import SplitConfig

ENOUGH = 0.99  # share of a test span that must be labelled


def newest_labelled_quarter(dates: pd.DataFrame, config: SplitConfig) -> str | None:
    """ISO date of the newest quarter start whose rows can be split and whose test span is labelled.

    Else the newest that can be split with a labelled test row, else the newest with one; None when no quarter has any.

    `dates`: snapshot_date, label_end_date (NaT when unknown), pattern_id and `known` (bool) of every snapshot.
    """
    snapshot, end = dates["snapshot_date"], dates["label_end_date"].where(dates["known"])
    reach = max(snapshot.max(), end.max()) if end.notna().any() else snapshot.max()
    partly: list[tuple[bool, str]] = []
    for quarter in sorted(pd.date_range(snapshot.min(), snapshot.max(), freq="QS-JAN"), reverse=True):
        stop = quarter + pd.DateOffset(months=config.test_months)
        in_test = (snapshot >= quarter) & (snapshot < stop)
        if not (in_test & end.notna()).any():
            continue
        whole = reach >= stop - dt.timedelta(days=1) and (in_test & end.notna()).sum() >= ENOUGH * in_test.sum()
        begin = quarter - pd.DateOffset(months=config.validation_months)
        limit = begin - pd.Timedelta(days=config.embargo_days)
        train = (snapshot < begin) & (end < limit)
        if config.train_years:
            train &= snapshot >= begin - pd.DateOffset(years=config.train_years)
        in_train = dates["pattern_id"].isin(dates.loc[train, "pattern_id"])
        validation = (snapshot >= begin) & (snapshot < quarter) & (end < quarter) & ~in_train
        splittable = train.sum() >= config.min_train_rows and validation.sum() >= config.min_validation_rows
        if splittable and whole:
            return str(quarter.date())
        partly.append((bool(splittable), str(quarter.date())))
    return max(partly)[1] if partly else None
