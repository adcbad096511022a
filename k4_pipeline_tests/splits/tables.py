"""Labelled snapshot tables made by hand or at random, for the tests of splits."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from k4_pipeline.config import SplitConfig

SMALL = SplitConfig(min_train_rows=1, min_validation_rows=1)
ORIGIN = np.datetime64("2012-01-02")


def labeled_table(rows: list[tuple]) -> pd.DataFrame:
    """From (ticker, start, snapshot, label_end or None, class or None), dates as ISO strings; sorted by key."""
    frame = pd.DataFrame(rows, columns=["ticker", "start_date", "snapshot_date", "label_end_date", "outcome_class"])
    for column in ("start_date", "snapshot_date", "label_end_date"):
        frame[column] = pd.to_datetime(frame[column]).astype("datetime64[us]")
    frame["ticker"] = frame["ticker"].astype("str")
    frame["outcome_class"] = frame["outcome_class"].astype("Int8")
    frame["pattern_id"] = (frame["ticker"] + "|" + frame["start_date"].dt.strftime("%Y-%m-%d")).astype("str")
    columns = ["ticker", "pattern_id", "start_date", "snapshot_date", "label_end_date", "outcome_class"]
    return frame.sort_values(["ticker", "start_date", "snapshot_date"])[columns].reset_index(drop=True)


@st.composite
def labeled_tables(draw: st.DrawFn, min_patterns: int = 12, max_patterns: int = 60) -> pd.DataFrame:
    """Up to six years of patterns of a few tickers, with short and long label windows, some of them not known."""
    seed = draw(st.integers(0, 2**32 - 1))
    n = draw(st.integers(min_patterns, max_patterns))
    horizon = draw(st.sampled_from([5, 45, 150]))
    spread = draw(st.sampled_from([10, 130]))  # long patterns reach over every boundary
    rng = np.random.default_rng(seed)
    rows = []
    for start in rng.choice(6 * 365, size=n, replace=False):
        ticker = f"T{rng.integers(4)}"
        for offset in np.unique(rng.integers(9, 10 + spread, size=rng.integers(1, 8))):
            snapshot = int(start) + int(offset)
            end = snapshot + int(rng.integers(1, horizon + 1))
            known = rng.random() < 0.9
            rows.append(
                (
                    ticker,
                    str(ORIGIN + int(start)),
                    str(ORIGIN + snapshot),
                    str(ORIGIN + end) if known else None,
                    int(rng.integers(6)) if known else None,
                )
            )
    return labeled_table(rows).drop_duplicates(["pattern_id", "snapshot_date"]).reset_index(drop=True)


def weekly_table(tickers: int = 3, first: str = "2010-01-04", weeks: int = 420, label_days: int = 140) -> pd.DataFrame:
    """One snapshot per ticker and week, a new pattern every four weeks, labels known after `label_days`; no gaps."""
    rows = []
    last = np.datetime64(first) + 7 * (weeks - 1)
    for t in range(tickers):
        for week in range(weeks):
            snapshot = np.datetime64(first) + 7 * week + t
            start = np.datetime64(first) + 28 * (week // 4) - 20 + t
            end = snapshot + label_days
            known = end <= last
            rows.append((f"T{t}", str(start), str(snapshot), str(end) if known else None, week % 6 if known else None))
    return labeled_table(rows)
