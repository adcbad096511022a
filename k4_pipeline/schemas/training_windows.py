"""`training_windows`: where the bars of each window lie, its geometry and its known label."""

from __future__ import annotations

from k4_pipeline.config import K5, KEYS
from k4_pipeline.schemas.base import date, flag, integer, row_rule, table_schema, text
from k4_pipeline.schemas.sequences import place_and_geometry

TRAINING_WINDOWS = table_schema(
    "training_windows",
    {
        "ticker": text("exchange ticker"),
        "pattern_id": text("window|ticker|start date"),
        "start_date": date("first bar of the box"),
        "snapshot_date": date("last bar of the window"),
        **place_and_geometry("first bar of the box"),
        "outcome_class": integer("class K0..K5", ge=0, le=K5, dtype="Int8"),
        "label_end_date": date("first date on which the class is known"),
        "censored": flag("the ticker ended before the horizon"),
        "label_bars": integer("bars of the race", ge=0),
    },
    key=tuple(KEYS),
    min_rows=0,
    checks=(
        row_rule("a_window_is_no_pattern", lambda f: f["pattern_id"].str.startswith("window|")),
        row_rule("label_ends_after_the_window", lambda f: f["label_end_date"] > f["snapshot_date"]),
        row_rule("lower_is_below_upper", lambda f: f["lower"] < f["upper"]),
    ),
    description="Rows for the first phase of training; nothing is predicted or tested on them.",
)
