"""One file of bars from its bytes to days and numbers: the dialect first, then every cell under it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from k4_pipeline.config import SourceConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.dialect import Dialect, given_dialect
from k4_pipeline.market.dialect.headings import VALUES, incomplete_groups, minor_unit, unit_of, wide_date
from k4_pipeline.market.dialect.numbers import NumberFormat
from k4_pipeline.market.dialect.structure import cells_of
from k4_pipeline.market.files.beside import refuse_other_series
from k4_pipeline.market.files.columns import as_array, as_text, day_column, ticker_column, value_columns
from k4_pipeline.market.files.opening import TEXT_SUFFIXES, Entry, read_bytes
from k4_pipeline.market.files.partitions import partitions_of
from k4_pipeline.market.files.table import (
    CUT_SHORT,
    OPEN_NUMBER,
    OTHER_COLUMNS,
    SENT_COLUMNS,
    SURPLUS,
    SWAPPED,
    Again,
    Days,
    FileBars,
)
from k4_pipeline.market.files.text import read_text
from k4_pipeline.market.files.typed import check_rows, read_typed

_LARGE = 1_000_000  # rows of one file after which freed memory is given back at once
_SPLIT_STEP = 1.3  # an adjustment that moves by more than this share from bar to bar is a split, not a dividend


@dataclass(frozen=True)
class HowToRead:
    """What the user states about files; `need_ticker`: they hold many tickers."""

    need_ticker: bool
    prices: str
    given: Dialect
    max_rows: int
    max_bytes: int

    @classmethod
    def of(cls, config: SourceConfig, *, need_ticker: bool) -> HowToRead:
        """As the settings say."""
        given = given_dialect(config.dialect)
        return cls(need_ticker, config.prices, given, config.max_rows, config.max_file_mb * 1_000_000)


def cells_again(entry: Entry, how: HowToRead, n: int) -> Again:
    """Rows -> their cells as sent, read from the file once more; nothing when it has another number of rows by now."""
    return partial(_cells_again, entry, how, n)


def _cells_again(entry: Entry, how: HowToRead, n: int, rows: np.ndarray) -> dict[int, tuple[str, ...]]:
    with contextlib.suppress(BadInputError):
        file = read_entry(entry, how, also=rows)
        if len(file) == n:
            return {int(r): file.sent[int(r)] for r in rows if int(r) in file.sent}
    return {}


def read_entry(entry: Entry, how: HowToRead, *, also: np.ndarray | None = None) -> FileBars:
    """The rows of one file; the cells of those that are no bars, and of `also`, as sent.

    Raises `BadInputError` naming the file for what cannot be read at all.
    """
    need_ticker, prices, given, max_rows = how.need_ticker, how.prices, how.given, how.max_rows
    unread: list[tuple[str, int]] = []
    open_end = False
    notes: list[str] = []
    if entry.suffix in TEXT_SUFFIXES:
        data = read_bytes(entry, how.max_bytes)
        read = read_text(
            data, entry.label, need_ticker=need_ticker, prices=prices, given=given,
            partitions=partitions_of(entry.relative),
        )  # fmt: skip
        del data
        table, columns, groups = read.table, read.structure.columns, read.structure.groups
        unread, open_end = [(text, SURPLUS) for text in read.surplus], read.open_end
        names: list[str] = list(read.structure.names)
        date_at = read.structure.date_at
        dialect = replace(
            given,
            encoding=read.encoding,
            delimiter=read.structure.delimiter,
            preamble_lines=read.structure.preamble_lines,
            header_lines=read.structure.skip_lines - read.structure.preamble_lines,
        )
        if read.surplus:
            notes.append(
                f"{entry.label}: {len(read.surplus)} rows have more cells than the header and are refused, first: "
                f"{read.surplus[0]!r}"
            )
        if read.other_columns:
            unread += [(text, OTHER_COLUMNS) for text in read.other_columns]
            notes.append(
                f"{entry.label}: a second header differs from the first; the {len(read.other_columns)} rows below it "
                f"are refused, first: {read.other_columns[0]!r}"
            )
        if read.cut_row:
            unread.append((read.cut_row, CUT_SHORT))
            notes.append(
                f"{entry.label} ends without a line break, and its last row, {read.cut_row!r}, may lack its end: it is "
                "refused; get the file again, or add the line break where the row is whole"
            )
    else:
        table, columns, groups = read_typed(
            entry, need_ticker=need_ticker, prices=prices, max_rows=max_rows, max_bytes=how.max_bytes
        )
        names = table.column_names
        date_at = wide_date(names) if groups else 0
        dialect = replace(given, encoding=None, delimiter=None)
    check_rows(table.num_rows + len(unread), max_rows, entry.label)
    if groups:
        tickers: tuple[np.ndarray, list[str]] | None
        fields, tickers = _unpivot(table, names, groups, date_at)
        dialect = replace(dialect, layout="wide", columns={t: ", ".join(VALUES) for t in groups})
        if lacking := incomplete_groups(names):
            notes.append(f"{entry.label}: {len(lacking)} tickers lack columns and are left out, e.g. {lacking[0]}")
    else:
        fields = {}
        tickers = ticker_column(table.column(columns["ticker"])) if "ticker" in columns else None
        for field, own in columns.items():
            if field != "ticker":
                fields[field] = as_array(table.column(own))
            if list(columns.values()).count(own) == 1 and table.num_columns > 1:
                table = table.drop_columns([own])  # one column after the other: never the whole table twice
        dialect = replace(dialect, columns={f: c for f, c in columns.items() if f in SENT_COLUMNS}, prices=prices)
    found = _interpret(entry.label, fields, tickers, dialect, given, notes, also)
    del table, fields
    if len(found) > _LARGE:
        pa.default_memory_pool().release_unused()
    found.open_end = open_end
    found = _with_unread(found, unread, names) if unread else found
    found.again = cells_again(entry, how, len(found))
    return found


def _unpivot(
    table: pa.Table, names: list[str], groups: dict[str, dict[str, int]], date_at: int
) -> tuple[dict[str, pa.Array], tuple[np.ndarray, list[str]]]:
    """A wide table as a long one; a ticker has no row where all its cells are empty."""
    date = as_array(table.column(names[date_at]))
    parts: list[dict[str, pa.Array]] = []
    lengths = []
    for columns in groups.values():
        part = {f: as_array(table.column(names[i])) for f, i in columns.items() if f in VALUES}
        empty = np.ones(len(date), dtype=bool)
        for cells in part.values():
            blank = cells.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
            if pa.types.is_string(cells.type):
                blank = blank | (pa.compute.equal(cells, "").fill_null(True).to_numpy(zero_copy_only=False))
            empty &= blank
        keep = pa.array(~empty)
        parts.append({f: c.filter(keep) for f, c in {"date": date, **part}.items()})
        lengths.append(len(parts[-1]["date"]))
    fields = {f: pa.concat_arrays([p[f] for p in parts]) for f in ("date", *VALUES)}
    return fields, (np.repeat(np.arange(len(groups), dtype=np.int32), lengths), list(groups))


def _interpret(
    label: str,
    fields: dict[str, pa.Array],
    tickers: tuple[np.ndarray, list[str]] | None,
    dialect: Dialect,
    given: Dialect,
    notes: list[str],
    also: np.ndarray | None,
) -> FileBars:
    n = len(fields["date"])
    form = (
        NumberFormat(given.decimal, given.thousands or ("," if given.decimal == "." else "."))
        if given.decimal
        else None
    )
    texts = {f: fields[f] for f in VALUES}
    values, unclear, form = value_columns(texts, dialect.delimiter or "", form)
    fault = np.zeros(n, dtype=np.uint8)
    for mask in unclear.values():
        fault[mask] = OPEN_NUMBER
    if form.problem:
        notes.append(f"{label}: {form.problem}")
    days = day_column(fields["date"])
    if days.swapped is not None:
        fault[days.swapped & (fault == 0)] = SWAPPED
    code, names = tickers if tickers is not None else (np.full(n, -1, dtype=np.int32), [])
    bars = FileBars(
        label,
        code,
        names,
        days,
        values,
        fault,
        {},
        replace(dialect, decimal=form.decimal, thousands=form.thousands),
        notes,
    )
    _counted_in(bars, dialect.columns.get("volume", ""))
    if coin := minor_unit(dialect.columns.get("close", "")):
        bars.notes.append(f"{label}: prices are counted in {coin} by their headings and stay as they were sent")
    _tick_volume(bars, fields, dialect)
    _adjusted(bars, fields, dialect)
    refuse_other_series(bars, fields)
    rows = np.flatnonzero(bars.refused())
    if also is not None:
        rows = np.union1d(rows, also[also < n])
    if len(rows):
        take = pa.array(rows)
        cells = [as_text(fields[c].take(take)) for c in ("date", *VALUES)]
        own = [names[code[r]] if names else "" for r in rows]
        bars.sent = {int(r): (t, *row) for r, t, *row in zip(rows, own, *cells)}
    return bars


def _with_unread(bars: FileBars, unread: list[tuple[str, int]], headings: list[str]) -> FileBars:
    """Rows (text, fault) behind the others: nothing in them is trusted but their text and their ticker."""
    n, m = len(bars), len(unread)
    for i, (text, _) in enumerate(unread):
        bars.sent[n + i] = ("", text, "", "", "", "", "")
    nothing = np.full(m, np.iinfo(np.int32).min, dtype=np.int32)
    grown: dict[str, Any] = {"first": np.concatenate([bars.days.first, nothing])}
    for name in ("second", "numeric", "wall", "offset", "zoned"):
        old = getattr(bars.days, name)
        grown[name] = None if old is None else np.concatenate([old, np.zeros(m, dtype=old.dtype)])
    names, code = bars.names, bars.ticker
    if names:
        own = bars.dialect.columns.get("ticker", "")
        at = headings.index(own) if own in headings else len(headings)
        rows = [cells_of(text, bars.dialect.delimiter or ",") for text, _ in unread]
        tickers = [row[at].strip() if at < len(row) - 1 else "" for row in rows]
        known = {name: i for i, name in enumerate(names)}
        names = [*names, *({t: 0 for t in tickers if t not in known})]
        known = {name: i for i, name in enumerate(names)}
        code = np.concatenate([code, np.array([known[t] for t in tickers], dtype=np.int32)])
    else:
        code = np.concatenate([code, np.full(m, -1, dtype=np.int32)])
    return replace(
        bars,
        ticker=code,
        names=names,
        days=Days(**grown),
        values={f: np.concatenate([x, np.full(m, np.nan)]) for f, x in bars.values.items()},
        fault=np.concatenate([bars.fault, np.array([fault for _, fault in unread], dtype=np.uint8)]),
    )


def _counted_in(bars: FileBars, heading: str) -> None:
    """A heading such as `Volume (000s)` states a unit: the numbers are counted in it, and it is said."""
    unit = unit_of(heading)
    if unit != 1.0:
        bars.values["volume"] = np.round(bars.values["volume"] * unit, 6)
        bars.notes.append(f"{bars.label}: the volume is counted in {unit:,.0f} as its heading {heading!r} says")


def _tick_volume(bars: FileBars, fields: dict[str, pa.Array], dialect: Dialect) -> None:
    """MetaTrader writes 0 as volume and counts ticks beside it: then the ticks serve, and it is said."""
    if "tickvol" not in fields or np.any(bars.values["volume"] > 0):
        return
    ticks = value_columns({"volume": fields["tickvol"]}, dialect.delimiter or "", NumberFormat(".", ","))[0]["volume"]
    if np.any(ticks > 0):
        bars.values["volume"] = ticks
        bars.notes.append(f"{bars.label}: the volume is 0 throughout; the tick volume is used in its place")


def _adjusted(bars: FileBars, fields: dict[str, pa.Array], dialect: Dialect) -> None:
    """Say which of two sets of prices is used, and list the splits that the raw ones show."""
    full = all(f"adj_{v}" in fields for v in VALUES)
    if full:
        other = "raw" if dialect.prices == "adjusted" else "adjusted"
        bars.notes.append(
            f"{bars.label} holds raw and adjusted prices: the {dialect.prices} ones are used; "
            f"--set source.prices={other} takes the others"
        )
    if "adj_close" not in fields or dialect.prices == "adjusted" or len(bars) < 2:
        return
    adjusted = value_columns({"close": fields["adj_close"]}, dialect.delimiter or "", None)[0]["close"]
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = bars.values["close"] / adjusted
        step = factor[1:] / factor[:-1]
        far = (step > _SPLIT_STEP) | (step < 1 / _SPLIT_STEP)
        same = bars.ticker[1:] == bars.ticker[:-1]
    for row in np.flatnonzero(far & same & np.isfinite(step))[:20] + 1:
        name = bars.names[bars.ticker[row]] + " " if bars.names else ""
        day = str(np.datetime64(int(bars.days.first[row]), "D"))
        ratio = 1 / step[row - 1]
        bars.notes.append(f"{bars.label}: {name}raw prices show a split of about {ratio:.3g}:1 at {day}")
