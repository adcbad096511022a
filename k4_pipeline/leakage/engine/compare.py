"""Two versions of one table compared by key, to the bit, with findings that say what differs and what is expected.

The first version knows the future (the full run, the stored table), the second does not (the replay). A finding names
table, key, column, value, the value without the future, and the likely cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS

# Row numbers count in the bars of their own run; their distances do not.
ROW_NUMBERS = ("end_row", "first_row", "start_row", "activation_row")
MAX_LISTED = 21  # one more than a verdict shows, so that it can say "and more"


@dataclass
class Comparison:
    """What was compared so far: cells, differing cells and the first findings."""

    cases: int = 0
    differing: int = 0
    findings: list[str] = field(default_factory=list)

    def add(self, cases: int, differing: int, findings: Iterator[str] | Sequence[str] = ()) -> None:
        """Count `cases`; take findings while there is room."""
        self.cases += int(cases)
        self.differing += int(differing)
        for text in findings:
            if len(self.findings) >= MAX_LISTED:
                break
            self.findings.append(text)

    @property
    def full(self) -> bool:
        """As many findings as a verdict shows: it has failed, and further comparisons would add nothing to read."""
        return len(self.findings) >= MAX_LISTED

    def merge(self, other: Comparison) -> Comparison:
        """Add another comparison's counts and findings; returns self."""
        self.add(other.cases, other.differing, other.findings)
        return self


def as_values(values: pd.Series | np.ndarray) -> np.ndarray:
    """A column as a plain array in which equal cells are equal values (unknown classes and dates included)."""
    if isinstance(values, pd.Series):
        if values.dtype == "Int8":
            return values.fillna(-128).to_numpy(dtype=np.int64)
        if values.dtype.kind == "M":
            return values.to_numpy(dtype="datetime64[us]").view(np.int64)
        values = values.to_numpy(dtype=object) if values.dtype.kind not in "fiub" else values.to_numpy()
    return values


def differ(a: pd.Series | np.ndarray, b: pd.Series | np.ndarray) -> np.ndarray:
    """Elementwise: other bits, where all NaN count as one value and -0 differs from 0."""
    a, b = as_values(a), as_values(b)
    if a.dtype.kind != "f" or a.dtype != b.dtype:
        return np.asarray(a != b)
    kind = {4: np.uint32, 8: np.uint64}[a.dtype.itemsize]
    wrong = np.ascontiguousarray(a).view(kind) != np.ascontiguousarray(b).view(kind)
    if wrong.any():
        wrong &= ~(np.isnan(a) & np.isnan(b))
    return wrong


def shown(value: object) -> str:
    """A cell as findings show it."""
    if value is None or value is pd.NaT or value is pd.NA:
        return "unknown"
    if isinstance(value, (pd.Timestamp, np.datetime64)):
        return "unknown" if pd.isna(value) else str(pd.Timestamp(value).date())
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.9g}"
    return str(value)


def key_text(row: pd.Series | dict, keys: Sequence[str]) -> str:
    """The key of a row in words."""
    return " ".join(shown(row[k]) if k == "ticker" else f"{k}={shown(row[k])}" for k in keys)


def _key_codes(frame: pd.DataFrame, keys: Sequence[str]) -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays([frame[k].to_numpy(dtype=object) for k in keys])


def relative(sequences: pd.DataFrame) -> pd.DataFrame:
    """The sequences table with row numbers counted from the first row of their ticker."""
    return sequences.assign(**{name: sequences[name] - sequences["first_row"] for name in ROW_NUMBERS})


class Columns:
    """Columns of a table as plain arrays, made once, for the many comparisons in which nothing differs.

    `counted`: row numbers are counted as `relative` does. Where something differs, `compare_tables` says what.
    """

    def __init__(self, table: pd.DataFrame, names: Sequence[str], *, counted: bool = False) -> None:
        self.names, self.counted = names, counted
        self.values = [self._column(table, name) for name in names if name in table.columns]

    def _column(self, table: pd.DataFrame, name: str) -> np.ndarray:
        values = as_values(table[name])
        return values - table["first_row"].to_numpy() if self.counted and name in ROW_NUMBERS else values

    def equal(self, rows: np.ndarray, other: pd.DataFrame, rows_again: np.ndarray | None = None) -> bool:
        """Whether the chosen rows (masks; all of `other` by default) are equal in order and to the bit."""
        if len(self.values) < len(self.names) or not set(self.names) <= set(other.columns):
            return False
        for name, known in zip(self.names, self.values):
            a, b = known[rows], self._column(other, name)
            b = b if rows_again is None else b[rows_again]
            if len(a) != len(b) or differ(a, b).any():
                return False
        return True


