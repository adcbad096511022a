"""`training_windows`: where the bars of each window lie, its geometry and its known label."""

from __future__ import annotations

from k4_pipeline.config import K5, KEYS, SEQUENCE_BARS
from k4_pipeline.schemas.base import date, flag, integer, number, row_rule, table_schema, text

TRAINING_WINDOWS = table_schema(
    "training_windows",
    {
        "ticker": text("exchange ticker"),
        "pattern_id": text("window|ticker|start date"),
        "start_date": date("first bar of the box"),
        "snapshot_date": date("last bar of the window"),
        "end_row": integer("row of the last bar in the panel", ge=0),
        "first_row": integer("first row of the ticker", ge=0),
        "start_row": integer("row of the first bar of the box", ge=0),
        "activation_row": integer("row of the last bar of the box", ge=0),
        "n_valid": integer("valid bars, at the end of the 50", ge=1, le=SEQUENCE_BARS),
        "upper": number("upper boundary", gt=0.0),
        "lower": number("lower boundary", gt=0.0),
        "power": number("power boundary", gt=0.0),
        "start_price": number("close at the start bar", gt=0.0),
        "prior_width": number("high-low range of the 20 bars before the box; empty with fewer", nullable=True),
        "close_at_snapshot": number("close at the last bar", gt=0.0),
        "mean_volume": number("mean volume of the last 250 bars; empty with fewer than 20", ge=0.0, nullable=True),
        "qualifying_bars": integer("bars of the box", ge=1),
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
