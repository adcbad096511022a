"""`daily_bars` and `rejects`: sane tables pass, each rule has a table that breaks it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.schemas import validate
from k4_pipeline.schemas.daily_bars import DAILY_BARS, daily_bars_schema
from k4_pipeline.schemas.rejects import REJECTS


def _bars() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "ticker": pd.Series(["A", "A", "B"], dtype="str"),
            "date": pd.to_datetime(["2015-01-02", "2015-01-05", "2015-01-02"]).astype("datetime64[us]"),
            "open": [1.0, 2.0, 3.0],
            "high": [1.1, 2.2, 3.3],
            "low": [0.9, 1.8, 2.7],
            "close": [1.0, 2.0, 3.0],
            "volume": [0.0, 10.0, 20.0],
        }
    )


def test_sane_bars_pass():
    assert validate(DAILY_BARS, _bars()) == []


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("open", 0.0, "is_greater_than_0"),
        ("low", -1.0, "is_greater_than_0"),
        ("high", 1.0, "high_is_at_least_low"),
        ("open", 2.5, "open_lies_in_the_range_of_the_bar"),
        ("close", 1.5, "close_lies_in_the_range_of_the_bar"),
        ("volume", -1.0, "is_at_least_0"),
        ("volume", np.nan, "not_nullable"),
        ("high", np.inf, "is_finite"),
    ],
)
def test_a_bad_bar_is_named(column, value, rule):
    frame = _bars()
    frame.loc[1, column] = value
    assert any(rule in v and "A 2015-01-05" in v for v in validate(DAILY_BARS, frame))


def test_the_tolerance_of_the_range_follows_the_cleaning():
    frame = _bars()
    frame.loc[1, "close"] = 2.2 * 1.01
    assert len(validate(DAILY_BARS, frame)) == 1
    assert validate(daily_bars_schema(range_tolerance=0.02), frame) == []


def _rejects() -> pd.DataFrame:
    texts = {
        "ticker": [""],
        "date": ["soon"],
        "reason": ["date is missing or cannot be read"],
        "value": ["soon"],
        "row": ["; soon"],
        "source": ["a.csv"],
    }
    frame = pd.DataFrame({k: pd.Series(v, dtype="str") for k, v in texts.items()})
    for column in ("open", "high", "low", "close", "volume"):
        frame[column] = [np.inf]
    return frame[["ticker", "date", "open", "high", "low", "close", "volume", "reason", "value", "row", "source"]]


def test_rejects_may_hold_anything_but_a_missing_reason():
    assert validate(REJECTS, _rejects()) == []
    assert validate(REJECTS, _rejects().iloc[:0]) == []
    assert len(validate(REJECTS, _rejects().assign(reason=pd.Series([""], dtype="str")))) == 1
