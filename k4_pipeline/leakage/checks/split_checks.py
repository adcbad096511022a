"""Checks of membership: spans, purge and embargo recomputed from dates and from bars, nothing in two members."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd

from k4_pipeline.config import EXCLUDED, KEYS
from k4_pipeline.leakage.checks.duplicates import near_duplicates
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison, compare_tables, key_text, shown
from k4_pipeline.leakage.oracles.labels import oracle_labels
from k4_pipeline.leakage.oracles.membership import ORDER, months_before, oracle_membership
from k4_pipeline.market.bars import Bars
from k4_pipeline.verdict import Verdict


def _train_row_into_test(context: AuditContext) -> AuditContext:
    split = context.full.split.copy()  # type: ignore[union-attr]
    split.loc[split.index[split["split"] == "train"][-1], "split"] = "test"
    return context.with_full(split=split)


def _late_row_into_train(context: AuditContext) -> AuditContext:
    split = context.full.split.copy()  # type: ignore[union-attr]
    at = split.index[split["reason"].isin(["label_not_known_before_validation", "label_not_known_at_as_of"])][0]
    split.loc[at, ["split", "reason"]] = ["train", ""]
    return context.with_full(split=split)


def _row_twice(context: AuditContext) -> AuditContext:
    split = context.full.split
    assert split is not None
    twice = split[split["split"] == "train"].tail(1)
    return context.with_full(split=pd.concat([split, twice], ignore_index=True))


@check(
    "split",
    proves="Membership of every row, recomputed from the labelled snapshots by a second implementation; every labelled "
    "row stands in the split once, with its own class and label_end_date.",
    misses="Labels that are wrong themselves (the label checks look at those).",
    needs=("split",),
    corruptions=(_train_row_into_test, _late_row_into_train, _row_twice),
)
def membership_follows_from_dates_alone(context: AuditContext) -> Verdict:
    """Assign every row again, by key."""
    full, split = context.full, context.full.split
    assert split is not None
    expected = full.labeled[[*KEYS, "pattern_id", "label_end_date", "outcome_class"]].copy()
    as_of = dt.date.fromisoformat(str(full.as_of))
    expected["split"] = pd.Series(oracle_membership(full.labeled, as_of, context.config.split), dtype="str")
    out = compare_tables(
        "dataset_split",
        split.reset_index(drop=True),
        expected.reset_index(drop=True),
        KEYS,
        ["pattern_id", "label_end_date", "outcome_class", "split"],
        when="assigned again from dates",
        cause="membership is decided by something else than dates, or rows were added, dropped or relabelled",
    )
    weight = split["weight"].to_numpy(dtype=np.float64)
    if not context.config.split.weight_by_uniqueness:
        odd = weight != 1.0
        out.add(len(weight), int(odd.sum()), [f"dataset_split: {int(odd.sum())} weights are not 1"] * bool(odd.any()))
    return verdict_of(out)


@check(
    "split",
    proves="Label windows raced again from bars: train ends before validation minus the embargo, validation before "
    "as_of, no window of a member reaches a later member's snapshot of the same ticker (closed intervals).",
    misses="Windows of two tickers that are the same company under unlike prices.",
    needs=("split",),
    corruptions=(_train_row_into_test, _late_row_into_train),
)
def purge_margins_hold_when_recomputed_from_bars(context: AuditContext) -> Verdict:
    """Recompute the label end of every fitted row from bars and measure the margins."""
    name = "purge_margins_hold_when_recomputed_from_bars"
    full, split, config = context.full, context.full.split, context.config
    assert split is not None
    fitted = split[split["split"].isin(["train", "validation"])]
    count = context.sample.label_rows
    if count is not None and count < len(fitted):
        # The rows whose windows end last in each member are the ones that could cross a border.
        parts = [p.nlargest(count // 2, "label_end_date") for _, p in fitted.groupby("split")]
        fitted = pd.concat(parts)
    boxes = fitted.merge(full.snapshots[[*KEYS, "upper", "lower"]], on=KEYS, how="left", validate="m:1")
    out = Comparison()
    boxes = boxes[boxes["upper"].notna()].reset_index(drop=True)
    labels = oracle_labels(full.bars, boxes, config.labels, config.cleaning.default_exchange)
    far = pd.Timestamp.max
    ends = pd.Series([far if x.known_on is None else pd.Timestamp(x.known_on, unit="D") for x in labels])
    as_of = pd.Timestamp(str(full.as_of))
    start = pd.Timestamp(months_before(as_of.date(), config.split.validation_months))
    limit = start - pd.Timedelta(days=config.split.embargo_days)
    bound = boxes["split"].map({"train": limit, "validation": as_of})
    late = (ends >= bound).to_numpy()
    out.add(
        len(boxes),
        int(late.sum()),
        (
            f"dataset_split: {key_text(boxes.iloc[i], KEYS)} in {boxes['split'].iloc[i]}: from bars its label is known "
            f"on {shown(ends.iloc[i]) if ends.iloc[i] != far else 'no date'}, allowed is before "
            f"{bound.iloc[i].date()}; "
            "purge or embargo is too short"
            for i in np.flatnonzero(late)
        ),
    )
    members = split[split["split"] != EXCLUDED]
    last_end = boxes.assign(end=ends).groupby(["ticker", "split"])["end"].max()
    first = members.groupby(["ticker", "split"])["snapshot_date"].min()
    pairs = 0
    for (ticker, member), end in last_end.items():
        for later in ORDER[ORDER.index(member) + 1 :]:
            begins = first.get((ticker, later))
            if begins is None:
                continue
            pairs += 1
            if end >= begins:
                out.add(
                    0,
                    1,
                    [f"dataset_split: {ticker}: a {member} label runs to {shown(end)}, {later} begins {shown(begins)}"],
                )
    out.add(pairs, 0)
    margins = {
        f"{member}_margin_days": int(
            (bound[boxes["split"] == member].iloc[0] - ends[boxes["split"] == member].max()).days
        )
        for member in ("train", "validation")
        if (boxes["split"] == member).any()
    }
    return Verdict.of(name, out.cases, out.findings, rows=len(boxes), pairs=pairs, **margins)


def _pattern_into_two(context: AuditContext) -> AuditContext:
    split = context.full.split.copy()  # type: ignore[union-attr]
    sizes = split[split["split"] == "train"].groupby("pattern_id").size()
    pattern = sizes.index[sizes > 1][0]
    split.loc[split.index[split["pattern_id"] == pattern][-1], "split"] = "test"
    return context.with_full(split=split)


def _unlabelled_into_train(context: AuditContext) -> AuditContext:
    split = context.full.split.copy()  # type: ignore[union-attr]
    at = split.index[split["split"] == "train"][0]
    split.loc[at, "outcome_class"] = pd.NA
    return context.with_full(split=split)


@check(
    "split",
    proves="No pattern, by id or by ticker and start date, lies in two members; no row is duplicated in any table; "
    "every train and validation row has a known label.",
    misses="One company under two tickers; the duplicate check looks at that.",
    needs=("split",),
    corruptions=(_pattern_into_two, _unlabelled_into_train, _row_twice),
)
def nothing_lies_in_two_members(context: AuditContext) -> Verdict:
    """Patterns, rows and unknown labels."""
    full, split = context.full, context.full.split
    assert split is not None
    out = Comparison()
    members = split[split["split"] != EXCLUDED]
    for key in (["pattern_id"], ["ticker", "start_date"]):
        count = members.groupby(key)["split"].nunique()
        several = count[count > 1]
        out.add(
            len(count),
            len(several),
            (f"dataset_split: pattern {shown(index)} lies in {n} members" for index, n in several.head(5).items()),
        )
    tables = {
        "snapshots": full.snapshots,
        "labeled_snapshots": full.labeled,
        "sequences": full.sequences,
        "dataset_split": split,
    }
    for name, table in tables.items():
        twice = table.duplicated(KEYS)
        out.add(
            len(table),
            int(twice.sum()),
            (f"{name}: {key_text(r, KEYS)} is duplicated" for _, r in table[twice].head(5).iterrows()),
        )
    fitted = split[split["split"].isin(["train", "validation"])]
    unknown = fitted["outcome_class"].isna() | fitted["label_end_date"].isna()
    out.add(
        len(fitted),
        int(unknown.sum()),
        (
            f"dataset_split: {key_text(r, KEYS)} is in {r['split']} without a known label"
            for _, r in fitted[unknown].head(5).iterrows()
        ),
    )
    return verdict_of(out)


def _copied_ticker(context: AuditContext) -> AuditContext:
    """A ticker that is fitted on holds the bars of one that is tested."""
    full, split = context.full, context.full.split
    assert split is not None
    bars = full.bars
    fitted = sorted(set(split.loc[split["split"].isin(["train", "validation"]), "ticker"].astype(object)))
    tested = set(split.loc[split["split"] == "test", "ticker"].astype(object))
    length = dict(zip(bars.tickers, np.diff(bars.offsets)))
    b = max(sorted(tested), key=lambda t: length[t])
    a = next(t for t in fitted if t != b)
    frame = bars.to_frame()
    copy = frame[frame["ticker"] == b].assign(ticker=a)
    made = pd.concat([frame[frame["ticker"] != a], copy]).astype({"ticker": "str"}).sort_values(["ticker", "date"])
    return context.with_full(bars=Bars.from_frame(made.reset_index(drop=True)))


@check(
    "split",
    proves="No ticker with test rows moves like another ticker with train or validation rows (daily returns "
    "correlated above the limit over 60 common bars or more): renamed listings, share classes, copies.",
    misses="Companies that are the same but trade differently.",
    needs=("split",),
    corruptions=(_copied_ticker,),
)
def no_ticker_is_tested_under_another_name(context: AuditContext) -> Verdict:
    """Correlate the daily returns of all pairs across members."""
    name = "no_ticker_is_tested_under_another_name"
    split, bars = context.full.split, context.full.bars
    assert split is not None
    fitted = set(split.loc[split["split"].isin(["train", "validation"]), "ticker"].astype(object))
    tested = set(split.loc[split["split"] == "test", "ticker"].astype(object))
    limit = context.config.integrity.duplicate_return_correlation
    found, pairs = near_duplicates(bars, sorted(fitted | tested), limit)
    lines = [
        f"daily_bars: {a} and {b}: returns correlated {r:.5f} over {n} common bars, one is fitted on and the other "
        "tested; they are one listing under two names: drop one of them"
        for a, b, r, n in found
        if (a in fitted and b in tested) or (b in fitted and a in tested)
    ]
    # A universe of one ticker has no pair: that there is but one name is what was looked at.
    cases = pairs or int(len(fitted | tested) == 1)
    return Verdict.of(name, cases, lines, limit=limit, tickers=len(fitted | tested))
