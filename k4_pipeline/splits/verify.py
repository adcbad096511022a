"""Proof that a stored split keeps its promises, recomputed from its rows rather than read from its manifest.

Month arithmetic and comparisons are written here a second time on purpose: only the as-of date and the settings are
taken from the manifest. What this does not catch: labels or label ends that were wrong before the split was made
(pass `labeled` to compare with the stored table; leakage/ recomputes labels from bars), and near-duplicate tickers
under different names.
"""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pandas as pd

from k4_pipeline.config import EXCLUDED, EXCLUSION_REASONS, KEYS, SPLIT_NAMES, SplitConfig
from k4_pipeline.splits.boundaries import SplitBoundaries
from k4_pipeline.splits.manifest import SplitManifest, summarise
from k4_pipeline.splits.walk_forward import SPLIT_COLUMNS, train_weights

Mask: TypeAlias = pd.Series  # a boolean column aligned with the split


def verify_split(split: pd.DataFrame, manifest: SplitManifest, labeled: pd.DataFrame | None = None) -> list[str]:
    """Every violation found, as sentences with the count and the first row; an empty list means none was found.

    `split` is the dataset_split table, `labeled` (optional) the labelled snapshots it must agree with row by row.
    """
    absent = [c for c in SPLIT_COLUMNS if c not in split.columns]
    if absent:
        return [f"the split lacks the columns {', '.join(absent)}"]
    if len(split) == 0:
        return ["the split has no rows: there is no evidence that it is sound"]
    split = split.reset_index(drop=True)
    config = manifest.split_config()
    t = dt.date.fromisoformat(manifest.as_of)
    v = _add_months(t, -config.validation_months)
    found: list[str] = []

    def expect_none(bad: Mask, sentence: str) -> None:
        bad = bad.fillna(False).astype(bool)
        if bad.any():
            row = split.loc[bad.idxmax()]
            known = "unknown" if pd.isna(row["label_end_date"]) else row["label_end_date"].date()
            found.append(
                f"{sentence}: {int(bad.sum())} rows, first {row['pattern_id']} at {row['snapshot_date'].date()} "
                f"(label known {known}, {row['split']})"
            )

    _check_rows(split, expect_none)
    _check_spans(split, config, t, v, expect_none)
    _check_reasons(split, config, t, v, expect_none)
    found += _patterns_in_two_splits(split)
    found += _window_overlaps(split)
    found += _weight_problems(split, config)
    found += _manifest_problems(split, manifest, config, t, v)
    if labeled is not None:
        found += _differences(split, labeled)
    return found


def _add_months(day: dt.date, months: int) -> dt.date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return dt.date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def _unlabelled(split: pd.DataFrame) -> Mask:
    return split["outcome_class"].isna() | split["label_end_date"].isna()


def _check_rows(split: pd.DataFrame, expect_none: Callable[[Mask, str], None]) -> None:
    for key in (KEYS, ["pattern_id", "snapshot_date"]):
        expect_none(split.duplicated(key), f"a row is duplicated by {', '.join(key)}")
    expect_none(~split["split"].isin([*SPLIT_NAMES, EXCLUDED]), "unknown split name")
    named = split["ticker"].astype(object) + "|" + split["start_date"].dt.strftime("%Y-%m-%d")
    expect_none(split["pattern_id"].astype(object) != named, "pattern_id is not its ticker and start date")
    expect_none(split["label_end_date"] <= split["snapshot_date"], "a label window ends on or before its snapshot")
    expect_none(split["snapshot_date"] < split["start_date"], "a snapshot lies before the start of its pattern")


