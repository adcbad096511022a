"""Checks of the labels: what they say, from which bar on, and from which date they are known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS
from k4_pipeline.leakage.checks.replay_at_cutoffs import LABELS
from k4_pipeline.leakage.engine.audit import AuditContext, check, day_text, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison, compare_tables, key_text, shown
from k4_pipeline.leakage.engine.corruptions import corrupt_label
from k4_pipeline.leakage.oracles.labels import oracle_labels
from k4_pipeline.market.bars import to_dates, to_days
from k4_pipeline.pipeline import stages as production
from k4_pipeline.verdict import Verdict


def _known_a_day_early(context: AuditContext) -> AuditContext:
    labeled = context.full.labeled.copy()
    known = labeled["label_end_date"].notna()
    labeled.loc[known, "label_end_date"] = labeled.loc[known, "label_end_date"] - pd.Timedelta(days=1)
    return context.with_full(labeled=labeled)


def _one_bar_more(context: AuditContext) -> AuditContext:
    labeled = context.full.labeled.copy()
    at = labeled.index[labeled["outcome_class"].notna()][-1]
    labeled.loc[at, "label_bars"] += 1
    return context.with_full(labeled=labeled)


@check(
    "labels",
    proves="Class, label_end_date, censoring and number of bars of every (sampled) label, by a second implementation: "
    "the race starts after the snapshot bar, a bar that reaches both counts as the stop, no label is known too early.",
    misses="A mistake shared by both readings of docs/patterns.md, or in the exchange calendar.",
    needs=("raced",),
    corruptions=(corrupt_label, _known_a_day_early, _one_bar_more),
)
def labels_are_those_of_an_independent_race(context: AuditContext) -> Verdict:
    """Race the sampled snapshots again in plain Python."""
    full, config = context.full, context.config
    rows = full.labeled
    count = context.sample.label_rows
    if count is not None and count < len(rows):
        rows = rows.iloc[np.sort(context.rng(5).choice(len(rows), count, replace=False))]
    # Whose row it is decides its label, not where it stands: boundaries come from the snapshots, by key.
    columns = ["upper", "lower"]
    boxes = rows[KEYS].merge(full.snapshots[[*KEYS, *columns]], on=KEYS, how="left", validate="m:1")
    out = Comparison()
    lost = boxes["upper"].isna().to_numpy()
    out.add(
        len(rows),
        int(lost.sum()),
        (f"labeled_snapshots: {key_text(rows.iloc[i], KEYS)} is no snapshot" for i in np.flatnonzero(lost)),
    )
    rows, boxes = rows[~lost], boxes[~lost]
    expected = oracle_labels(full.bars, boxes, config.labels, config.cleaning.default_exchange)
    ends = np.array([0 if label.known_on is None else label.known_on for label in expected], dtype=np.int32)
    dates = to_dates(ends)
    dates[[label.known_on is None for label in expected]] = np.datetime64("NaT")
    again = rows[KEYS].reset_index(drop=True)
    again["outcome_class"] = pd.array([label.outcome for label in expected], dtype="Int8")
    again["label_end_date"] = dates
    again["censored"] = np.array([label.censored for label in expected], dtype=bool)
    again["label_bars"] = np.array([label.bars for label in expected], dtype=np.int64)
    cause = "the window starts on the snapshot bar, ends elsewhere, uses another box, or the label was changed"
    out.merge(
        compare_tables(
            "labeled_snapshots",
            rows.reset_index(drop=True),
            again,
            KEYS,
            LABELS,
            when="raced again from docs/patterns.md",
            cause=cause,
        )
    )
    early = rows["label_end_date"] <= rows["snapshot_date"]
    out.add(
        len(rows),
        int(early.sum()),
        (
            f"labeled_snapshots: {key_text(r, KEYS)}: known on {shown(r['label_end_date'])}, not after its snapshot"
            for _, r in rows[early].head(5).iterrows()
        ),
    )
    return verdict_of(out, rows=len(rows), of_rows=len(full.labeled))


@check(
    "labels",
    proves="A label appears on its label_end_date, not a session before, with its class, on bars cut at those dates.",
    misses="Labels whose end lies on none of the sampled dates (the oracle covers those).",
    needs=("raced",),
    corruptions=(corrupt_label, _known_a_day_early),
)
def every_label_is_known_on_its_date_and_not_before(context: AuditContext) -> Verdict:
    """Label the snapshots again on bars cut at sampled label ends and at the sessions before them."""
    full, out = context.full, Comparison()
    ends = np.unique(to_days(full.labeled["label_end_date"].dropna()))
    count = min(len(ends), max(4, context.sample.cut_dates))
    chosen = context.rng(6).choice(ends, count, replace=False) if len(ends) else ends
    before = context.sessions[np.maximum(np.searchsorted(context.sessions, chosen) - 1, 0)]
    days = np.unique(np.concatenate([chosen, before]))
    for day in days:
        stamp = pd.Timestamp(to_dates(np.array([day]))[0])
        bars = full.bars.until(int(day))
        past = full.snapshots[full.snapshots["snapshot_date"] <= stamp]
        # A stored snapshot of a ticker without bars by then belongs to the replay of the snapshots, not here.
        past = past[past["ticker"].isin(set(bars.tickers))]
        if not len(past):
            continue
        again = production.label(bars, past, context.config)
        known = full.labeled[full.labeled["label_end_date"] <= stamp]
        out.merge(
            compare_tables(
                "labeled_snapshots",
                known,
                again[again["outcome_class"].notna()],
                KEYS,
                LABELS,
                when=f"bars cut at {day_text(int(day))}",
                cause="the label uses bars after its label_end_date, or is said to be known too early or too late",
            )
        )
    return verdict_of(out, cut_dates=len(days))
