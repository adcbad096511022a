"""JSON that knows its own sha256: one flipped bit anywhere in the file, and it is refused.

The hash is the first entry, taken over all bytes of the file with its own 64 digits as zeros, so that a sealed file is
still plain JSON. Every JSON file of a user or of this package is read through here, within limits of size and nesting.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from k4_pipeline.storage.atomic import atomic_write_bytes, open_regular

MAX_BYTES = 64 << 20
_ZEROS = b"0" * 64
_SEAL = re.compile(rb'\{\n  "sha256": "([0-9a-f]{64})"')


def sealed_bytes(value: dict[str, Any]) -> bytes:
    """`value` (JSON-safe, no key `sha256`) as sealed JSON; NaN and infinity are refused (`ValueError`)."""
    text = json.dumps({"sha256": _ZEROS.decode(), **value}, indent=2, allow_nan=False) + "\n"
    data = text.encode()
    return data.replace(_ZEROS, hashlib.sha256(data).hexdigest().encode(), 1)


def write_sealed(path: Path, value: dict[str, Any], *, mode: int | None = None) -> None:
    """Write `value` sealed and atomically; `mode`: permissions from the first moment on."""
    atomic_write_bytes(path, sealed_bytes(value), mode=mode)


def read_sealed(path: Path, *, by_hand: bool = False) -> dict[str, Any]:
    """The value without its seal. `ValueError` says what is wrong; with `by_hand` a file without a seal is accepted."""
    data = read_limited(path)
    seal = _SEAL.match(data)
    if seal is not None:
        blank = data[: seal.start(1)] + _ZEROS + data[seal.end(1) :]
        if hashlib.sha256(blank).hexdigest().encode() != seal.group(1):
            raise ValueError("its bytes do not match the sha256 in it: it is damaged or was edited")
    elif not by_hand:
        raise ValueError("it does not begin with its sha256: it is damaged or was edited")
    value = parse_json(data)
    if not isinstance(value, dict):
        raise ValueError(f"it holds {type(value).__name__}, expected an object with named entries")
    if seal is not None:
        value.pop("sha256")
    return value


def is_sealed(path: Path) -> bool:
    """Whether the file begins with its sha256, right or wrong: whether this package wrote it."""
    with open_regular(path) as handle:
        return _SEAL.match(handle.read(100)) is not None


def read_limited(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a file; `ValueError` when there are more than `max_bytes`."""
    with open_regular(path) as handle:
        data = handle.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"it is larger than {max_bytes:,} bytes, the most that is read of such a file")
    return data


def parse_json(data: bytes | str) -> Any:
    """The value of a JSON text; `ValueError` for NaN, infinity, names given twice and nesting beyond all reason."""
    try:
        return json.loads(data, parse_constant=_no_constant, object_pairs_hook=_no_twins)
    except RecursionError:
        raise ValueError("it is nested deeper than any file this package writes") from None


def _no_constant(text: str) -> Any:
    raise ValueError(f"it holds {text}, which is no JSON")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it holds {next(n for n in names if names.count(n) > 1)!r} twice")
    return value