def compare_tables(
    table: str,
    known: pd.DataFrame,
    replayed: pd.DataFrame,
    keys: Sequence[str],
    columns: Sequence[str],
    *,
    when: str,
    cause: str,
) -> Comparison:
    """Rows of `known` (with the future) against `replayed` (without), both already restricted to what must agree.

    `when` says how the future was taken away ("bars cut at 2020-01-31"), `cause` what a difference probably means.
    """
    out = Comparison()
    same_keys = len(known) == len(replayed) and all(not differ(known[k], replayed[k]).any() for k in keys)
    if not same_keys:
        a, b = _key_codes(known, keys), _key_codes(replayed, keys)
        for frame, index in ((known, a), (replayed, b)):
            twice = index.duplicated()
            if twice.any():
                row = frame.iloc[int(np.flatnonzero(twice)[0])]
                out.add(
                    0,
                    int(twice.sum()),
                    [f"{table}: {key_text(row, keys)} is duplicated ({when}); rows were duplicated"],
                )
        at = b.get_indexer(a) if b.is_unique else b.drop_duplicates().get_indexer(a)
        gone = at < 0
        out.add(
            len(known),
            int(gone.sum()),
            (
                f"{table}: {key_text(known.iloc[i], keys)}: the row exists, without the future ({when}) it does not; "
                f"{cause}"
                for i in np.flatnonzero(gone)
            ),
        )
        extra = ~b.isin(a)
        out.add(
            int(extra.sum()),
            int(extra.sum()),
            (
                f"{table}: {key_text(replayed.iloc[i], keys)}: the row is missing, without the future ({when}) it "
                f"exists; {cause}"
                for i in np.flatnonzero(extra)
            ),
        )
        if not b.is_unique:
            return out
        known, replayed = known[~gone], replayed.iloc[at[~gone]]
    for column in columns:
        if column not in known.columns or column not in replayed.columns:
            out.add(1, 1, [f"{table}: column {column} is missing on one side ({when})"])
            continue
        wrong = differ(known[column], replayed[column])
        out.add(
            len(wrong),
            int(wrong.sum()),
            (
                f"{table}: {key_text(known.iloc[i], keys)}: {column} is {shown(known[column].iloc[i])}, without the "
                f"future ({when}) {shown(replayed[column].iloc[i])}; {cause}"
                for i in np.flatnonzero(wrong)[:MAX_LISTED]
            ),
        )
    return out


def compare_arrays(
    table: str,
    keys: pd.DataFrame,
    known: np.ndarray,
    replayed: np.ndarray,
    names: Sequence[str],
    *,
    when: str,
    cause: str,
    key_columns: Sequence[str] = tuple(KEYS),
) -> Comparison:
    """Arrays (n, ..., channels) of the rows in `keys` (n), to the bit; the last axis is called by `names`."""
    out = Comparison()
    if known.shape != replayed.shape or known.dtype != replayed.dtype:
        out.add(
            1, 1, [f"{table}: {known.dtype} {known.shape} became {replayed.dtype} {replayed.shape} ({when}); {cause}"]
        )
        return out
    wrong = differ(known, replayed)
    out.add(wrong.size, int(wrong.sum()))
    if wrong.any():
        lines = []
        for at in np.argwhere(wrong)[: 4 * MAX_LISTED : 4]:
            row, channel = int(at[0]), names[int(at[-1])] if len(at) > 1 else names[0]
            bar = f" bar {int(at[1]) + 1} of {known.shape[1]}" if len(at) > 2 else ""
            lines.append(
                f"{table}: {key_text(keys.iloc[row], key_columns)}{bar}: {channel} is {shown(known[tuple(at)])}, "
                f"without the future ({when}) {shown(replayed[tuple(at)])}; {cause}"
            )
        out.add(0, 0, lines)
    return out
