"""Text files as Arrow columns of text under the structure found; rows of another width are kept as sent."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.csv as csv

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.dialect import Dialect
from k4_pipeline.market.dialect.encoding import to_utf8
from k4_pipeline.market.dialect.headings import FIELDS, match_columns
from k4_pipeline.market.dialect.structure import DELIMITERS, Structure, cells_of, find_structure
from k4_pipeline.market.files.last_row import split_cut_row
from k4_pipeline.market.files.odd_rows import refuse_open_quotes, sort_out
from k4_pipeline.market.files.partitions import with_partitions

_HEAD, _PIECE = 1 << 15, 1 << 12
_known: dict[tuple[object, ...], Structure] = {}
_lock = threading.Lock()


@dataclass
class TextTable:
    """Columns by the file's own (unique) headings, the structure, and the rows that did not fit it, as sent."""

    table: pa.Table
    structure: Structure
    encoding: str
    surplus: list[str] = field(default_factory=list)
    other_columns: list[str] = field(default_factory=list)  # rows below a header that differs from the first
    cut_row: str = ""  # the row inside which the file ends
    open_end: bool = False  # no line break behind a last row that looks whole


def read_text(
    data: bytes, where: str, *, need_ticker: bool, prices: str, given: Dialect, partitions: dict[str, str] | None = None
) -> TextTable:
    """The cells of a text file; `partitions` (partitions.py) serve for columns it lacks.

    Raises `BadInputError` naming the file for what is no table of bars.
    """
    if not data.strip():
        raise BadInputError(f"{where} is empty; get it again or remove it")
    data, encoding = to_utf8(data, where, given.encoding, lambda text: _has_header(text, need_ticker))
    lines = data[:_HEAD].decode(errors="replace").splitlines()
    folders = partitions or {}
    structure = _structure(lines, where, need_ticker, prices, given.delimiter, tuple(folders))
    width, rows = len(structure.names), _sample(data, lines, structure.skip_lines)
    widths = [len(cells_of(line, structure.delimiter)) for line in rows]
    trailing = sum(w == width + 1 for w in widths) > 0.5 * len(widths)
    if trailing and any(cells_of(r, structure.delimiter)[-1] for r, w in zip(rows, widths) if w == width + 1):
        raise BadInputError(
            f"{where}: its rows have {width + 1} cells and its header {width}: which column lacks a name? first row: "
            f"{rows[0]!r}"
        )
    names = [*structure.names, *(["surplus cell"] if trailing else [])]
    odd: list[csv.InvalidRow] = []

    def keep(row: csv.InvalidRow) -> str:
        odd.append(row)
        return "skip"

    wanted = list(structure.columns.values())
    if structure.groups:
        wanted = [
            names[structure.date_at],
            *(names[i] for fields in structure.groups.values() for i in fields.values()),
        ]
    wanted = [name for name in dict.fromkeys(wanted) if name not in folders or name in structure.names]
    open_end = not data.endswith((b"\n", b"\r"))
    data, cut_row = split_cut_row(data, structure, _read_places(names, structure, wanted))
    try:
        table = csv.read_csv(
            pa.BufferReader(data),
            read_options=csv.ReadOptions(
                column_names=names, skip_rows=structure.skip_lines, use_threads=len(data) > 1 << 24, block_size=1 << 24
            ),
            parse_options=csv.ParseOptions(delimiter=structure.delimiter, invalid_row_handler=keep),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), include_columns=wanted, strings_can_be_null=False,
            ),
        )  # fmt: skip
    except pa.ArrowInvalid as problem:
        if "Empty CSV" not in str(problem):
            raise BadInputError(f"{where} cannot be read as a table: {' '.join(str(problem).split())[:200]}") from (
                problem
            )
        table = pa.table({name: pa.array([], pa.string()) for name in wanted})
    refuse_open_quotes(data, table.num_rows + len(odd), where)
    texts = [row.text.rstrip("\r\n") for row in odd]
    table, surplus, other_columns = sort_out(table.combine_chunks(), texts, structure, wanted)
    table = with_partitions(table, {n: v for n, v in folders.items() if n in structure.columns.values()})
    return TextTable(table, structure, encoding, surplus, other_columns, cut_row, open_end and not cut_row)


def _read_places(names: list[str], structure: Structure, wanted: list[str]) -> list[int]:
    """The numbers of the columns that bars are made of."""
    beside = {own for field, own in structure.columns.items() if field not in FIELDS}
    return [names.index(name) for name in wanted if name not in beside]


def _structure(
    lines: list[str], where: str, need_ticker: bool, prices: str, delimiter: str | None, beside: tuple[str, ...]
) -> Structure:
    # Files of one vendor share their header: found once. A two-row header depends on the rows below it.
    key = (lines[0], need_ticker, prices, delimiter, beside)
    known = _known.get(key)
    if known is not None:
        return known
    found = find_structure(
        lines, where=where, need_ticker=need_ticker, prices=prices, delimiter=delimiter, beside=beside
    )
    if found.skip_lines == 1 and found.columns:
        with _lock:
            _known[key] = found
    return found


def _has_header(text: str, need_ticker: bool) -> bool:
    for line in text.splitlines()[:3]:
        for sign in DELIMITERS:
            try:
                match_columns([c.strip() for c in cells_of(line, sign)], where="", need_ticker=need_ticker)
            except BadInputError:
                continue
            return True
    return False


def _sample(data: bytes, head: list[str], skip: int) -> list[str]:
    """A few whole rows of head, middle and tail."""
    rows = head[skip : skip + 8]
    for at in (len(data) // 2, len(data) - _PIECE):
        if at > _HEAD:
            rows += data[at : at + _PIECE].decode(errors="replace").splitlines()[1:-1][:8]
    return [r for r in rows if r.strip()] or [""]
