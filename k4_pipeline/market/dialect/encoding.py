"""Bytes to UTF-8: byte order marks, UTF-16 without one, UTF-8, and the old code pages when the heading tells which."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from k4_pipeline.errors import BadInputError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OLD_PAGES = ("cp932", "gb18030", "big5", "euc_kr", "cp1251", "cp1250", "cp1252", "latin-1")
_HEAD = 1 << 14


def to_utf8(data: bytes, where: str, given: str | None, is_header: Callable[[str], bool]) -> tuple[bytes, str]:
    """(the text as UTF-8 without a mark, the encoding it had).

    Of the old code pages the first is taken under which `is_header(first lines)` finds the columns; Western otherwise,
    which matters only for words beside the bars. Raises `BadInputError` for bytes that are no text.
    """
    if given:
        return _decode(data, given, where), given
    for mark, name in _MARKS:
        if data.startswith(mark):
            return (data[len(mark) :] if name == "utf-8-sig" else _decode(data, name, where)), name
    zeros = data.find(b"\x00")
    if zeros >= 0:
        name = _utf16_without_mark(data[:_HEAD])
        if not name:
            line = data.count(b"\n", 0, zeros) + 1
            raise BadInputError(f"{where} is no text file (it holds zero bytes, first in line {line}); get it again")
        return _decode(data, name, where), name
    if data.isascii():
        return data, "utf-8"
    try:
        codecs.utf_8_decode(data, "strict", True)
        return data, "utf-8"
    except UnicodeDecodeError:
        pass
    head = data[:_HEAD]
    for name in _OLD_PAGES:
        # The head may end inside a character.
        text = codecs.getincrementaldecoder(name)("replace").decode(head)
        if "�" not in text and is_header(text):
            try:
                return data.decode(name).encode(), name
            except UnicodeDecodeError:
                continue
    return data.decode("latin-1").encode(), "latin-1"


def _utf16_without_mark(head: bytes) -> str:
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = max(len(head) // 2, 1)
    if odd > 0.6 * half and even < 0.1 * half:
        return "utf-16-le"
    return "utf-16-be" if even > 0.6 * half and odd < 0.1 * half else ""


def _decode(data: bytes, name: str, where: str) -> bytes:
    try:
        text = data.decode(name)
    except (UnicodeDecodeError, LookupError) as problem:
        raise BadInputError(f"{where} cannot be read as {name}: {problem}; it is damaged or of another encoding") from (
            problem
        )
    if "\x00" in text:
        raise BadInputError(f"{where} holds zero bytes; it is damaged, get it again")
    return text.removeprefix("﻿").encode()
