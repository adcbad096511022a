"""The schema factory refuses what plain pandera lets pass, and says which rows are meant."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.schemas.base import (
    category,
    date,
    flag,
    integer,
    number,
    row_rule,
    table_rule,
    table_schema,
    text,
    validate,
)

SCHEMA = table_schema(
    "toy",
    {
        "ticker": text("name"),
        "date": date("session"),
        "price": number("price", gt=0.0, le=100.0),
        "gap": number("may be missing", nullable=True, dtype="float32"),
        "outcome": integer("class", ge=0, le=5, nullable=True, dtype="Int8"),
        "count": integer("how many", ge=0),
        "side": category(("buy", "sell"), "side"),
        "seen": flag("seen"),
    },
    key=("ticker", "date"),
    min_rows=2,
    checks=(
        row_rule("price_is_not_thirteen", lambda f: f["price"] != 13.0),
        table_rule("some_row_is_seen", lambda f: f["seen"].any()),
    ),
)


def _frame(n: int = 6) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "ticker": pd.Series(["A"] * (n // 2) + ["B"] * (n // 2), dtype="str"),
            "date": np.tile(pd.date_range("2015-01-01", periods=n // 2), 2),
            "price": np.linspace(1.0, 2.0, n),
            "gap": np.full(n, np.nan, dtype=np.float32),
            "outcome": pd.array([None] * n, dtype="Int8"),
            "count": np.arange(n),
            "side": pd.Series(["buy"] * n, dtype="str"),
            "seen": np.ones(n, dtype=bool),
        }
    ).astype({"date": "datetime64[us]"})  # fmt: skip


def _with(column: str, row: int, value) -> pd.DataFrame:
    frame = _frame()
    frame.loc[row, column] = value
    return frame


def test_a_sane_frame_has_no_violations():
    assert validate(SCHEMA, _frame()) == []


@pytest.mark.parametrize(
    ("frame", "parts"),
    [
        (
            _with("price", 2, np.inf),
            ["toy.price: is_finite does not hold in 1 of 6 rows: A 2015-01-03", "is_at_most_100"],
        ),
        (_with("gap", 2, -np.inf), ["toy.gap: is_finite does not hold in 1 of 6 rows: A 2015-01-03"]),
        (_with("price", 4, np.nan), ["toy.price: not_nullable does not hold in 1 of 6 rows: B 2015-01-02"]),
        (_with("price", 4, 0.0), ["toy.price: is_greater_than_0"]),
        (_with("price", 4, 13.0), ["toy: price_is_not_thirteen does not hold in 1 of 6 rows: B 2015-01-02"]),
        (_with("ticker", 0, ""), ["toy.ticker: is_not_empty"]),
        (_with("date", 5, pd.Timestamp("2015-01-03 16:00")), ["toy.date: is_midnight", "B 2015-01-03"]),
        (_with("date", 5, pd.NaT), ["toy.date: not_nullable"]),
        (_with("outcome", 1, 6), ["toy.outcome: is_at_most_5"]),
        (_with("count", 1, -1), ["toy.count: is_at_least_0"]),
        (_with("side", 1, "hold"), ["toy.side: is_one_of_buy|sell does not hold in 1 of 6 rows: A 2015-01-02"]),
        (_frame().assign(seen=False), ["toy: some_row_is_seen does not hold (the table has 6 rows)"]),
        (_frame().iloc[:1], ["toy: has_at_least_2_rows does not hold (the table has 1 rows)"]),
        (_frame().iloc[:0], ["has_at_least_2_rows"]),
        (_frame().assign(extra=1), ["toy: it has a column 'extra' that is not declared"]),
        (_frame().drop(columns="gap"), ["toy: the declared column 'gap' is missing"]),
        (_frame()[["date", "ticker", *_frame().columns[2:]]], ["column 'date' is not in its place"]),
        (_frame().iloc[::-1].reset_index(drop=True), ["rows_ascend_by_ticker_and_date does not hold in 5 of 6 rows"]),
        (_frame().iloc[[0, 1, 2, 4, 3, 5]].reset_index(drop=True), ["rows_ascend_by_ticker_and_date", "B 2015-01-01"]),
        (_frame().iloc[[0, 1, 1, 2]].reset_index(drop=True), ["ticker_and_date_name_a_row_once", "A 2015-01-02"]),
        (_frame().set_axis(range(1, 7)), ["index_counts_from_zero"]),
        (_frame().astype({"price": "float32"}), ["price is float32, expected float64"]),
        (_frame().astype({"date": "datetime64[ns]"}), ["date is datetime64[ns], expected datetime64[us]"]),
        (_frame().astype({"ticker": object}), ["ticker is object, expected str"]),
        (_frame().astype({"count": "int32"}), ["count is int32, expected int64"]),
        (_frame().assign(date=_frame()["date"].dt.tz_localize("UTC")), ["expected datetime64[us]"]),
    ],
)
def test_what_is_wrong_is_said_with_its_rows(frame, parts):
    violations = validate(SCHEMA, frame)
    for part in parts:
        assert any(part in v for v in violations), violations


def test_a_rule_that_cannot_be_evaluated_counts_as_violated():
    violations = validate(SCHEMA, _frame().drop(columns="price"))
    assert any("price_is_not_thirteen could not be evaluated: KeyError" in v for v in violations)


def test_an_unknown_truth_counts_as_violated():
    schema = table_schema(
        "t", {"x": integer("x", nullable=True, dtype="Int64")}, checks=[row_rule("odd", lambda f: f["x"] > 1)]
    )
    frame = pd.DataFrame({"x": pd.array([2, None], dtype="Int64")})
    assert validate(schema, frame) == ["t: odd does not hold in 1 of 2 rows: row 1"]


def test_many_violations_are_counted_in_full_and_named_in_part():
    n = 200_000
    frame = pd.DataFrame({"ticker": pd.Series(["A"] * n, dtype="str"), "date": 0, "price": np.inf})
    frame["date"] = pd.date_range("1900-01-01", periods=n, freq="D", unit="s").astype("datetime64[us]")
    schema = table_schema("t", {"ticker": text(), "date": date(), "price": number()}, key=("ticker", "date"))
    (violation,) = validate(schema, frame)
    assert violation.startswith("t.price: is_finite does not hold in 200000 of 200000 rows: A 1900-01-01; A 1900-01-02")
    assert violation.count(";") == 4


def test_the_order_may_differ_from_the_key_or_be_free():
    columns = {"a": integer("a"), "b": integer("b")}
    frame = pd.DataFrame({"a": [2, 1, 1], "b": [1, 2, 3]})
    assert validate(table_schema("t", columns, key=("a", "b"), sort=("b",)), frame) == []
    assert validate(table_schema("t", columns, key=("a", "b"), sort=()), frame) == []
    assert len(validate(table_schema("t", columns, key=("a", "b")), frame)) == 1


def test_ties_in_the_order_are_sane_unless_the_key_forbids_them():
    columns = {"a": integer("a"), "b": integer("b")}
    frame = pd.DataFrame({"a": [1, 1, 2], "b": [9, 8, 7]})
    assert validate(table_schema("t", columns, sort=("a",)), frame) == []
    assert len(validate(table_schema("t", columns, sort=("a", "b")), frame)) == 1


def test_the_name_in_the_messages_can_be_given():
    assert validate(SCHEMA, _frame().iloc[:1], "snapshots of 2015")[0].startswith("snapshots of 2015: ")
