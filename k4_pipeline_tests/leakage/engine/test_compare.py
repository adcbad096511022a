"""Tables are compared by key and to the bit; findings say what is known and what should be."""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.leakage.engine.compare import (
    ROW_NUMBERS,
    Columns,
    Comparison,
    compare_arrays,
    compare_tables,
    differ,
    relative,
)

KEYS = ["ticker", "date"]


def table(values: list[float], tickers: str = "AB") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "ticker": pd.Series(list(tickers), dtype="str"),
            "date": pd.to_datetime(["2024-01-02"] * len(tickers)),
            "x": np.array(values, dtype=np.float64),
        }
    )


def run(a: pd.DataFrame, b: pd.DataFrame):
    return compare_tables("panel", a, b, KEYS, ["x"], when="bars cut at 2024-01-02", cause="a shift")


def test_equal_tables_have_cases_and_no_finding():
    out = run(table([1.0, np.nan]), table([1.0, np.nan]))
    assert (out.cases, out.differing, out.findings) == (2, 0, [])


def test_a_finding_names_table_key_value_expectation_and_cause():
    out = run(table([1.0, 2.5]), table([1.0, 2.0]))
    assert out.findings == [
        "panel: B date=2024-01-02: x is 2.5, without the future (bars cut at 2024-01-02) 2; a shift"
    ]


def test_one_unit_in_the_last_place_is_a_difference():
    assert run(table([1.0, 2.0]), table([1.0, np.nextafter(2.0, 3)])).differing == 1


def test_rows_are_matched_by_key_not_by_position():
    assert run(table([1.0, 2.0]), table([2.0, 1.0], "BA")).differing == 0


def test_rows_that_appear_or_vanish_are_findings():
    assert "the row exists" in run(table([1.0, 2.0]), table([1.0], "A")).findings[0]
    assert "the row is missing" in run(table([1.0], "A"), table([1.0, 2.0])).findings[0]


def test_duplicated_rows_are_findings():
    assert "is duplicated" in run(table([1.0, 1.0], "AA"), table([1.0], "A")).findings[0]


def test_a_missing_column_is_a_finding():
    assert "column x is missing" in run(table([1.0, 2.0]).drop(columns="x"), table([1.0, 2.0])).findings[0]


def test_unknown_classes_and_dates_compare_as_equal():
    classes = pd.Series(pd.array([1, None], dtype="Int8"))
    dates = pd.Series(pd.to_datetime(["2024-01-02", None]))
    assert not differ(classes, classes.copy()).any()
    assert not differ(dates, dates.copy()).any()
    assert differ(classes, pd.Series(pd.array([1, 0], dtype="Int8"))).tolist() == [False, True]


def test_negative_zero_differs_from_zero():
    assert differ(np.array([0.0]), np.array([-0.0])).all()


def test_arrays_of_other_shapes_are_a_finding():
    keys = table([1.0, 2.0])
    out = compare_arrays("x", keys, np.zeros((2, 3)), np.zeros((2, 4)), "abc", when="w", cause="c", key_columns=KEYS)
    assert out.differing == 1


def test_rows_are_the_same_exactly_when_the_comparison_by_key_finds_nothing():
    known = table([1.0, np.nan, -0.0, 4.0], "ABCD")
    chosen, columns = np.array([True, True, True, False]), Columns(known, [*KEYS, "x"])
    for values, same in (
        ([1.0, np.nan, -0.0], True),
        ([1.0, np.nan, 0.0], False),
        ([1.0, 2.0, -0.0], False),
        ([np.nextafter(1.0, 2.0), np.nan, -0.0], False),
    ):
        again = table(values, "ABC")
        assert columns.equal(chosen, again) is same
        assert columns.equal(chosen, pd.concat([again, known]), np.arange(7) < 3) is same
        assert (run(known[chosen], again).differing == 0) is same
    assert not columns.equal(chosen, table([1.0, np.nan], "AB"))
    assert not columns.equal(chosen, table([1.0, np.nan, -0.0], "ABX"))
    assert not columns.equal(chosen, known, np.ones(4, dtype=bool))
    assert not columns.equal(chosen, known.drop(columns="x"), chosen)
    assert not Columns(known.drop(columns="x"), [*KEYS, "x"]).equal(chosen, known, chosen)


def test_row_numbers_are_counted_from_the_first_row_of_their_ticker():
    known = table([10.0, 14.0]).assign(first_row=[10, 10], end_row=[12, 14], start_row=10, activation_row=[11, 12])
    again = known.assign(**{name: known[name] + 40 for name in ROW_NUMBERS})
    both, names = np.ones(2, dtype=bool), [*KEYS, *ROW_NUMBERS]
    assert not Columns(known, names).equal(both, again, both)
    counted = Columns(known, names, counted=True)
    assert counted.equal(both, again, both)
    assert not counted.equal(both, again.assign(end_row=[52, 55]), both)
    assert run(relative(known), relative(again)).differing == 0
    assert relative(known)["end_row"].tolist() == [2, 4]


def test_a_comparison_is_full_when_a_verdict_shows_no_more():
    out = Comparison()
    out.add(5, 5, ["a"] * 5)
    assert not out.full
    out.add(50, 50, ["a"] * 50)
    assert out.full
    assert (out.cases, out.differing) == (55, 55)