def _check_spans(
    split: pd.DataFrame, config: SplitConfig, t: dt.date, v: dt.date, expect_none: Callable[[Mask, str], None]
) -> None:
    as_of, validation = pd.Timestamp(t), pd.Timestamp(v)
    embargo = validation - pd.Timedelta(days=config.embargo_days)
    end, snapshot = split["label_end_date"], split["snapshot_date"]
    train, val, test = (split["split"] == name for name in SPLIT_NAMES)
    unlabelled = _unlabelled(split)
    expect_none(train & unlabelled, "train holds a row without a label")
    expect_none(train & (end >= validation), "purge: a train label is not known before validation begins")
    expect_none(train & (end >= embargo) & (end < validation), "a train label ends inside the embargo")
    expect_none(train & (snapshot >= validation), "train holds a snapshot of the validation span or later")
    if config.train_years:
        oldest = pd.Timestamp(_add_months(v, -12 * config.train_years))
        expect_none(train & (snapshot < oldest), "train holds a snapshot older than train_years")
    expect_none(val & unlabelled, "validation holds a row without a label")
    expect_none(val & (end >= as_of), "purge: a validation label is not known before the as-of date")
    expect_none(val & (snapshot >= as_of), "validation holds a snapshot of the as-of date or later")
    expect_none(val & (snapshot < validation), "validation holds a snapshot before its span")
    expect_none(test & (snapshot < as_of), "test holds a snapshot before the as-of date")
    test_end = pd.Timestamp(_add_months(t, config.test_months))
    expect_none(test & (snapshot >= test_end), "test holds a snapshot after its span")


def _check_reasons(
    split: pd.DataFrame, config: SplitConfig, t: dt.date, v: dt.date, expect_none: Callable[[Mask, str], None]
) -> None:
    """Leaving rows out can select outcomes too: every exclusion must have a reason that holds."""
    as_of, validation = pd.Timestamp(t), pd.Timestamp(v)
    embargo = validation - pd.Timedelta(days=config.embargo_days)
    end, snapshot, reason = split["label_end_date"], split["snapshot_date"], split["reason"]
    out = split["split"] == EXCLUDED
    unlabelled = _unlabelled(split)
    early, middle = snapshot < validation, (snapshot >= validation) & (snapshot < as_of)
    too_old = pd.Series(False, index=split.index)
    if config.train_years:
        too_old = early & (snapshot < pd.Timestamp(_add_months(v, -12 * config.train_years)))
    rank = split["split"].map({name: i for i, name in enumerate(SPLIT_NAMES)})
    home = rank.groupby(split["pattern_id"]).transform("min")  # earliest split the pattern really occurs in
    own = pd.Series(np.select([early, middle], [0, 1], 2), index=split.index)
    test_end = pd.Timestamp(_add_months(t, config.test_months))
    holds = {
        "label_not_known_before_validation": early & ~too_old & (unlabelled | (end >= validation)),
        "embargo": early & ~too_old & ~unlabelled & (end >= embargo) & (end < validation),
        "before_train_span": too_old,
        "label_not_known_at_as_of": middle & (unlabelled | (end >= as_of)),
        "pattern_in_earlier_split": home < own,
        "after_test": snapshot >= test_end,
    }
    expect_none(out & ~reason.isin(EXCLUSION_REASONS), "an excluded row has no known reason")
    expect_none(~out & (reason != ""), "a member has a reason for exclusion")
    for name, condition in holds.items():
        expect_none(out & (reason == name) & ~condition, f"a row is excluded as {name} without cause")


def _patterns_in_two_splits(split: pd.DataFrame) -> list[str]:
    members = split[split["split"] != EXCLUDED]
    found = []
    for key in (["pattern_id"], ["ticker", "start_date"]):
        n_splits = members.groupby(key, sort=True)["split"].nunique()
        several = n_splits[n_splits > 1]
        if len(several):
            found.append(
                f"a pattern lies in two splits by {', '.join(key)}: {len(several)} patterns, "
                f"first {several.index[0]} in {several.iloc[0]} splits"
            )
    return found


