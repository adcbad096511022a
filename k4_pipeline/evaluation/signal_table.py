"""The table of today's signals: what is open, what the champion thinks of it, and the levels to watch."""

from __future__ import annotations

import pandas as pd

from k4_pipeline.config import KEYS
from k4_pipeline.evaluation.predict_table import CERTIFIED_SCORE, PROBABILITY_COLUMNS

SIGNAL_COLUMNS = (
    "ticker",
    "pattern_id",
    "start_date",
    "snapshot_date",
    "signal",
    CERTIFIED_SCORE,
    "tier",
    "ev",
    *PROBABILITY_COLUMNS,
    "upper",
    "lower",
    "power",
    "bars_active",
    "champion_as_of",
)


def signal_rows(open_now: pd.DataFrame, scored: pd.DataFrame, champion_as_of: str) -> pd.DataFrame:
    """`SIGNAL_COLUMNS` for every open snapshot, best expected value first; ties by ticker."""
    levels = open_now[[*KEYS, "upper", "lower", "power", "bars_active"]]
    table = scored.merge(levels, on=KEYS, how="left", validate="1:1")
    table["champion_as_of"] = pd.Series(champion_as_of, index=table.index, dtype="str")
    table = table.sort_values(["ev", "ticker"], ascending=[False, True], kind="stable")
    return table[list(SIGNAL_COLUMNS)].reset_index(drop=True)
