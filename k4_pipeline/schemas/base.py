"""How every table schema is built and checked: one factory, a handful of column kinds, one `validate`.

Plain pandera accepts +inf, empty frames, extra columns, unsorted rows, object columns where text was declared and
nanoseconds where microseconds were. A schema from `table_schema` accepts none of these:

    MY_TABLE = table_schema(
        "my_table",
        {"ticker": text("exchange ticker"), "date": date("session"), "close": number("closing price", gt=0.0)},
        key=("ticker", "date"),
        checks=(row_rule("close_is_below_a_million", lambda frame: frame["close"] < 1e6),),
    )
    violations = validate(MY_TABLE, frame)  # [] or sentences naming the rows by key

Rules are named as propositions. Row rules see the whole frame and return one bool per row; a rule that raises counts as
violated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaError, SchemaErrorReason, SchemaErrors

EXAMPLES = 5  # rows named per violation

# pandera builds one frame of failing values per check; the full list of rows is taken from the check's output instead.
_LIMIT: dict[str, Any] = {"n_failure_cases": EXAMPLES}

_DTYPES = "columns_have_their_declared_dtypes"


def _column(dtype: Any, description: str, checks: list[pa.Check], nullable: bool) -> pa.Column:
    # The dtype stands in the metadata and is compared exactly by a frame rule: pandera's own comparison is too kind.
    return pa.Column(
        None,
        checks,
        nullable=nullable,
        description=description,
        metadata={"dtype": str(pd.api.types.pandas_dtype(dtype))},
    )


def _bounds(
    gt: float | None = None, ge: float | None = None, lt: float | None = None, le: float | None = None
) -> list[pa.Check]:
    checks = []
    if gt is not None:
        checks.append(pa.Check.gt(gt, name=f"is_greater_than_{gt:g}", **_LIMIT))
    if ge is not None:
        checks.append(pa.Check.ge(ge, name=f"is_at_least_{ge:g}", **_LIMIT))
    if lt is not None:
        checks.append(pa.Check.lt(lt, name=f"is_less_than_{lt:g}", **_LIMIT))
    if le is not None:
        checks.append(pa.Check.le(le, name=f"is_at_most_{le:g}", **_LIMIT))
    return checks


def text(description: str = "", *, nullable: bool = False, empty: bool = False) -> pa.Column:
    """A "str" column; the empty string is refused unless `empty`."""
    checks = [] if empty else [pa.Check(lambda s: s != "", name="is_not_empty", **_LIMIT)]
    return _column("str", description, checks, nullable)


def category(values: Sequence[str], description: str = "", *, nullable: bool = False) -> pa.Column:
    """A "str" column that holds nothing but `values`."""
    return _column(
        "str", description, [pa.Check.isin(list(values), name=f"is_one_of_{'|'.join(values)}", **_LIMIT)], nullable
    )


def date(description: str = "", *, nullable: bool = False) -> pa.Column:
    """A datetime64[us] column of whole days without a time zone."""
    whole_days = pa.Check(lambda s: s == s.dt.normalize(), name="is_midnight", **_LIMIT)
    return _column("datetime64[us]", description, [whole_days], nullable)


def number(
    description: str = "",
    *,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
    nullable: bool = False,
    dtype: str = "float64",
) -> pa.Column:
    """A float column; infinities are always refused, NaN unless `nullable`."""
    finite = pa.Check(lambda s: ~np.isinf(s), name="is_finite", **_LIMIT)
    return _column(dtype, description, [finite, *_bounds(gt, ge, lt, le)], nullable)


def integer(
    description: str = "",
    *,
    ge: int | None = None,
    le: int | None = None,
    nullable: bool = False,
    dtype: str = "int64",
) -> pa.Column:
    """An integer column; pass dtype="Int8" (or another nullable kind) with `nullable` for missing values."""
    return _column(dtype, description, _bounds(ge=ge, le=le), nullable)


def flag(description: str = "") -> pa.Column:
    """A bool column."""
    return _column("bool", description, [], nullable=False)


def row_rule(name: str, holds: Callable[[pd.DataFrame], Any]) -> pa.Check:
    """A proposition about each row: `holds(frame)` gives one bool per row. NA counts as violated."""

    def run(frame: pd.DataFrame) -> pd.Series:
        return pd.Series(np.asarray(pd.array(holds(frame), dtype="boolean").fillna(False)), index=frame.index)

    return pa.Check(run, name=name, ignore_na=False, **_LIMIT)


def table_rule(name: str, holds: Callable[[pd.DataFrame], bool]) -> pa.Check:
    """A proposition about the table as a whole: `holds(frame)` gives one bool."""
    return pa.Check(lambda frame: bool(holds(frame)), name=name, ignore_na=False)


def _codes(column: pd.Series) -> np.ndarray:
    # Text is replaced by its rank among the values present: comparing integers is many times faster.
    if isinstance(column.dtype, pd.StringDtype) or column.dtype == object:
        return pd.factorize(column, sort=True)[0]
    return column.to_numpy()


def _is_sorted(frame: pd.DataFrame, by: Sequence[str]) -> np.ndarray:
    """Whether each row comes after or ties with the one before it in lexicographic order of `by`; (n,) bool."""
    after = np.ones(len(frame), dtype=bool)
    tied = np.ones(max(len(frame) - 1, 0), dtype=bool)
    for name in by:
        values = _codes(frame[name])
        after[1:] &= ~tied | (values[1:] >= values[:-1])
        tied &= values[1:] == values[:-1]
    return after


def table_schema(
    name: str,
    columns: Mapping[str, pa.Column],
    *,
    key: Sequence[str] = (),
    sort: Sequence[str] | None = None,
    min_rows: int = 1,
    checks: Iterable[pa.Check] = (),
    description: str = "",
) -> pa.DataFrameSchema:
    """The strict schema of one table.

    `columns` in their order, nothing more; `key` columns together name a row once; rows ascend by `sort` (default: the
    key; pass () for no order); at least `min_rows` rows; the index is 0..n-1. `checks` are row or table rules.
    """
    order = tuple(key if sort is None else sort)
    expected = {column: (spec.metadata or {})["dtype"] for column, spec in columns.items()}

    def dtypes_match(frame: pd.DataFrame) -> bool:
        return all(str(frame[column].dtype) == dtype for column, dtype in expected.items() if column in frame)

    rules = [
        table_rule(_DTYPES, dtypes_match),
        table_rule(f"has_at_least_{min_rows}_rows", lambda frame: len(frame) >= min_rows),
        table_rule("index_counts_from_zero", lambda frame: frame.index.equals(pd.RangeIndex(len(frame)))),
    ]
    if key:
        unique = f"{'_and_'.join(key)}_name_a_row_once"
        rules.append(row_rule(unique, lambda frame: ~frame.duplicated(subset=list(key), keep="first")))
    if order:
        rules.append(row_rule(f"rows_ascend_by_{'_and_'.join(order)}", lambda frame: _is_sorted(frame, order)))
    return pa.DataFrameSchema(
        dict(columns),
        checks=[*rules, *checks],
        strict=True,
        ordered=True,
        name=name,
        description=description,
        metadata={"key": tuple(key), "sort": order, "min_rows": min_rows, "dtypes": expected},
    )


def _row_name(frame: pd.DataFrame, key: Sequence[str], position: Any) -> str:
    if not key or any(column not in frame for column in key) or position not in frame.index:
        return f"row {position}"
    row = frame.loc[position, list(key)]
    if isinstance(row, pd.DataFrame):  # an index that holds a label twice
        row = row.iloc[0]
    return " ".join(f"{v:%Y-%m-%d}" if isinstance(v, pd.Timestamp) else str(v) for v in row)


def _dtype_report(frame: pd.DataFrame, expected: Mapping[str, str]) -> str:
    wrong = [
        f"{column} is {frame[column].dtype}, expected {dtype}"
        for column, dtype in expected.items()
        if column in frame and str(frame[column].dtype) != dtype
    ]
    return ", ".join(wrong)


def _violating_rows(error: SchemaError) -> list[Any]:
    """Index labels of the rows a check refused; empty when the whole table is meant."""
    output = getattr(error, "check_output", None)
    if isinstance(output, pd.Series) and output.dtype == bool:
        return output.index[~output.to_numpy()].tolist()
    cases = getattr(error, "failure_cases", None)
    if isinstance(cases, pd.DataFrame) and "index" in cases:
        return list(dict.fromkeys(i for i in cases["index"].tolist() if i is not None and i == i))
    return []


def _sentence(error: SchemaError, frame: pd.DataFrame, title: str, meta: Mapping[str, Any]) -> str:
    rule = getattr(error.check, "name", None) or str(error.check)
    where = f"{title}.{error.schema.name}" if isinstance(error.schema, pa.Column) else title
    cases = getattr(error, "failure_cases", None)
    case = str(cases["failure_case"].iloc[0]) if isinstance(cases, pd.DataFrame) and len(cases) else str(cases)
    if rule == "column_in_schema":
        return f"{title}: it has a column {case!r} that is not declared; declared are {', '.join(meta['dtypes'])}"
    if rule == "column_in_dataframe":
        return f"{title}: the declared column {case!r} is missing; it has {', '.join(map(str, frame.columns))}"
    if rule == "column_ordered":
        return f"{title}: column {case!r} is not in its place; the order is {', '.join(meta['dtypes'])}"
    if rule == _DTYPES:
        return f"{title}: {rule} does not hold: {_dtype_report(frame, meta['dtypes'])}"
    if error.reason_code is SchemaErrorReason.CHECK_ERROR:
        return f"{where}: {rule} could not be evaluated: {case.splitlines()[0]}"
    rows = _violating_rows(error)
    if rows:
        examples = "; ".join(_row_name(frame, meta.get("key", ()), i) for i in rows[:EXAMPLES])
        more = ", ..." if len(rows) > EXAMPLES else ""
        return f"{where}: {rule} does not hold in {len(rows)} of {len(frame)} rows: {examples}{more}"
    return f"{where}: {rule} does not hold (the table has {len(frame)} rows)"


def validate(schema: pa.DataFrameSchema, frame: pd.DataFrame, name: str | None = None) -> list[str]:
    """Every violated proposition as one sentence with the number of rows and the keys of the first ones; [] when sane.

    A rule that cannot be evaluated (a column is missing, say) is reported as violated, never skipped.
    """
    title = name or schema.name or "table"
    meta: dict[str, Any] = schema.metadata or {}
    try:
        schema.validate(frame, lazy=True)
        return []
    except SchemaErrors as problem:
        errors: list[SchemaError] = problem.schema_errors
    return [_sentence(error, frame, title, meta) for error in errors]
