"""Rows of a text file that are not like the others: headers further down, rows of another width, open quotes."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.dialect.headings import KNOWN_HEADINGS, plain
from k4_pipeline.market.dialect.structure import Structure, cells_of

_SWALLOWED = 4  # lines in one quoted cell: no name of a company is that long
_QUOTED = re.compile(rb'"[^"]*(?:"|\Z)')


def sort_out(
    table: pa.Table, texts: list[str], structure: Structure, wanted: list[str]
) -> tuple[pa.Table, list[str], list[str]]:
    """(the table with short rows behind it, rows of too many cells, rows below a header that differs).

    `texts`: rows of another width, which the parser left out. Where one of them is a header, nothing tells which of the
    others stand below it, so none of them is read.
    """
    width = len(structure.names)
    table, below = _cut_at_second_header(table, structure)
    short: list[list[str]] = []
    surplus: list[str] = []
    rows = [(text, cells) for text in texts if "".join(cells := cells_of(text, structure.delimiter)).strip()]
    headed = any(_is_header(cells) for _, cells in rows)
    for text, cells in rows:
        if headed:
            below.append(text)
        elif len(cells) > width and "".join(cells[width:]).strip():
            surplus.append(text)
        else:
            short.append([*cells, *[""] * width][:width])
    if short:
        places = [structure.names.index(name) for name in wanted]
        more = pa.table({n: pa.array([row[i] for row in short], pa.string()) for n, i in zip(wanted, places)})
        table = pa.concat_tables([table, more]).combine_chunks()
    return table, surplus, below


def _is_header(cells: list[str]) -> bool:
    return sum(plain(c) in KNOWN_HEADINGS for c in cells if c.strip()) >= 4


def _cut_at_second_header(table: pa.Table, structure: Structure) -> tuple[pa.Table, list[str]]:
    """(the table without repeated headers and without what stands below another one, those rows as text)."""
    if not structure.columns:
        return table, []
    own = structure.columns["date"]
    if own not in table.column_names:  # the folder names the day
        own = structure.columns["close"]
    words = pa.array(sorted({*KNOWN_HEADINGS, own.lower(), f"<{own.lower()}>"}))
    hits = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(table.column(own))), words).to_numpy()
    if not hits.any():
        return table, []
    keep = ~hits
    for at in hits.nonzero()[0].tolist():
        cells = {name: str(table.column(name)[at].as_py()).strip() for name in table.column_names}
        if not _is_header(list(cells.values())):
            keep[at] = True
        elif any(cell.lower() != name.lower() for name, cell in cells.items()):
            below = [structure.delimiter.join(map(str, row.values())) for row in table.slice(at).to_pylist()]
            return table.slice(0, at).filter(pa.array(keep[:at])), below[1:]
    return table.filter(pa.array(keep)), []


def refuse_open_quotes(data: bytes, n_rows: int, where: str) -> None:
    """`BadInputError` when a quote that is never closed swallows whole rows, which would be lost without a word."""
    if data.count(b"\n") - n_rows < _SWALLOWED or b'"' not in data:
        return
    for match in _QUOTED.finditer(data):
        lines = match[0].count(b"\n")
        if lines >= _SWALLOWED:
            line = data.count(b"\n", 0, match.start()) + 1
            raise BadInputError(
                f"{where}: the quote opened in line {line} swallows {lines} lines; close or remove it, then read again"
            )
