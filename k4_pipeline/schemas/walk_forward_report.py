"""`walk_forward_report`: one row per as-of date of a backtest."""

from __future__ import annotations

import pandera.pandas as pa

from k4_pipeline.schemas.base import date, flag, integer, number, row_rule, table_schema


def _metric(name: str, what: str, *, ge: float | None = None, le: float | None = None) -> dict[str, pa.Column]:
    return {
        name + suffix: number(f"{what}{text}", ge=ge, le=le, nullable=True)
        for suffix, text in (("", ""), ("_low", ", lower bound"), ("_high", ", upper bound"))
    }


WALK_FORWARD_REPORT = table_schema(
    "walk_forward_report",
    {
        "as_of": date("the model knows only what was known before this day"),
        "rows": integer("labelled test snapshots", ge=1),
        "k4_rows": integer("of them K4", ge=0),
        **_metric("k4_auc", "area under the ROC curve for K4", ge=0.0, le=1.0),
        **_metric("k4_auc_volatility", "the same of sorting by volatility", ge=0.0, le=1.0),
        **_metric("k4_average_precision", "average precision for K4", ge=0.0, le=1.0),
        **_metric("k4_recall_top_5pct", "share of K4 within the top 5%", ge=0.0, le=1.0),
        **_metric("k4_recall_top_10pct", "share of K4 within the top 10%", ge=0.0, le=1.0),
        **_metric("ev_correlation", "Pearson correlation of EV with the realised value", ge=-1.0, le=1.0),
        "integrity_passed": flag("whether all five integrity tests passed"),
        "inputs_current": flag("whether bars and labels are still those the report was made from"),
    },
    key=("as_of",),
    checks=(row_rule("k4_rows_are_among_the_rows", lambda frame: frame["k4_rows"] <= frame["rows"]),),
    description="All as-of dates side by side. A metric without K4 rows is missing.",
)
