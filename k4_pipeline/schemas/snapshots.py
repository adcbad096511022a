"""`snapshots`: the state of an ACTIVE pattern at the close of one bar, scanned here or read from a file."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pandera.pandas as pa

from k4_pipeline.config import KEYS, PatternConfig
from k4_pipeline.schemas.base import date, integer, number, row_rule, table_schema, text


def snapshot_columns(max_bars_active: int | None = None) -> dict[str, pa.Column]:
    """The eleven columns every snapshot table begins with."""
    return {
        "ticker": text("exchange ticker, as in daily_bars"),
        "pattern_id": text("ticker|start date: the pattern the snapshot belongs to"),
        "start_date": date("first qualifying bar"),
        "activation_date": date("bar on which the pattern became ACTIVE; its boundaries are fixed from here on"),
        "snapshot_date": date("as-of date of the row: nothing in it is later"),
        "upper": number("highest high of the qualifying bars (price)", gt=0.0),
        "lower": number("lowest low of the qualifying bars (price)", gt=0.0),
        "power": number("close above this is a breakout (price)", gt=0.0),
        "start_price": number("close of the start bar (price)", gt=0.0),
        "qualifying_bars": integer("bars from start to activation, both counted", ge=1),
        "bars_active": integer("bars since the activation bar, 0 on it", ge=0, le=max_bars_active),
    }


def _pattern_id_matches(frame: pd.DataFrame) -> pd.Series:
    return frame["pattern_id"] == frame["ticker"] + "|" + frame["start_date"].dt.strftime("%Y-%m-%d")


def _one_geometry(frame: pd.DataFrame) -> np.ndarray:
    """Whether each row has the geometry of the first row of its pattern."""
    columns = ["activation_date", "upper", "lower", "power", "start_price", "qualifying_bars"]
    first = frame.groupby("pattern_id", sort=False)[columns].transform("first")
    return (frame[columns] == first).all(axis=1).to_numpy()


def snapshot_rules(external: bool, power_factor: float) -> list[pa.Check]:
    """Propositions about each snapshot. A file made elsewhere may set its own power boundary, and two patterns of one
    ticker may overlap in it; a scanned table may do neither."""
    rules = [
        row_rule("lower_is_below_upper", lambda frame: frame["lower"] < frame["upper"]),
        row_rule("start_is_not_after_activation", lambda frame: frame["start_date"] <= frame["activation_date"]),
        row_rule("activation_is_not_after_snapshot", lambda frame: frame["activation_date"] <= frame["snapshot_date"]),
        row_rule(
            "bars_active_is_zero_on_the_activation_bar_alone",
            lambda frame: (frame["bars_active"] == 0) == (frame["activation_date"] == frame["snapshot_date"]),
        ),
        row_rule("pattern_id_names_ticker_and_start", _pattern_id_matches),
    ]
    if not external:
        rules += [
            row_rule(
                "power_is_upper_times_the_power_factor",
                lambda frame: np.abs(frame["power"] - frame["upper"] * power_factor) <= 1e-12 * frame["power"],
            ),
            row_rule("boundaries_are_fixed_within_a_pattern", _one_geometry),
            row_rule(
                "ticker_has_one_pattern_at_a_time",
                lambda frame: ~frame.duplicated(subset=["ticker", "snapshot_date"], keep="first"),
            ),
        ]
    return rules


def snapshots_schema(
    config: PatternConfig | None = None, *, external: bool = False, min_rows: int = 1
) -> pa.DataFrameSchema:
    """The schema for snapshots made with `config` (default settings when None).

    `external=True` is the weaker form for a table made elsewhere; `min_rows=0` suits today's open snapshots.
    """
    config = config or PatternConfig()
    return table_schema(
        "snapshots",
        snapshot_columns(None if external else config.max_active_bars - 1),
        key=tuple(KEYS),
        min_rows=min_rows,
        checks=snapshot_rules(external, config.power_factor),
        description="Consolidation snapshots, one row per (pattern, bar).",
    )
