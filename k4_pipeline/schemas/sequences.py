"""`sequences`: where the 50 bars of each snapshot lie in the panel, and its geometry. See sequences/windows.py."""

from __future__ import annotations

from typing import Any

from k4_pipeline.config import KEYS, MIN_VALID_HISTORY_BARS, SEQUENCE_BARS
from k4_pipeline.schemas.base import date, integer, number, row_rule, table_schema, text


def place_and_geometry(start: str) -> dict[str, Any]:
    """Columns that say where the bars of a sequence lie and what its box is; `start`: what begins the box."""
    return {
        "end_row": integer("row of the last bar in the panel", ge=0),
        "first_row": integer("first row of the ticker", ge=0),
        "start_row": integer(f"row of the {start}", ge=0),
        "activation_row": integer("row of the last bar of the box", ge=0),
        "n_valid": integer("valid bars, at the end of the 50", ge=1, le=SEQUENCE_BARS),
        "upper": number("upper boundary", gt=0.0),
        "lower": number("lower boundary", gt=0.0),
        "power": number("power boundary", gt=0.0),
        "start_price": number(f"close at the {start}", gt=0.0),
        "prior_width": number(f"high-low range of the 20 bars before the {start}; empty with fewer", nullable=True),
        "close_at_snapshot": number("close at the last bar", gt=0.0),
        "mean_volume": number("mean volume of the last 250 bars; empty with fewer than 20", ge=0.0, nullable=True),
        "qualifying_bars": integer("qualifying bars of the box", ge=1),
    }


SEQUENCES = table_schema(
    "sequences",
    {
        "ticker": text("exchange ticker"),
        "pattern_id": text("ticker|start date"),
        "start_date": date("start bar of the pattern"),
        "snapshot_date": date("snapshot bar, the last bar of the sequence"),
        **place_and_geometry("start bar"),
    },
    key=tuple(KEYS),
    checks=(
        row_rule("lower_is_below_upper", lambda f: f["lower"] < f["upper"]),
        row_rule(
            "start_activation_and_snapshot_follow_each_other",
            lambda f: (
                (f["first_row"] <= f["start_row"])
                & (f["start_row"] <= f["activation_row"])
                & (f["activation_row"] <= f["end_row"])
            ),
        ),
        row_rule(
            "valid_bars_have_enough_history",
            lambda f: f["end_row"] - f["n_valid"] + 1 >= f["first_row"] + MIN_VALID_HISTORY_BARS - 1,
        ),
        row_rule(
            "padding_only_where_history_is_short",
            lambda f: (
                (f["n_valid"] == SEQUENCE_BARS)
                | (f["end_row"] - f["n_valid"] + 1 == f["first_row"] + MIN_VALID_HISTORY_BARS - 1)
            ),
        ),
    ),
    description="Row numbers and geometry; the (50, 69) tensor is assembled when a batch is read.",
)
