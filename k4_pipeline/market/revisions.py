"""What a source says now about bars it sent before: every version is kept, and each change is listed.

A **version table** holds one row per (ticker, date, ingested_at): what the vendor sent and when it was received. Rows
are only ever added. `as_known` gives the history as it was known at a moment; `compare_history` lists the
differences between two cleaned tables.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import numpy as np
import pandas as pd

KEY = ["ticker", "date"]
COMPARED = ("open", "high", "low", "close", "volume")
# Vendors recompute adjusted prices in single precision: differences below this share are no revision.
RTOL = 1e-6


def _differs(old: pd.Series, new: pd.Series, rtol: float) -> np.ndarray:
    a, b = old.to_numpy(dtype=np.float64), new.to_numpy(dtype=np.float64)
    same = np.isclose(a, b, rtol=rtol, atol=0.0, equal_nan=True)
    return ~same


def changed_rows(
    known: pd.DataFrame, sent: pd.DataFrame, *, columns: Sequence[str] = COMPARED, rtol: float = RTOL
) -> pd.DataFrame:
    """The rows of `sent` that are new or say something else than the row of the same (ticker, date) in `known`.

    Both hold each (ticker, date) once. Extra bool column "is_revision": False for a new date.
    """
    both = sent.merge(
        known[[*KEY, *COMPARED]], on=KEY, how="left", suffixes=("", "_known"), indicator=True, validate="1:1"
    )
    seen = (both["_merge"] == "both").to_numpy()
    other = np.zeros(len(both), dtype=bool)
    for column in columns:
        other |= _differs(both[f"{column}_known"], both[column], rtol)
    out = both.loc[~seen | other, list(sent.columns)].reset_index(drop=True)
    out["is_revision"] = seen[~seen | other]
    return out


def record_versions(
    versions: pd.DataFrame | None, sent: pd.DataFrame, ingested_at: dt.datetime, *, rtol: float = RTOL
) -> pd.DataFrame:
    """The version table with what `sent` adds: rows of new dates, and rows that differ from the newest known version.

    `ingested_at` is a time-zone-aware moment, stored as UTC without a zone. Sorted by (ticker, date, ingested_at).
    """
    stamp = pd.Timestamp(ingested_at).tz_convert("UTC").tz_localize(None).as_unit("us")
    if versions is None or len(versions) == 0:
        fresh = sent.copy()
        fresh["ingested_at"] = stamp
        return fresh.sort_values([*KEY, "ingested_at"], ignore_index=True)
    fresh = changed_rows(as_known(versions), sent, rtol=rtol).drop(columns="is_revision")
    if len(fresh) == 0:
        return versions
    fresh["ingested_at"] = stamp
    return pd.concat([versions, fresh], ignore_index=True).sort_values([*KEY, "ingested_at"], ignore_index=True)


def as_known(versions: pd.DataFrame, at: dt.datetime | None = None) -> pd.DataFrame:
    """One row per (ticker, date): the newest version received until `at` (time-zone-aware; None: until now)."""
    if at is not None:
        stamp = pd.Timestamp(at).tz_convert("UTC").tz_localize(None)
        versions = versions[versions["ingested_at"] <= stamp]
    ordered = versions.sort_values([*KEY, "ingested_at"], kind="stable")
    return ordered.drop_duplicates(KEY, keep="last").drop(columns="ingested_at").reset_index(drop=True)


def _long(pairs: pd.DataFrame, rtol: float) -> pd.DataFrame:
    parts = []
    for column in COMPARED:
        rows = _differs(pairs[f"{column}_old"], pairs[f"{column}_new"], rtol)
        part = pairs.loc[rows, KEY].copy()
        part["column"] = column
        part["old"] = pairs.loc[rows, f"{column}_old"].astype("float64")
        part["new"] = pairs.loc[rows, f"{column}_new"].astype("float64")
        parts.append(part)
    out = pd.concat(parts, ignore_index=True)
    out["column"] = out["column"].astype("str")
    out["ratio"] = out["new"] / out["old"]
    return out.sort_values([*KEY, "column"], ignore_index=True)


def compare_history(old: pd.DataFrame, new: pd.DataFrame, *, rtol: float = RTOL) -> dict[str, pd.DataFrame]:
    """Differences between two `daily_bars` tables over the dates the old one covers, ticker by ticker.

    "changed": ticker, date, column, old, new, ratio. "removed": bars (ticker, date) of the old table the new one lacks.
    "inserted": bars the new one has inside the old one's first..last date of that ticker, where the old one had none.
    Bars after the old last date, and new tickers, are no revision.
    """
    values = [*KEY, *COMPARED]
    both = old[values].merge(
        new[values], on=KEY, how="outer", suffixes=("_old", "_new"), indicator="side", validate="1:1"
    )
    span = old.groupby("ticker", observed=True)["date"].agg(["min", "max"])
    first, last = both["ticker"].map(span["min"]), both["ticker"].map(span["max"])
    within = (both["date"] >= first) & (both["date"] <= last)
    pairs = both[both["side"] == "both"].reset_index(drop=True)
    return {
        "changed": _long(pairs, rtol),
        "removed": both.loc[both["side"] == "left_only", KEY].reset_index(drop=True),
        "inserted": both.loc[(both["side"] == "right_only") & within, KEY].reset_index(drop=True),
    }


def _utc(moment: dt.datetime | None) -> pd.Timestamp:
    return pd.NaT if moment is None else pd.Timestamp(moment).tz_convert("UTC").tz_localize(None).as_unit("us")


LOG_COLUMNS = ("ticker", "date", "kind", "column", "old", "new", "ratio", "known_from", "revised_at")


def revision_log(
    log: pd.DataFrame | None,
    old: pd.DataFrame | None,
    new: pd.DataFrame,
    revised_at: dt.datetime,
    known_from: dt.datetime | None = None,
) -> pd.DataFrame:
    """`log` with what `new` says differently of days that `old` already covered: both values of every change are kept.

    `old` and `new` are `daily_bars` tables, `old` None at the first time. Columns `LOG_COLUMNS`; kind is "changed",
    "removed" or "inserted" (the last two without values); `known_from` and `revised_at`, when the old and the new value
    were ingested (None: not known), are time-zone-aware and stored as UTC without a zone.
    """
    parts = [] if log is None or len(log) == 0 else [log]
    if old is not None:
        since, stamp = _utc(known_from), _utc(revised_at)
        for kind, rows in compare_history(old, new).items():
            if len(rows):
                parts.append(rows.assign(kind=kind, known_from=since, revised_at=stamp))
    if not parts:
        empty = {"ticker": "str", "date": "datetime64[us]", "kind": "str", "column": "str", "old": "float64"}
        empty |= {"new": "float64", "ratio": "float64", "known_from": "datetime64[us]", "revised_at": "datetime64[us]"}
        return pd.DataFrame({name: pd.Series([], dtype=dtype) for name, dtype in empty.items()})
    together = pd.concat(parts, ignore_index=True).reindex(columns=list(LOG_COLUMNS))
    together = together.astype({"ticker": "str", "kind": "str", "column": "str", "known_from": "datetime64[us]"})
    return together.sort_values(["revised_at", "ticker", "date", "kind", "column"], ignore_index=True)


def restated(log: pd.DataFrame, revised_at: dt.datetime) -> list[str]:
    """What the log gained at that moment, in a sentence: stored days of which the source now says otherwise."""
    fresh = log[log["revised_at"] == _utc(revised_at)]
    if not len(fresh):
        return []
    days, first = fresh.drop_duplicates(KEY), fresh.iloc[0]
    said = f"{first['ticker']} of {first['date']:%Y-%m-%d}: {first['kind']}"
    if first["kind"] == "changed":
        said = (
            f"{first['ticker']} of {first['date']:%Y-%m-%d}: {first['column']} {first['old']:g}, now {first['new']:g}"
        )
    return [f"the source restates {len(days)} bars of {days['ticker'].nunique()} tickers already stored, e.g. {said}"]
