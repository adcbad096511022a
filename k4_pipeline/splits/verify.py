"""Proof that a stored split is complete and explained, recomputed from its rows rather than read from its manifest.

Rows left out can select outcomes as well as rows taken in: every exclusion needs a reason that holds. Who is a member,
with purge and embargo, is decided a second time in leakage/oracles/membership.py; the check `purge_holds` compares.
What this does not catch: labels that were wrong before the split was made (pass `labeled` to compare with the stored
table; leakage/ recomputes labels from bars), and near-duplicate tickers under different names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pandas as pd

from k4_pipeline.config import EXCLUDED, EXCLUSION_REASONS, KEYS, SPLIT_NAMES, SplitConfig
from k4_pipeline.splits.boundaries import SplitBoundaries, day_numbers, iso, known_label_end
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
    bounds = SplitBoundaries.of(manifest.as_of, config)
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
    _check_reasons(split, bounds, expect_none)
    found += _weight_problems(split, config)
    found += _manifest_problems(split, manifest, config, bounds)
    if labeled is not None:
        found += _differences(split, labeled)
    return found


def _check_rows(split: pd.DataFrame, expect_none: Callable[[Mask, str], None]) -> None:
    for key in (KEYS, ["pattern_id", "snapshot_date"]):
        expect_none(split.duplicated(key), f"a row is duplicated by {', '.join(key)}")
    expect_none(~split["split"].isin([*SPLIT_NAMES, EXCLUDED]), "unknown split name")
    named = split["ticker"].astype(object) + "|" + split["start_date"].dt.strftime("%Y-%m-%d")
    expect_none(split["pattern_id"].astype(object) != named, "pattern_id is not its ticker and start date")
    expect_none(split["label_end_date"] <= split["snapshot_date"], "a label window ends on or before its snapshot")
    expect_none(split["snapshot_date"] < split["start_date"], "a snapshot lies before the start of its pattern")


def _check_reasons(split: pd.DataFrame, bounds: SplitBoundaries, expect_none: Callable[[Mask, str], None]) -> None:
    end = pd.Series(known_label_end(split), index=split.index)
    snapshot = pd.Series(day_numbers(split["snapshot_date"]), index=split.index)
    reason = split["reason"]
    out = split["split"] == EXCLUDED
    early = snapshot < bounds.validation_start
    middle = ~early & (snapshot < bounds.as_of)
    too_old = early & (snapshot < (-np.inf if bounds.train_start is None else bounds.train_start))
    rank = split["split"].map({name: i for i, name in enumerate(SPLIT_NAMES)})
    home = rank.groupby(split["pattern_id"]).transform("min")  # earliest split the pattern really occurs in
    own = pd.Series(np.select([early, middle], [0, 1], 2), index=split.index)
    holds = {
        "label_not_known_before_validation": early & ~too_old & (end >= bounds.validation_start),
        "embargo": early & ~too_old & (end >= bounds.train_end) & (end < bounds.validation_start),
        "before_train_span": too_old,
        "label_not_known_at_as_of": middle & (end >= bounds.as_of),
        "pattern_in_earlier_split": home < own,
        "after_test": snapshot >= bounds.test_end,
    }
    expect_none(out & ~reason.isin(EXCLUSION_REASONS), "an excluded row has no known reason")
    expect_none(~out & (reason != ""), "a member has a reason for exclusion")
    for name, condition in holds.items():
        expect_none(out & (reason == name) & ~condition, f"a row is excluded as {name} without cause")


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
    split: pd.DataFrame, manifest: SplitManifest, config: SplitConfig, bounds: SplitBoundaries
) -> list[str]:
    found = []
    expected = {
        "validation_start": iso(bounds.validation_start),
        "train_end": iso(bounds.train_end),
        "test_end": iso(bounds.test_end),
    }
    for name, value in expected.items():
        if getattr(manifest, name) != value:
            found.append(f"the manifest says {name} {getattr(manifest, name)}; its settings give {value}")
    for name, least in (("train", config.min_train_rows), ("validation", config.min_validation_rows)):
        n = int((split["split"] == name).sum())
        if n < least:
            found.append(f"{name} has {n} rows; at least {least} are needed")
    again = summarise(split, bounds, config, [])
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
