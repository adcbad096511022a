"""The table of today's signals: what is open, what the champion thinks of it, the levels to watch, what speaks
against it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS, SIGNAL_NAMES
from k4_pipeline.evaluation.predict_table import CERTIFIED_SCORE, PROBABILITY_COLUMNS
from k4_pipeline.evaluation.screen import SCREEN_COLUMNS

AVOID = SIGNAL_NAMES[-1]
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
    "stop",
    "bars_active",
    "champion_as_of",
    "refused",
    *SCREEN_COLUMNS,
)


def signal_rows(
    open_now: pd.DataFrame, scored: pd.DataFrame, champion_as_of: str, *, stop_loss: float, beside: pd.DataFrame
) -> pd.DataFrame:
    """`SIGNAL_COLUMNS` for every open snapshot, best expected value first; ties by ticker.

    `beside` holds KEYS, `refused` (why the row is too far outside, "" where it is not) and `SCREEN_COLUMNS`. A refused
    row is AVOID, whatever its probabilities say; they are kept, so that what was refused can be judged later.
    """
    levels = open_now[[*KEYS, "upper", "lower", "power", "bars_active"]]
    table = scored.merge(levels, on=KEYS, how="left", validate="1:1").merge(beside, on=KEYS, how="left", validate="1:1")
    refused = (table["refused"] != "").to_numpy()
    for column in ("signal", "tier"):
        table[column] = pd.Series(np.where(refused, AVOID, table[column]), index=table.index, dtype="str")
    table["stop"] = table["lower"] * (1.0 - stop_loss)
    table["champion_as_of"] = pd.Series(champion_as_of, index=table.index, dtype="str")
    table = table.sort_values(["ev", "ticker"], ascending=[False, True], kind="stable")
    return table[list(SIGNAL_COLUMNS)].reset_index(drop=True)
