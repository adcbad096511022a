"""The number format of a file: one decision from all its cells, then one strict reading of each of them.

A cell can be evidence (`10,5` says decimal comma, `1,002.50` decimal point) or leave it open (`1.200`). Open cells
follow the evidence of the file; without any, or against each other, they are refused with both readings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PRICES = ("open", "high", "low", "close")
_MISSING = pa.array(
    ["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "-", "--", "#N/A", "<NA>", "n.a.", "."]
)
_SPACE = "[  '’  ]"
_EVIDENCE = (  # D: decimal sign, T: the other one
    r"^-?(\d+D\d{0,2}|\d+D\d{4,}|0\d*D\d+|D\d+|\d{4,}D\d+|\d{1,3}(T\d{2,3})*T\d{3}D\d+|[1-9]\d{0,2}(T\d{2,3})+T\d{3}"
    r"|\d{1,3}(_\d{3})+D\d+|\d+D\d+[eE][+-]?\d+)$"
)
_OPEN = r"^-?[1-9]\d{0,2}D\d{3}$"
_SIGN = {".": r"\.", ",": ","}
_MONEY = (
    r"[A-Z]{0,2}[$€£¥₹₩₽₺]|USD|EUR|GBP|CHF|JPY|CAD|AUD|NZD|HKD|SGD|CNY|INR|KRW|BRL|MXN|ZAR|SEK|NOK|DKK|PLN|CZK|HUF"
    r"|TRY|RUB|kr|zł|Kč|Rs\.?"
)
_SUFFIX = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12, "mio": 1e6, "mrd": 1e9, "bn": 1e9, "mn": 1e6}
_SUFFIXED = r"(?i)^(.*?\d)\s*(k|m|b|t|mio\.?|mrd\.?|bn|mn)$"


@dataclass(frozen=True)
class NumberFormat:
    """Decimal and thousands signs; `open_prices`, `open_volume`: cells with two readings are refused there."""

    decimal: str = "."
    thousands: str = ""
    open_prices: bool = False
    open_volume: bool = False
    problem: str = ""


def _count(column: pa.Array, pattern: str) -> int:
    return int(pc.sum(pc.match_substring_regex(column, pattern)).as_py() or 0)


def _first(column: pa.Array, pattern: str) -> str:
    hits = column.filter(pc.match_substring_regex(column, pattern))
    return hits[0].as_py() if len(hits) else ""


def _pattern(text: str, decimal: str) -> str:
    other = "," if decimal == "." else "."
    spaced = text.replace("_", _SPACE)
    return spaced.replace("D", _SIGN[decimal]).replace("T", _SIGN[other])


def tidy(column: pa.Array, *, volume: bool = False) -> pa.Array:
    """Without blanks around and the long minus, prices without currency signs; wide digits and blanks made plain; missing
    words null. A volume with a currency sign is money: no number of shares."""
    column = pc.utf8_trim_whitespace(pc.utf8_normalize(column, form="NFKC"))
    if not volume:
        column = pc.replace_substring_regex(column, rf"^(?:{_MONEY})\s*|\s*(?:{_MONEY})$", "")
    column = pc.replace_substring(column, "−", "-")
    return pc.if_else(pc.is_in(column, _MISSING), pa.scalar(None, column.type), column)


def _bare(column: pa.Array) -> pa.Array:
    """Without the suffix of a multiplier: `1.2M` is evidence as `1.2` is."""
    return pc.replace_substring_regex(column, _SUFFIXED, r"\1")


def decide(columns: dict[str, pa.Array], delimiter: str) -> NumberFormat:
    """The format of a file from all cells of its tidied text columns (values fields)."""
    prices = [_bare(c) for f, c in columns.items() if f in PRICES]
    volume = [_bare(c) for f, c in columns.items() if f == "volume"]
    every = [*prices, *volume]
    evidence = {d: sum(_count(c, _pattern(_EVIDENCE, d)) for c in every) for d in ".,"}
    if not any(evidence.values()):
        return _undecided(prices, volume, delimiter)
    if all(evidence.values()):
        less = min(evidence, key=lambda d: evidence[d])
        more = "," if less == "." else "."
        examples = [next(filter(None, (_first(c, _pattern(_EVIDENCE, d)) for c in every)), "") for d in ".,"]
        said = f"{examples[0]!r} has a decimal point and {examples[1]!r} a decimal comma"
        if evidence[less] > 0.01 * sum(evidence.values()):
            return NumberFormat(more, less, True, True, f"{said}: the file has no one number format")
        return NumberFormat(more, less, True, True, f"{said}: cells that can be read both ways are refused")
    decimal = "." if evidence["."] else ","
    other = "," if decimal == "." else "."
    # Whole shares written with three places and never otherwise: as likely a thousands sign.
    own = sum(_count(c, _pattern(_EVIDENCE, decimal)) for c in volume)
    unclear = 0 if own else sum(_count(c, _pattern(_OPEN, decimal)) for c in volume)
    if unclear:
        example = next(filter(None, (_first(c, _pattern(_OPEN, decimal)) for c in volume)), "")
        return NumberFormat(decimal, other, False, True, _both(example, "volume"))
    # Prices of three places throughout, and a volume alone that says which sign groups: `20.450` beside `1.234.567`.
    if not sum(_count(c, _pattern(_EVIDENCE, decimal)) for c in prices):
        unclear = sum(_count(c, _pattern(_OPEN, other)) for c in prices)
        if unclear and unclear == sum(len(c) - c.null_count for c in prices):
            example = next(filter(None, (_first(c, _pattern(_OPEN, other)) for c in prices)), "")
            return NumberFormat(decimal, other, True, False, _both(example, "price"))
    return NumberFormat(decimal, other)


def _both(example: str, field: str) -> str:
    plain = example.replace(",", ".")
    return (
        f"{field} {example!r} is {plain} or {plain.replace('.', '')}: nothing in the file tells the decimal from the "
        "thousands sign; state it with source.dialect, for example decimal=dot"
    )


def _undecided(prices: list[pa.Array], volume: list[pa.Array], delimiter: str) -> NumberFormat:
    unclear = {d: [sum(_count(c, _pattern(_OPEN, d)) for c in part) for part in (prices, volume)] for d in ".,"}
    if not any(sum(n) for n in unclear.values()):
        return NumberFormat(".", ",")
    if delimiter == "," and unclear["."][0] and not sum(unclear[","]):
        whole = sum(_count(c, r"^-?\d+$") for c in prices)
        if not whole and not unclear["."][1]:
            return NumberFormat(".", ",")  # three places throughout, in a file whose commas separate cells
    sign = "." if sum(unclear["."]) else ","
    field, part = ("price", prices) if unclear[sign][0] else ("volume", volume)
    example = next(filter(None, (_first(c, _pattern(_OPEN, sign)) for c in part)), "")
    return NumberFormat(".", ",", True, True, _both(example, field))


def fast_floats(column: pa.Array) -> np.ndarray | None:
    """float64 (n,) when every cell is a plain number with a decimal point; None otherwise."""
    try:
        return pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None


def is_plain(columns: dict[str, np.ndarray], texts: dict[str, pa.Array]) -> bool:
    """Whether a file of plain numbers leaves nothing open: its volumes are whole, its prices not all of three places."""
    volume = columns.get("volume", np.zeros(0))
    with np.errstate(invalid="ignore"):
        if np.any(volume != np.floor(volume)) and not np.all(np.isnan(volume)):
            return False
    sure = _pattern(_EVIDENCE, ".")
    prices = [field for field in PRICES if field in columns]
    for field in prices:
        head = texts[field].slice(0, 64)
        if _count(head, sure):
            return True
    return all(not np.any(columns[f] != np.floor(columns[f])) or _count(texts[f], sure) > 0 for f in prices)


def read(column: pa.Array, form: NumberFormat, *, volume: bool) -> tuple[np.ndarray, np.ndarray]:
    """(float64 (n,) with NaN for what is no number, bool (n,): refused because it has two readings)."""
    n = len(column)
    is_open = form.open_volume if volume else form.open_prices
    unclear = np.zeros(n, dtype=bool)
    if is_open:
        for d in ".,":
            unclear |= _mask(pc.match_substring_regex(_bare(column), _pattern(_OPEN, d)))
    factor = np.ones(n)
    if volume:
        word = pc.ascii_lower(pc.replace_substring_regex(column, _SUFFIXED, r"\2"))
        for name, times in _SUFFIX.items():
            factor[_mask(pc.equal(pc.replace_substring(word, ".", ""), name))] = times
        column = _bare(column)
    dec, tho = _SIGN[form.decimal], _SIGN.get(form.thousands, "")
    group = f"(?:{tho}\\d{{2,3}})*{tho}\\d{{3}}" if tho else ""
    whole = rf"(?:\d+|\d{{1,3}}(?:{_SPACE}\d{{3}})+" + (rf"|[1-9]\d{{0,2}}{group}" if group else "") + ")"
    good = rf"^[+-]?(?:{whole}(?:{dec}\d*)?|{dec}\d+)(?:[eE][+-]?\d+)?$|^(?i:[+-]?inf(?:inity)?)$"
    fits = pc.match_substring_regex(column, good)
    column = pc.if_else(fits, column, pa.scalar(None, column.type))
    column = pc.replace_substring_regex(column, _SPACE, "")
    if form.thousands:
        column = pc.replace_substring(column, form.thousands, "")
    if form.decimal != ".":
        column = pc.replace_substring(column, form.decimal, ".")
    values = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
    values = np.where(factor == 1.0, values, np.round(values * factor, 6))
    values[unclear] = np.nan
    return values, unclear


def _mask(column: pa.Array) -> np.ndarray:
    return pc.fill_null(column, False).to_numpy(zero_copy_only=False)
