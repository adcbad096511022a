"""Statistical signs of a leak: inputs that know the next bars or the label better than honest ones can.

These limits lie far above anything daily bars allow, so that they never fire on chance; the replays are the proof, this
is the tripwire for what they cannot see (a value that was wrong in the source already).
"""

from __future__ import annotations

import numpy as np

from k4_pipeline.config import K4, KEYS
from k4_pipeline.evaluation.weighted import mid_ranks
from k4_pipeline.features.spec import FEATURE_NAMES
from k4_pipeline.leakage.engine.audit import AuditContext, check
from k4_pipeline.leakage.engine.compare import Comparison, shown
from k4_pipeline.leakage.oracles import metrics as metrics_oracle
from k4_pipeline.verdict import Verdict

NEXT_BAR_LIMIT = 0.35  # rank correlation of one channel with the return of the next bar
NEXT_BARS_LIMIT = 0.65  # and with that of the next 20 bars, whose windows overlap
AUC_LIMIT = 0.97  # of one channel for K4 against the rest
MIN_ROWS, MIN_K4, MIN_TICKERS = 200, 10, 8
HORIZONS = (1, 20)


def forward_returns(context: AuditContext, bars_ahead: int) -> np.ndarray:
    """Log return of each sequence over the bars after its snapshot, (n,); NaN where the history ends before."""
    bars, end = context.full.bars, context.full.sequences["end_row"].to_numpy()
    stop = bars.offsets[np.searchsorted(bars.offsets, end, side="right")]
    there = end + bars_ahead < stop
    out = np.full(len(end), np.nan)
    out[there] = np.log(bars.close[end[there] + bars_ahead] / bars.close[end[there]])
    return out


def _plant(context: AuditContext, values: np.ndarray, channel: int = 55) -> AuditContext:
    """Write `values` (n,) of each sequence into an invariant channel of its last bar."""
    from k4_pipeline.features.spec import MARKET_COLUMN

    panel = np.array(context.full.panel)
    column = MARKET_COLUMN[FEATURE_NAMES[channel]]
    panel[context.full.sequences["end_row"].to_numpy(), column] = np.nan_to_num(values).astype(np.float32)
    return context.with_full(panel=panel)


def _next_return(context: AuditContext) -> AuditContext:
    return _plant(context, np.abs(forward_returns(context, 1) + 0.2) * 0.1)


def _class_copy(context: AuditContext) -> AuditContext:
    return _plant(context, context.full.labeled["outcome_class"].fillna(0).to_numpy(dtype=np.float64) * 0.01)


@check(
    "signs",
    proves="No single input channel at the snapshot bar ranks the next returns or K4 better than any honest channel "
    "could, and none is a copy of the class.",
    misses="Weak leaks, and leaks spread over several channels or bars.",
    needs=("fitted",),
    corruptions=(_next_return, _class_copy),
)
def no_channel_knows_the_outcome(context: AuditContext) -> Verdict:
    """Rank correlations with later returns, AUC for K4, and copies of the class, channel by channel."""
    name = "no_channel_knows_the_outcome"
    full, out = context.full, Comparison()
    rows = np.arange(len(full.sequences))
    if len(rows) > 20_000:
        rows = np.sort(context.rng(13).choice(rows, 20_000, replace=False))
    z = full.inputs(rows)[0][:, -1, :]
    labels = full.sequences.iloc[rows][KEYS].merge(
        full.labeled[[*KEYS, "outcome_class"]], on=KEYS, how="left", validate="1:1"
    )
    known = labels["outcome_class"].notna().to_numpy()
    y = labels["outcome_class"].fillna(-1).to_numpy(dtype=np.int64)
    tickers = full.sequences["ticker"].to_numpy(dtype=object)[rows]
    varies = z.std(axis=0) > 0
    ranks = {c: mid_ranks(z[:, c]) for c in np.flatnonzero(varies)}
    worst: dict[str, float] = {}
    for ahead, limit in zip(HORIZONS, (NEXT_BAR_LIMIT, NEXT_BARS_LIMIT)):
        later = forward_returns(context, ahead)[rows]
        use = np.isfinite(later)
        if use.sum() < MIN_ROWS or len(set(tickers[use])) < MIN_TICKERS:
            continue
        target = mid_ranks(later[use])
        for c, rank in ranks.items():
            mine = rank[use]
            r = float(np.corrcoef(mine, target)[0, 1]) if mine.std() > 0 and target.std() > 0 else 0.0
            worst[f"return_{ahead}"] = max(worst.get(f"return_{ahead}", 0.0), abs(r))
            text = (
                f"model inputs: {FEATURE_NAMES[c]} has rank correlation {r:.3f} with the return of the next "
                f"{ahead} bars"
            )
            out.add(
                int(use.sum()), int(abs(r) > limit), [f"{text} (limit {limit}); it holds later bars"] * (abs(r) > limit)
            )
    k4 = known & (y == K4)
    if k4.sum() >= MIN_K4 and len(set(tickers[k4])) >= MIN_TICKERS:
        for c in ranks:
            a = metrics_oracle.auc(z[known, c], y[known] == K4)
            worst["auc"] = max(worst.get("auc", 0.5), a, 1 - a)
            bad = max(a, 1 - a) > AUC_LIMIT
            text = f"model inputs: {FEATURE_NAMES[c]} alone has a K4 AUC of {max(a, 1 - a):.3f} (limit {AUC_LIMIT})"
            out.add(int(known.sum()), int(bad), [text + "; it holds the outcome"] * bad)
    if known.sum() >= MIN_ROWS and len(np.unique(y[known])) >= 3:
        for c in ranks:
            values, codes = np.unique(z[known, c], return_inverse=True)
            if len(values) > 12:
                continue
            # A copy: every value of the channel belongs to one class, and more than one class is told apart.
            table = np.zeros((len(values), 6), dtype=int)
            np.add.at(table, (codes, y[known]), 1)
            pure = float(table.max(axis=1).sum() / table.sum())
            told = len(set(table.argmax(axis=1)))
            bad = pure > 0.995 and told >= 3
            text = (
                f"model inputs: {FEATURE_NAMES[c]} takes {len(values)} values that tell {told} classes apart "
                f"({shown(pure)})"
            )
            out.add(int(known.sum()), int(bad), [text + "; it is a copy of the label"] * bad)
    return Verdict.of(name, out.cases, out.findings, rows=len(rows), **{k: round(v, 3) for k, v in worst.items()})
