"""Whether the stored snapshots are all there are: an independent scan of the bars finds the same ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS, PatternConfig
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import compare_tables
from k4_pipeline.leakage.engine.corruptions import drop_snapshot
from k4_pipeline.leakage.oracles.scan import is_sampled, scan
from k4_pipeline.market.bars import Bars, to_dates
from k4_pipeline.verdict import Verdict


def _drop_the_last_of_a_pattern(context: AuditContext) -> AuditContext:
    """A snapshot removed as if it had been left out for the bar after it."""
    made = context.full.snapshots
    last = made.groupby("pattern_id", sort=False)["snapshot_date"].idxmax().iloc[-1]
    return context.with_full(snapshots=made.drop(index=last).reset_index(drop=True))


def scanned_again(bars: Bars, tickers: list[str], config: PatternConfig) -> pd.DataFrame:
    """Keys and activation dates of the snapshots of `tickers` by the independent scan, sorted as stored ones are."""
    names, columns = [], {"start_date": [], "activation_date": [], "snapshot_date": []}  # type: ignore[var-annotated]
    for ticker in tickers:
        rows = bars.ticker_slice(ticker)
        day = bars.date[rows]
        for pattern in scan(bars.high[rows], bars.low[rows], bars.close[rows], bars.volume[rows], config):
            for bar in range(pattern.activation, pattern.end):
                if is_sampled(pattern, bar, int(day[bar]), ticker, config):
                    names.append(ticker)
                    for name, at in zip(columns, (pattern.start, pattern.activation, bar)):
                        columns[name].append(day[at])
    dates = {name: to_dates(np.array(values, dtype=np.int32)) for name, values in columns.items()}
    return pd.DataFrame({"ticker": pd.Series(names, dtype="str"), **dates})


@check(
    "snapshots",
    proves="The snapshots (of the sampled tickers) are those of an independent scan of the bars and of the documented "
    "draw: none is missing because of what followed it, none was added.",
    misses="A mistake shared by both readings of docs/patterns.md.",
    needs=("scanned",),
    corruptions=(drop_snapshot, _drop_the_last_of_a_pattern),
)
def snapshots_are_those_of_an_independent_scan(context: AuditContext) -> Verdict:
    """Scan the sampled tickers again in plain Python."""
    full = context.full
    tickers = context.sample_tickers(9)
    known = full.snapshots
    if len(tickers) < full.bars.n_tickers:
        known = known[known["ticker"].isin(set(tickers))].reset_index(drop=True)
    again = scanned_again(full.bars, tickers, context.config.patterns)
    out = compare_tables(
        "snapshots",
        known,
        again,
        KEYS,
        ["activation_date"],
        when="scanned again from docs/patterns.md",
        cause="a snapshot was kept, dropped or moved for another reason than the rules",
    )
    out.add(len(again), 0)
    return verdict_of(out, tickers=len(tickers), of_tickers=full.bars.n_tickers, snapshots=len(again))
