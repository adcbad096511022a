"""Delimiter, header and layout of a text file, from its first lines: the reading under which the columns are found."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.dialect.headings import (
    VALUES,
    field_of,
    fields_of,
    match_columns,
    plain,
    wide_date,
    wide_groups,
)

DELIMITERS = (",", ";", "\t", "|")
_LOOK_LINES = 30  # a header further down is none


@dataclass(frozen=True)
class Structure:
    """Where the header stands and what it names. `groups`: ticker -> field -> column number, for wide files, whose
    dates stand in column `date_at`."""

    delimiter: str
    skip_lines: int  # lines before the first row
    preamble_lines: int
    names: tuple[str, ...]
    columns: dict[str, str] = field(default_factory=dict)
    groups: dict[str, dict[str, int]] = field(default_factory=dict)
    date_at: int = 0


def cells_of(line: str, delimiter: str) -> list[str]:
    """The cells of one line by the rules of CSV."""
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])


def find_structure(
    lines: Sequence[str],
    *,
    where: str,
    need_ticker: bool,
    prices: str = "raw",
    delimiter: str | None = None,
    beside: Sequence[str] = (),
) -> Structure:
    """The structure under which the needed columns are found; `BadInputError` saying what stood in the way.

    `beside`: headings of columns that stand outside the file, in the names of its folders.
    """
    candidates = [delimiter] if delimiter else sorted(DELIMITERS, key=lambda d: -lines[0].count(d))
    if not delimiter and lines[0].lower().startswith("sep=") and len(lines[0].strip()) >= 5:
        candidates = [lines[0][4]]
    first_problem: BadInputError | None = None
    for sign in candidates:
        for at, line in enumerate(lines[:_LOOK_LINES]):
            names = [c.strip() for c in cells_of(line, sign)]
            if len(names) < 5:
                continue
            rows = [cells_of(text, sign) for text in lines[at + 1 : at + 3]]
            if wide := _two_row_header(names, rows):
                groups, extra = wide
                return Structure(sign, at + extra, at, tuple(_unique(names)), {}, groups)
            try:
                more = [b for b in beside if not fields_of(b) & set().union(*map(fields_of, names))]
                columns = match_columns([*names, *more], where=where, need_ticker=need_ticker, prices=prices)
            except BadInputError as problem:
                if groups := wide_groups(names):
                    return Structure(sign, at + 1, at, tuple(_unique(names)), {}, groups, wide_date(names))
                told = first_problem is None or ("may be" in str(problem) and "may be" not in str(first_problem))
                first_problem = problem if told else first_problem
                continue
            return Structure(sign, at + 1, at, tuple(_unique(names)), columns)
    if first_problem is not None:
        raise first_problem
    names = [c.strip() for c in cells_of(lines[0], candidates[0] or ",")]
    match_columns(names, where=where, need_ticker=need_ticker, prices=prices)
    raise BadInputError(f"{where}: no header with at least five columns in its first {_LOOK_LINES} lines")


def _two_row_header(names: list[str], rows: list[list[str]]) -> tuple[dict[str, dict[str, int]], int] | None:
    """(groups, header lines) of a header in two rows, fields and tickers in either order, as pandas saves frames."""
    if len(rows) < 2 or len(rows[0]) != len(names):
        return None
    below = [c.strip() for c in rows[0]]
    fields, tickers = [field_of(n) for n in names], below
    if not all(fields[1:]):
        fields, tickers = [field_of(n) for n in below], names
    if not all(fields[1:]) or any(not t or field_of(t) for t in tickers[1:]):
        return None
    if any(t[:1].isdigit() and t.replace(".", "", 1).replace(",", "").isdigit() for t in below[1:]):
        return None  # a first row of numbers
    groups: dict[str, dict[str, int]] = {}
    for i, (name, ticker) in enumerate(zip(fields[1:], tickers[1:]), start=1):
        if name in groups.setdefault(ticker, {}):
            return None
        groups[ticker][name] = i
    groups = {t: f for t, f in groups.items() if set(VALUES) <= f.keys()}
    third = [c.strip() for c in rows[1]]
    dated = plain(third[0] if third else "") in ("date", "datetime") and not any(third[1:])
    return (groups, 3 if dated else 2) if groups else None


def _unique(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return out