def _window_overlaps(split: pd.DataFrame) -> list[str]:
    """Per ticker: every label window of an earlier split must end before the first snapshot of a later split."""
    found = []
    for earlier, later in (("train", "validation"), ("train", "test"), ("validation", "test")):
        ends = split[split["split"] == earlier].groupby("ticker")["label_end_date"].max()
        starts = split[split["split"] == later].groupby("ticker")["snapshot_date"].min()
        both = pd.concat([ends.rename("end"), starts.rename("start")], axis=1, join="inner")
        bad = both[both["end"] >= both["start"]]
        if len(bad):
            row = bad.iloc[0]
            found.append(
                f"label windows of {earlier} reach into {later} of the same ticker: {len(bad)} tickers, first "
                f"{bad.index[0]} with label end {row['end'].date()} and snapshot {row['start'].date()}"
            )
    return found


def _weight_problems(split: pd.DataFrame, config: SplitConfig) -> list[str]:
    weights = split["weight"].to_numpy(dtype=np.float64)
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        return ["a weight is not a positive finite number"]
    if split.loc[split["split"] == "train", "label_end_date"].isna().any():
        return []  # named already; without a window there is no overlap to recompute
    expected = train_weights(split, config)
    off = np.abs(weights - expected) > 1e-9
    if off.any():
        row = split.iloc[int(np.flatnonzero(off)[0])]
        return [
            f"{int(off.sum())} weights differ from the label overlap of the train rows, first {row['pattern_id']} at "
            f"{row['snapshot_date'].date()}: {row['weight']!r} instead of {expected[np.flatnonzero(off)[0]]!r}"
        ]
    return []


def _manifest_problems(
    split: pd.DataFrame, manifest: SplitManifest, config: SplitConfig, t: dt.date, v: dt.date
) -> list[str]:
    found = []
    expected = {
        "validation_start": v.isoformat(),
        "train_end": (v - dt.timedelta(days=config.embargo_days)).isoformat(),
        "test_end": _add_months(t, config.test_months).isoformat(),
    }
    for name, value in expected.items():
        if getattr(manifest, name) != value:
            found.append(f"the manifest says {name} {getattr(manifest, name)}; its settings give {value}")
    for name, least in (("train", config.min_train_rows), ("validation", config.min_validation_rows)):
        n = int((split["split"] == name).sum())
        if n < least:
            found.append(f"{name} has {n} rows; at least {least} are needed")
    again = summarise(split, SplitBoundaries.of(manifest.as_of, config), config, [])
    for name in ("rows", "excluded", "classes", "fit_fingerprint", "fingerprint"):
        if getattr(again, name) != getattr(manifest, name):
            found.append(f"the manifest's {name} is not that of the rows: the split was changed after it was made")
    return found


def _differences(split: pd.DataFrame, labeled: pd.DataFrame) -> list[str]:
    """The split must hold exactly the labelled rows, with their label ends and classes."""
    key = ["pattern_id", "snapshot_date"]
    columns = ["label_end_date", "outcome_class"]
    if labeled.duplicated(key).any() or split.duplicated(key).any():
        return ["keys are duplicated, so the split cannot be compared with the labelled snapshots"]
    both = split[key + columns].merge(
        labeled[key + columns], on=key, how="outer", indicator=True, suffixes=("", "_labeled"), validate="one_to_one"
    )
    found = []
    for side, sentence in (("left_only", "not among the labelled snapshots"), ("right_only", "missing from the split")):
        part = both[both["_merge"] == side]
        if len(part):
            row = part.iloc[0]
            found.append(f"{len(part)} rows are {sentence}, first {row['pattern_id']} at {row['snapshot_date'].date()}")
    both = both[both["_merge"] == "both"]
    for column in columns:
        mine, theirs = both[column], both[f"{column}_labeled"]
        same = (mine.isna() & theirs.isna()) | (mine == theirs).fillna(False).astype(bool)
        if not same.all():
            row = both[~same].iloc[0]
            found.append(
                f"{column} differs from the labelled snapshots in {int((~same).sum())} rows, first "
                f"{row['pattern_id']} at {row['snapshot_date'].date()}: {row[column]} instead of "
                f"{row[f'{column}_labeled']}"
            )
    return found
