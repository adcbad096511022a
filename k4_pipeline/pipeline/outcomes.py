"""What became of the signals that were given: ledger rows with the race label that is known by now.

Prices in the ledger are those of its night. A later split rescales a ticker's history, so the box is taken again from
the bars of the pattern (start bar to activation bar) before the race is run; the levels as they were said stay in the
ledger beside it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS, PipelineConfig
from k4_pipeline.evaluation import ledger as prediction_ledger
from k4_pipeline.market.bars import Bars, to_days
from k4_pipeline.patterns import labels
from k4_pipeline.patterns.boundaries import boundary_reasons


def label_ledger(bars: Bars, ledger: pd.DataFrame, config: PipelineConfig) -> pd.DataFrame:
    """One row per snapshot of the ledger that still has its bars: KEYS, outcome_class, label_end_date, censored.

    A snapshot whose bars are gone (another source, a restated history) is left out.
    """
    asked = ledger.drop_duplicates(KEYS)[[*KEYS, "bars_active"]].reset_index(drop=True)
    last = bars.locate(asked["ticker"], to_days(asked["snapshot_date"].to_numpy()))
    first = bars.locate(asked["ticker"], to_days(asked["start_date"].to_numpy()))
    there = (last >= 0) & (first >= 0) & (last - asked["bars_active"].to_numpy() >= first)
    asked, first, last = asked[there].reset_index(drop=True), first[there], last[there]
    activation = last - asked["bars_active"].to_numpy(dtype=np.int64)
    upper = np.array([bars.high[a : b + 1].max() for a, b in zip(first, activation)], dtype=np.float64)
    lower = np.array([bars.low[a : b + 1].min() for a, b in zip(first, activation)], dtype=np.float64)
    boxes = asked[KEYS].assign(upper=upper, lower=lower, power=upper * config.patterns.power_factor)
    usable = boundary_reasons(upper, lower, boxes["power"].to_numpy()) == ""
    labelled = labels.label_snapshots(
        bars, boxes[usable], config.labels, default_exchange=config.cleaning.default_exchange
    )
    return labelled[[*KEYS, "outcome_class", "label_end_date", "censored"]]


def matured_ledger(bars: Bars, ledger: pd.DataFrame, config: PipelineConfig) -> pd.DataFrame:
    """The ledger rows whose label is known on the last day of the bars, with outcome and value."""
    if ledger.empty:
        return ledger.assign(outcome_class=pd.Series(dtype="int64"), value=pd.Series(dtype="float64"))
    day_after = pd.Timestamp(np.datetime64(int(bars.last_day), "D")) + pd.Timedelta(days=1)
    return prediction_ledger.matured(ledger, label_ledger(bars, ledger, config), day_after)
