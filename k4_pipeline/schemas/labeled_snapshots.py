"""`labeled_snapshots`: each snapshot with its outcome class and the first date on which that is known."""

from __future__ import annotations

import pandas as pd
import pandera.pandas as pa

from k4_pipeline.config import KEYS, N_CLASSES, LabelConfig, PatternConfig
from k4_pipeline.schemas.base import date, flag, integer, row_rule, table_schema
from k4_pipeline.schemas.snapshots import snapshot_columns, snapshot_rules


def _ends_later(frame: pd.DataFrame) -> pd.Series:
    return frame["label_end_date"].isna() | (frame["label_end_date"] > frame["snapshot_date"])


def labeled_snapshots_schema(
    patterns: PatternConfig | None = None,
    labels: LabelConfig | None = None,
    *,
    external: bool = False,
    min_rows: int = 1,
) -> pa.DataFrameSchema:
    """The schema for snapshots made with `patterns` and labelled with `labels` (default settings when None)."""
    patterns = patterns or PatternConfig()
    horizon = (labels or LabelConfig()).horizon_bars

    def right_number_of_bars(frame: pd.DataFrame) -> pd.Series:
        known = frame["outcome_class"].notna()
        ordinary = known & ~frame["censored"]
        return (
            (ordinary & (frame["label_bars"] == horizon))
            | (frame["censored"] & (frame["label_bars"] < horizon))
            | (~known & (frame["label_bars"] == 0))
        )

    return table_schema(
        "labeled_snapshots",
        {
            **snapshot_columns(None if external else patterns.max_active_bars - 1),
            "outcome_class": integer(
                "0..5 for K0..K5, missing while not known", ge=0, le=N_CLASSES - 1, nullable=True, dtype="Int8"
            ),
            "label_end_date": date("first date on which the class is known; missing while it is not", nullable=True),
            "censored": flag("the ticker ended before the horizon; labelled on the bars there are"),
            "label_bars": integer("later bars the label was taken on; 0 while not known", ge=0, le=horizon),
        },
        key=tuple(KEYS),
        min_rows=min_rows,
        checks=[
            *snapshot_rules(external, patterns.power_factor),
            row_rule(
                "class_and_label_end_are_known_together",
                lambda frame: frame["outcome_class"].isna() == frame["label_end_date"].isna(),
            ),
            row_rule("label_ends_after_its_snapshot", _ends_later),
            row_rule("censored_labels_are_known", lambda frame: ~frame["censored"] | frame["outcome_class"].notna()),
            row_rule("label_uses_the_horizon_unless_censored", right_number_of_bars),
        ],
        description="Snapshots with race labels. A missing class is not known yet: predicted, never trained on.",
    )
