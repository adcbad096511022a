"""Membership of every snapshot for one as-of date, from dates alone: purge, embargo, and one split per pattern.

With T = as_of and V = T - validation_months:
train       label_end_date < V - embargo_days (and snapshot_date >= V - train_years, when set)
validation  V <= snapshot_date < T and label_end_date < T
test        T <= snapshot_date < T + test_months, labelled or not
All comparisons of label ends are strict: a label known on the boundary day itself is outside. A row whose label is not
known (no class, or no label_end_date) is never in train or validation. A pattern stays in the earliest split it occurs
in; its later rows are excluded, which is knowable on the day each of those later rows arises.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.config import EXCLUDED, KEYS, SPLIT_NAMES, SplitConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import DayLike
from k4_pipeline.splits.boundaries import SplitBoundaries, day_numbers, iso, known_label_end
from k4_pipeline.splits.manifest import SplitManifest, class_warnings, summarise
from k4_pipeline.splits.uniqueness import average_uniqueness, normalised

SPLIT_COLUMNS = (
    "ticker",
    "pattern_id",
    "start_date",
    "snapshot_date",
    "label_end_date",
    "outcome_class",
    "split",
    "reason",
    "weight",
)


def split_snapshots(labeled: pd.DataFrame, as_of: DayLike, config: SplitConfig) -> tuple[pd.DataFrame, SplitManifest]:
    """The `dataset_split` table (same rows and order as `labeled`) and its manifest.

    Raises `BadInputError` when a key is duplicated, a label window does not start after its snapshot, or fewer than
    `min_train_rows` / `min_validation_rows` rows are left.
    """
    _check_input(labeled)
    bounds = SplitBoundaries.of(as_of, config)
    names, reasons = assign_membership(labeled, bounds)
    split = labeled[list(SPLIT_COLUMNS[:6])].reset_index(drop=True)
    split["outcome_class"] = split["outcome_class"].astype("Int8")
    split["split"] = pd.Series(names, dtype="str")
    split["reason"] = pd.Series(reasons, dtype="str")
    split["weight"] = train_weights(split, config)
    _check_size(split, bounds, config)
    return split, summarise(split, bounds, config, _warnings(labeled) + class_warnings(split))


def assign_membership(labeled: pd.DataFrame, bounds: SplitBoundaries) -> tuple[np.ndarray, np.ndarray]:
    """Split name and exclusion reason ("" for members) of every row, two object arrays (n,)."""
    snapshot = day_numbers(labeled["snapshot_date"])
    end = known_label_end(labeled)
    before_validation = snapshot < bounds.validation_start
    in_validation = (snapshot >= bounds.validation_start) & (snapshot < bounds.as_of)
    in_test = (snapshot >= bounds.as_of) & (snapshot < bounds.test_end)
    too_old = np.zeros(len(snapshot), bool) if bounds.train_start is None else snapshot < bounds.train_start

    train = before_validation & (end < bounds.train_end) & ~too_old
    validation = in_validation & (end < bounds.as_of)
    order = np.select([train, validation, in_test], [0, 1, 2], default=3)
    reasons = np.select(
        [
            order < 3,
            before_validation & too_old,
            before_validation & (end < bounds.validation_start),
            before_validation,
            in_validation,
        ],
        ["", "before_train_span", "embargo", "label_not_known_before_validation", "label_not_known_at_as_of"],
        default="after_test",
    ).astype(object)
    earliest = pd.Series(order).groupby(labeled["pattern_id"].to_numpy()).transform("min").to_numpy()
    later = (order < 3) & (order > earliest)
    reasons[later] = "pattern_in_earlier_split"
    names = np.array([*SPLIT_NAMES, EXCLUDED], dtype=object)[np.where(later, 3, order)]
    return names, reasons


def known_before(table: pd.DataFrame, day: int, bounds: SplitBoundaries) -> np.ndarray:
    """Rows (n,) bool of training windows whose label is known before `day`, in the train span where there is one."""
    too_old = bounds.train_start is not None and day_numbers(table["snapshot_date"]) < bounds.train_start
    return (known_label_end(table) < day) & ~np.broadcast_to(too_old, len(table))


def known_at_as_of(split: pd.DataFrame, bounds: SplitBoundaries) -> np.ndarray:
    """Rows (n,) bool of the split table that a model may be fitted on once validation has chosen: labels known before
    as_of, no pattern that has a test row, and none from before the train span."""
    tested = split.loc[split["split"] == "test", "pattern_id"].unique()
    return known_before(split, bounds.as_of, bounds) & ~split["pattern_id"].isin(tested).to_numpy()


def train_weights(split: pd.DataFrame, config: SplitConfig) -> np.ndarray:
    """Sample weights (n,) float64: 1 everywhere, or average uniqueness among the train rows, with mean 1 over them.

    Only train rows are weighted and only by each other: a weight never depends on a row outside train.
    """
    weights = np.ones(len(split))
    train = (split["split"] == "train").to_numpy()
    if config.weight_by_uniqueness and train.any():
        part = split[train]
        weights[train] = normalised(
            average_uniqueness(part["ticker"], day_numbers(part["snapshot_date"]), day_numbers(part["label_end_date"]))
        )
    return weights


def _check_input(labeled: pd.DataFrame) -> None:
    missing = [c for c in SPLIT_COLUMNS[:6] if c not in labeled.columns]
    if missing:
        raise BadInputError(f"the labelled snapshots lack the columns {', '.join(missing)}; make them with labels.py")
    if len(labeled) == 0:
        raise BadInputError("no labelled snapshots: there is nothing to split; widen the universe")
    for key in (KEYS, ["pattern_id", "snapshot_date"]):
        twice = labeled.duplicated(key).to_numpy()
        if twice.any():
            first = ", ".join(str(v) for v in labeled[key].iloc[int(np.flatnonzero(twice)[0])])
            raise BadInputError(f"{int(twice.sum())} snapshots are duplicated, first {first}; remove the duplicates")
    window = day_numbers(labeled["label_end_date"]) <= day_numbers(labeled["snapshot_date"])
    if window.any():
        row = labeled.iloc[int(np.flatnonzero(window)[0])]
        raise BadInputError(
            f"{int(window.sum())} label windows end on or before their snapshot, first {row['pattern_id']} at "
            f"{row['snapshot_date'].date()} with label_end_date {row['label_end_date'].date()}; remake the labels"
        )


def _check_size(split: pd.DataFrame, bounds: SplitBoundaries, config: SplitConfig) -> None:
    n_train = int((split["split"] == "train").sum())
    n_validation = int((split["split"] == "validation").sum())
    if n_train >= config.min_train_rows and n_validation >= config.min_validation_rows:
        return
    first, last = split["snapshot_date"].min().date(), split["snapshot_date"].max().date()
    raise BadInputError(
        f"as_of {iso(bounds.as_of)} leaves {n_train} train and {n_validation} validation rows of {len(split)} "
        f"snapshots (dated {first} to {last}); needed are {config.min_train_rows} and {config.min_validation_rows}. "
        f"Validation starts {iso(bounds.validation_start)} and train labels must be known before "
        f"{iso(bounds.train_end)}. Use another as_of, more tickers or a longer history."
    )


def _warnings(labeled: pd.DataFrame) -> list[str]:
    no_class = labeled["outcome_class"].isna().to_numpy()
    no_end = labeled["label_end_date"].isna().to_numpy()
    found = []
    if (no_class != no_end).any():
        found.append(
            f"{int((~no_class & no_end).sum())} rows have a class but no label_end_date and "
            f"{int((no_class & ~no_end).sum())} the reverse: they count as not labelled"
        )
    return found
