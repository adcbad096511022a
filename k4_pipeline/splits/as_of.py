"""As-of dates: the quarter starts a table can be split at, and which of them to take by default."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd

from k4_pipeline.config import SplitConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import DayLike, to_dates, to_day
from k4_pipeline.splits.boundaries import NEVER, SplitBoundaries, day_numbers, known_label_end
from k4_pipeline.splits.walk_forward import assign_membership

# A thinly traded ticker may need years for its label; one such row must not keep a whole quarter from being used.
FULLY_LABELLED_SHARE = 0.99


def quarter_starts(first: DayLike, last: DayLike) -> list[dt.date]:
    """Every 1 January, April, July and October from `first` to `last`, both included, ascending."""
    days = [pd.Timestamp(to_dates(np.array([to_day(day)]))[0]) for day in (first, last)]
    return [stamp.date() for stamp in pd.date_range(days[0], days[1], freq="QS-JAN")]


def default_as_of(labeled: pd.DataFrame, config: SplitConfig) -> dt.date:
    """The newest quarter start that can be split and whose whole test span is labelled.

    A test span counts as labelled when the table reaches its end and at least `FULLY_LABELLED_SHARE` of its rows (one
    or more) have a label. Without such a quarter: the newest splittable one with labelled test rows, then the newest
    with labelled rows in its test span. Raises `BadInputError` when no quarter has a labelled row.
    """
    if len(labeled) == 0:
        raise BadInputError("no labelled snapshots: there is no date to split at; widen the universe")
    snapshot = day_numbers(labeled["snapshot_date"])
    known = known_label_end(labeled) < NEVER
    reach = max(int(snapshot.max()), int(known_label_end(labeled)[known].max(initial=0)))
    fallback: list[tuple[bool, dt.date]] = []
    for quarter in reversed(quarter_starts(int(snapshot.min()), int(snapshot.max()))):
        bounds = SplitBoundaries.of(quarter, config)
        in_test = (snapshot >= bounds.as_of) & (snapshot < bounds.test_end)
        n_test, n_known = int(in_test.sum()), int((in_test & known).sum())
        if n_known == 0:
            continue
        names, _ = assign_membership(labeled, bounds)
        splittable = bool(
            (names == "train").sum() >= config.min_train_rows
            and (names == "validation").sum() >= config.min_validation_rows
        )
        if splittable and reach >= bounds.test_end - 1 and n_known >= FULLY_LABELLED_SHARE * n_test:
            return quarter
        fallback.append((splittable, quarter))
    if not fallback:
        raise BadInputError(
            f"none of {len(labeled)} snapshots is labelled inside a quarter that starts after the first snapshot; "
            "the history is too short for the label horizon: use more bars"
        )
    return max(fallback)[1]
