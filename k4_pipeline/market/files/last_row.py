"""Whether the last row of a text file was cut off while it was written: judged by the rows before it.

Many vendors end their files without a line break, so that alone proves nothing. A whole number that has lost its last
digits is another whole number; it is told by being much smaller than those of its fellows. In doubt the row goes: a
missing bar is seen, a wrong one is not.
"""

from __future__ import annotations

import re
from statistics import median

from k4_pipeline.market.dialect.structure import Structure, cells_of

_TAIL = 1 << 16
_FELLOWS = 60
_FAR_BELOW = 3.0  # a number below this part of its fellows' median may lack a digit


def split_cut_row(data: bytes, structure: Structure, used: list[int]) -> tuple[bytes, str]:
    """(the text without its last row, that row) when the file ends inside it; else (the text, "").

    `used`: the numbers of the columns that are read.
    """
    if not data or data.endswith((b"\n", b"\r")):
        return data, ""
    at = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    if not at:
        return data, ""
    last = data[at:].decode(errors="replace")
    head = data[max(0, at - _TAIL) : at].decode(errors="replace").splitlines()
    rows = [cells_of(line, structure.delimiter) for line in head[-_FELLOWS:] if line.strip()]
    width = len(structure.names)
    rows = [r for r in rows if len(r) >= width and r[: len(structure.names)] != list(structure.names)]
    return (data[:at], last) if rows and _is_cut(cells_of(last, structure.delimiter), last, rows, used) else (data, "")


def _is_cut(cells: list[str], text: str, rows: list[list[str]], used: list[int]) -> bool:
    if not "".join(cells).strip():
        return False
    place = len(cells) - 1  # the cell at whose end the file ends
    if place > max(used):
        return False
    if place < max(used):
        return len(cells) > 1 or text[:1].isdigit()  # a lone word is a footer
    cell = cells[place].strip()
    if text.rstrip().endswith(('"', "'")):
        return False  # the closing quote is there
    same = [r for r in rows if r[0] == cells[0]]  # of one ticker, in a long table
    fellows = [r[place].strip() for r in (same if len(same) >= 5 else rows)]
    if all(len(f) == len(fellows[0]) for f in fellows):
        return len(cell) != len(fellows[0])
    if not re.search(r"\d", cell) or not all(re.search(r"\d", f) for f in fellows):
        return any(f.startswith(cell) and f != cell for f in fellows)
    if len(cell) < min(map(len, fellows)) or cell[-1] in ".,+-eE":
        return True
    places, own = [_places(f) for f in fellows], _places(cell)
    if own < (min(places) if len(set(places)) == 1 else max(places)):
        return True
    sizes = [_size(f) for f in fellows]
    return own == 0 and _size(cell) * _FAR_BELOW < median(sizes)


def _places(text: str) -> int:
    """Digits behind the last point or comma; of a thousands sign the digits of its group."""
    match = re.search(r"[.,](\d*)\D*$", text)
    return len(match[1]) if match else 0


def _size(text: str) -> float:
    return float(re.sub(r"\D", "", text) or 0)
