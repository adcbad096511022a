"""`predictions` and `signals`: probabilities, expected value and signal of scored snapshots."""

from __future__ import annotations

import pandera.pandas as pa

from k4_pipeline.config import KEYS, N_CLASSES, SIGNAL_NAMES, SPLIT_NAMES
from k4_pipeline.schemas.base import category, date, integer, number, row_rule, table_schema, text

_SUM_TOLERANCE = 1e-5


def _class_probabilities(prefix: str, what: str) -> dict[str, pa.Column]:
    return {f"{prefix}_{i}": number(f"{what} probability of class K{i}", ge=0.0, le=1.0) for i in range(N_CLASSES)}


def _sums_to_one(prefix: str) -> pa.Check:
    columns = [f"{prefix}_{i}" for i in range(N_CLASSES)]
    return row_rule(f"{prefix}_sums_to_one", lambda frame: (frame[columns].sum(axis=1) - 1.0).abs() < _SUM_TOLERANCE)


_TIER = {
    "p_k4_certified": number("calibrated P(K4) of the fits that were certified", ge=0.0, le=1.0),
    "tier": category(SIGNAL_NAMES, "the best certified promise that p_k4_certified reaches; AVOID: none"),
}

PREDICTIONS = table_schema(
    "predictions",
    {
        "ticker": text("exchange ticker"),
        "pattern_id": text("ticker|start date"),
        "start_date": date("start bar of the pattern"),
        "snapshot_date": date("snapshot bar: the last bar the prediction knows"),
        "split": category(SPLIT_NAMES, "membership of the snapshot in the split of this as_of"),
        **_class_probabilities("p_raw", "raw"),
        **_class_probabilities("p", "calibrated"),
        "ev_raw": number("expected strategic value from raw probabilities"),
        "ev": number("expected strategic value from calibrated probabilities"),
        "signal": category(SIGNAL_NAMES, "by expected value and P(K5)"),
        **_TIER,
    },
    key=tuple(KEYS),
    checks=(_sums_to_one("p_raw"), _sums_to_one("p")),
    description="Scored test snapshots of one as-of date.",
)

SIGNALS = table_schema(
    "signals",
    {
        "ticker": text("exchange ticker"),
        "pattern_id": text("ticker|start date"),
        "start_date": date("start bar of the pattern"),
        "snapshot_date": date("the universe's last day"),
        "signal": category(SIGNAL_NAMES, "by expected value and P(K5)"),
        **_TIER,
        "ev": number("expected strategic value from calibrated probabilities"),
        **_class_probabilities("p", "calibrated"),
        "upper": number("upper boundary (price)", gt=0.0),
        "lower": number("lower boundary (price)", gt=0.0),
        "power": number("entry: a close above this is a breakout (price)", gt=0.0),
        "stop": number("at or below this the pattern has failed (price)", gt=0.0),
        "bars_active": integer("bars since activation", ge=0),
        "champion_as_of": text("as_of of the model that scored the row"),
        "refused": text(
            "why the row lies too far outside the train rows to be more than AVOID; empty: it does not", empty=True
        ),
        "left_out": text("why the list leaves the row out; empty: it is listed", empty=True),
        "dollar_volume": number("median of close times volume of the last bars", ge=0.0),
        "price": number("median close of the last bars", gt=0.0),
    },
    key=tuple(KEYS),
    sort=(),
    min_rows=0,
    checks=(
        _sums_to_one("p"),
        row_rule("rows_descend_by_expected_value", lambda frame: frame["ev"].diff().fillna(0.0) <= 0.0),
        row_rule("lower_is_below_upper", lambda frame: frame["lower"] < frame["upper"]),
        row_rule("the_refused_are_avoid", lambda frame: (frame["refused"] == "") | (frame["tier"] == "AVOID")),
    ),
    description="Patterns open on the last day, scored by the champion; best expected value first.",
)
