"""The shape of a file, decided once from head, middle and tail before any cell is converted.

`structure.py` finds delimiter, header and columns; `numbers.py` the decimal and thousands signs from every cell;
`dates.py` what each written date can mean. What is decided stands in a `Dialect`, which is printed, stored with the
bars, and can be given by the user (`source.dialect`) where a file leaves it open.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from k4_pipeline.errors import ConfigError

_WORDS = {"tab": "\t", "space": " ", "comma": ",", "semicolon": ";", "pipe": "|", "dot": ".", "point": ".", "none": ""}
GIVEN = ("encoding", "delimiter", "decimal", "thousands", "date_order")


@dataclass(frozen=True)
class Dialect:
    """How one file spells its table. `None` in what a user gives means: decide from the file."""

    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    date_order: str | None = None  # "day first", "month first"; "" where every date has one reading
    preamble_lines: int = 0  # lines before the header
    header_lines: int = 1
    layout: str = "long"  # "wide": one group of columns per ticker
    columns: dict[str, str] = dataclasses.field(default_factory=dict)  # field -> the file's own heading
    prices: str = "raw"  # "adjusted" when the adjusted set of columns is used

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def given_dialect(text: str) -> Dialect:
    """What a user states, as in `delimiter=semicolon decimal=comma date_order=day`; `ConfigError` for unknown words."""
    given: dict[str, str] = {}
    for part in text.split():
        name, equals, value = part.partition("=")
        if not equals or name not in GIVEN:
            raise ConfigError(
                f"source.dialect has {part!r}; give {', '.join(GIVEN)} as name=value, separated by spaces, "
                f"with words for signs: {', '.join(_WORDS)}"
            )
        given[name] = _WORDS.get(value.lower(), value)
    order = given.get("date_order")
    if order is not None:
        if order not in ("day", "month"):
            raise ConfigError(f"source.dialect has date_order={order}; use date_order=day or date_order=month")
        given["date_order"] = f"{order} first"
    if given.get("decimal", ".") not in (".", ","):
        raise ConfigError(f"source.dialect has decimal={given['decimal']}; use decimal=dot or decimal=comma")
    return Dialect(**given)  # type: ignore[arg-type]
