"""Whether the nights since the last full run add up to what a full run makes of the same source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.market.bars import Bars
from k4_pipeline.market.newer import COLUMNS
from k4_pipeline.pipeline.stored_bars import bars_of, bars_of_tonight
from k4_pipeline.storage import ArtifactStore, read_parquet


@dataclass(frozen=True, eq=False)
class Before:
    """Bars and signals as the nights left them."""

    bars: Bars
    signals: pd.DataFrame
    night: str
    champion: str


def remember(store: ArtifactStore) -> Before | None:
    """What is there before a full run replaces it; None when there is nothing to compare with."""
    try:
        signals = store.current("signals")
        table = read_parquet(signals.path("signals.parquet"))
        try:
            bars = bars_of_tonight(store)
        except StaleArtifactError:  # tonight's addition did not pass its checks
            bars = bars_of(store.current("daily_bars"), None)
        return Before(bars, table, signals.meta["night"], signals.inputs["champion_model"])
    except StaleArtifactError:
        return None


def differences(store: ArtifactStore, before: Before) -> list[str]:
    """Sentences about bars up to the night before that the full run reads otherwise, and about signals of the same
    night and champion that differ although their bars do not; empty when the nights add up to the full run.
    """
    now = bars_of_tonight(store)
    known = now.until(before.bars.last_day)
    restated = changed_tickers(before.bars, known)
    found = [f"{t}: its bars differ from those added night by night (the source restated them)" for t in restated]
    signals = store.current("signals")
    if (signals.meta["night"], signals.inputs["champion_model"]) != (before.night, before.champion):
        return found
    table = read_parquet(signals.path("signals.parquet"))
    if not restated and not table.equals(before.signals):
        found.append(f"the signals of {before.night} differ from those computed from new bars alone")
    return found


def changed_tickers(a: Bars, b: Bars) -> list[str]:
    """Tickers that are in one of them only, or whose bars differ."""
    mine, other = {str(t) for t in a.tickers}, {str(t) for t in b.tickers}
    out = sorted(mine ^ other)
    for ticker in sorted(mine & other):
        x, y = a.ticker_slice(ticker), b.ticker_slice(ticker)
        if not all(np.array_equal(getattr(a, c)[x], getattr(b, c)[y]) for c in COLUMNS):
            out.append(ticker)
    return sorted(out)
