"""A snapshot file made elsewhere, against what was taken over: read a second time, placed on the bars a second time."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS, N_CLASSES
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison
from k4_pipeline.leakage.oracles.reader import as_sent
from k4_pipeline.leakage.oracles.snapshot_file import LEVELS, read_snapshots_plainly
from k4_pipeline.verdict import Verdict

TOLERANCE = 1e-12  # relative; text is parsed by two readers
HISTORY = 20  # bars up to a snapshot that a sequence needs
_KEY = ["ticker", "start", "snapshot"]


def _stored(context: AuditContext) -> pd.DataFrame:
    """The stored snapshots by the names and days of the file, with their classes."""
    table = context.full.snapshots.merge(
        context.full.labeled[[*KEYS, "outcome_class"]], on=KEYS, how="left", validate="1:1"
    )
    days = {c: table[f"{c}_date"].dt.strftime("%Y-%m-%d").astype(object) for c in ("start", "activation", "snapshot")}
    return table.assign(listing=table["ticker"].astype(object), ticker=as_sent(table["ticker"]), **days)


def _levels_of_bars(context: AuditContext, rows: pd.DataFrame) -> pd.DataFrame:
    """Highest high, lowest low and their power level over the bars start..activation, bar by bar."""
    bars, out = context.full.bars, []
    code = {str(t): i for i, t in enumerate(bars.tickers)}
    for row in rows.itertuples():
        first, stop = bars.offsets[code[str(row.listing)] : code[str(row.listing)] + 2]
        days = bars.date[first:stop]
        at = [int(np.datetime64(str(d), "D").astype(np.int64)) for d in (row.start, row.activation)]
        window = slice(int(first + np.searchsorted(days, at[0])), int(first + np.searchsorted(days, at[1])) + 1)
        out.append((float(bars.high[window].max()), float(bars.low[window].min())))
    made = pd.DataFrame(out, columns=["upper", "lower"], index=rows.index)
    return made.assign(power=made["upper"] * context.config.patterns.power_factor)


def _sent(context: AuditContext) -> pd.DataFrame:
    """The rows of the file (or those of a self-test)."""
    sent = context.extra.get("snapshots sent")
    return read_snapshots_plainly(context.config.source.snapshots_path) if sent is None else sent


def _beside_an_unread_row(context: AuditContext) -> AuditContext:
    """A stored row has none in the file, which holds a row of another ticker with a date that is not read."""
    sent, stored = _sent(context), _stored(context)
    gone = [(sent[c] == stored[c].iloc[0]).to_numpy() for c in ("start", "snapshot")]
    unread = pd.DataFrame([{**sent.iloc[0].to_dict(), "ticker": "!", "start": ""}])
    others = sent[~(gone[0] & gone[1] & as_sent(sent["ticker"]).isin([stored["ticker"].iloc[0]]).to_numpy())]
    return dataclasses.replace(
        context, extra={**context.extra, "snapshots sent": pd.concat([others, unread], ignore_index=True)}
    )


def _lost_class(context: AuditContext) -> AuditContext:
    """The first known class is lost, and its date with it."""
    labeled = context.full.labeled.copy()
    at = labeled.index[labeled["outcome_class"].notna() & ~labeled["censored"].astype(bool)][0]
    labeled.loc[at, "outcome_class"], labeled.loc[at, "label_end_date"] = pd.NA, pd.NaT
    return context.with_full(labeled=labeled)


def _nudged_level(context: AuditContext) -> AuditContext:
    made = context.full.snapshots.copy()
    made.loc[made.index[-1], "lower"] *= 1 - 1e-10
    return context.with_full(snapshots=made)


def _other_class(context: AuditContext) -> AuditContext:
    """Another class, where the file gives classes; else another level."""
    if read_snapshots_plainly(context.config.source.snapshots_path)["outcome"].isna().all():
        return _nudged_level(context)
    labeled = context.full.labeled.copy()
    at = labeled.index[labeled["outcome_class"].notna()][-1]
    labeled.loc[at, "outcome_class"] = (int(labeled.loc[at, "outcome_class"]) + 1) % N_CLASSES
    return context.with_full(labeled=labeled)


def _one_row_less(context: AuditContext) -> AuditContext:
    return context.with_full(snapshots=context.full.snapshots.iloc[:-1].reset_index(drop=True))


def _one_activation_later(context: AuditContext) -> AuditContext:
    made = context.full.snapshots.copy()
    made.loc[made.index[0], "activation_date"] += pd.Timedelta(days=1)
    return context.with_full(snapshots=made)


@check(
    "snapshots",
    proves="Every stored snapshot is a row of the snapshot file, by a second reader: with its dates, its levels (or "
    "those of the bars up to activation where the file gives none) and its class, which no row lacks whose label "
    "window is over; every row of the file beyond doubt is stored.",
    misses="Rows whose dates are not written year-month-day; what the maker of the file knew.",
    needs=("snapshot file",),
    reads_files=True,
    corruptions=(
        _nudged_level,
        _one_row_less,
        _one_activation_later,
        _other_class,
        _lost_class,
        _beside_an_unread_row,
    ),
)
def snapshots_are_those_of_a_plain_reader_of_the_file(context: AuditContext) -> Verdict:
    """Read the snapshot file with pandas alone."""
    out, config, full = Comparison(), context.config, context.full
    sent = _sent(context)
    stored = _stored(context)
    readable = sent[(sent["start"] != "") & (sent["snapshot"] != "")]
    once = readable[~readable.duplicated(_KEY, keep=False) & ~readable["odd"]]
    again = readable.drop_duplicates([*_KEY, "activation", *LEVELS, "outcome"])  # repeated rows say the same once
    # A file names a ticker that was used again as it was sent, or by its listing.
    names = {*stored["listing"], *stored["ticker"]}
    again = again.assign(ticker=as_sent(again["ticker"]).where(again["ticker"].isin(names), again["ticker"]))
    both = stored.merge(again, on=_KEY, how="left", suffixes=("", "_sent"), indicator=True)
    lone = both["_merge"] == "left_only"
    left = sent[(sent["start"] == "") | (sent["snapshot"] == "")]
    invented = _without_row(both[lone], left.assign(ticker=as_sent(left["ticker"])))
    lines = (f"snapshots: {r.ticker} {r.start} {r.snapshot}: no row of the file" for r in invented)
    out.add(len(stored), len(invented), lines)
    both = both[~lone]
    lost_class = _lost_classes(context, both)
    why = "no class, though its label window is over"
    lines = (f"snapshots: {r.ticker} {r.snapshot}: {why}" for r in lost_class.itertuples())
    out.add(len(both), len(lost_class), lines)
    if len(both):
        _compare_values(context, both, out)
    days = pd.Series(np.datetime_as_string(full.bars.date.astype("datetime64[D]")), dtype=object)
    listed = pd.DataFrame(
        {
            "ticker": as_sent(pd.Series(np.repeat(full.bars.tickers.astype(str), np.diff(full.bars.offsets)))),
            "day": days,
        }
    )
    number = listed.groupby("ticker").cumcount()
    at = dict(zip(zip(listed["ticker"], listed["day"]), number))
    start, snapshot = ([at.get(k, -1) for k in zip(once["ticker"], once[c])] for c in ("start", "snapshot"))
    first, last = np.array(start, dtype=np.int64), np.array(snapshot, dtype=np.int64)
    given = once["activation"].to_numpy() != ""
    active = np.array([at.get(k, -1) for k in zip(once["ticker"], once["activation"])], dtype=np.int64)
    active = np.where(given, active, first + config.patterns.qualifying_bars - 1)
    sane = (first >= 0) & (active >= first) & (last >= active) & (last + 1 >= HISTORY)
    upper, lower, power = (once[c].to_numpy() for c in LEVELS)
    sane &= (np.isnan(upper) | (upper > 0)) & (np.isnan(lower) | (lower > 0)) & (np.isnan(power) | (power > 0))
    sane &= ~(lower >= upper) & ~(np.isnan(upper) ^ np.isnan(lower))
    lost = once[sane].merge(stored[_KEY], on=_KEY, how="left", indicator=True)
    lost = lost[lost["_merge"] == "left_only"]
    lines = (
        f"snapshots: {r.ticker} {r.start} {r.snapshot}: a sane row of the file is not stored" for r in lost.itertuples()
    )
    out.add(int(sane.sum()), len(lost), lines)
    return verdict_of(out, rows=len(sent), disputed=len(sent) - int(sane.sum()))


def _without_row(lone: pd.DataFrame, unreadable: pd.DataFrame) -> list[Any]:
    """The stored rows that no row of the file can stand for. One with an unread date stands for one stored row of its
    ticker, whose dates are those that it does give."""
    free = [[row.ticker, row.start, row.snapshot] for row in unreadable.itertuples()]
    out = []
    for row in lone.itertuples():
        fits = [f for f in free if f[0] == row.ticker and f[1] in ("", row.start) and f[2] in ("", row.snapshot)]
        if fits:
            free.remove(fits[0])
        else:
            out.append(row)
    return out


def _lost_classes(context: AuditContext, both: pd.DataFrame) -> pd.DataFrame:
    """Stored rows without a class though the bars hold the whole label window of their listing."""
    bars, horizon = context.full.bars, context.config.labels.horizon_bars
    code = {str(t): i for i, t in enumerate(bars.tickers)}
    rows = both[both["outcome_class"].isna()]
    after = []
    for listing, day in zip(rows["listing"].astype(str), rows["snapshot"]):
        first, stop = bars.offsets[code[listing] : code[listing] + 2]
        at = int(np.searchsorted(bars.date[first:stop], int(np.datetime64(day, "D").astype(np.int64)), side="right"))
        after.append(int(stop - first) - at)
    return rows[np.array(after, dtype=np.int64) >= horizon]


def _compare_values(context: AuditContext, both: pd.DataFrame, out: Comparison) -> None:
    """Levels within `TOLERANCE`, activation and class; of rows that the file gives more than once, of one of them."""
    computed = _levels_of_bars(context, both)
    agree = np.ones(len(both), dtype=bool)
    for name in LEVELS:
        sent, stored = both[f"{name}_sent"].to_numpy(), both[name].to_numpy()
        level = computed[name].to_numpy()
        if name == "power":
            level = both["upper"].to_numpy() * context.config.patterns.power_factor
        expected = np.where(np.isnan(sent), level, sent)
        agree &= np.abs(stored - expected) <= TOLERANCE * np.abs(expected)
    given = both["activation_sent"].to_numpy() != ""
    agree &= ~given | (both["activation"] == both["activation_sent"]).to_numpy()
    classes = both["outcome_class"].to_numpy(dtype=np.float64, na_value=np.nan)
    known = ~np.isnan(classes) & ~np.isnan(both["outcome"].to_numpy())
    agree &= ~known | (classes == both["outcome"].to_numpy())
    found = both[_KEY].assign(agree=agree).groupby(_KEY, sort=False)["agree"].any()
    lines = (
        f"snapshots: {' '.join(k)}: levels, activation or class are not those of the file" for k in found[~found].index
    )
    out.add(len(found) * (len(LEVELS) + 2), int((~found).sum()), lines)
