"""What reading one file gives: columns of days, numbers and faults, with the text of every faulty row as sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from k4_pipeline.market.dialect import Dialect
from k4_pipeline.market.dialect.dates import NO_DAY

# Why a row could not be read; cleaning takes these reasons over. 0: it could.
FAULTS = (
    "",
    "row has more cells than the header",
    "number has two readings: decimal or thousands sign?",
    "date is ambiguous: day first or month first?",
    "dates rewritten by a spreadsheet stand among others: day and month may be swapped",
    "the file ends inside this row",
    "row of another period than a day",
    "row in another currency than most of its ticker",
    "columns change inside the file: a second header differs from the first",
)
SURPLUS, OPEN_NUMBER, OPEN_DATE, SWAPPED, CUT_SHORT, OTHER_PERIOD, OTHER_CURRENCY, OTHER_COLUMNS = range(1, 9)
Again = Callable[[np.ndarray], dict[int, tuple[str, ...]]]
SENT_COLUMNS = ("ticker", "date", "open", "high", "low", "close", "volume")


@dataclass
class Days:
    """Readings of a date column, (n,) each; see `dialect.dates.Written`. None: no row has such a reading."""

    first: np.ndarray  # int32
    second: np.ndarray | None = None  # int32, where `numeric`
    numeric: np.ndarray | None = None  # bool
    wall: np.ndarray | None = None  # int32 seconds of the day, where `zoned`
    offset: np.ndarray | None = None  # int32 minutes
    zoned: np.ndarray | None = None  # bool
    swapped: np.ndarray | None = None  # bool: day numbers of a spreadsheet among written dates


@dataclass
class FileBars:
    """The rows of one file. `ticker` codes into `names`; `sent`: row -> its cells and the row as sent."""

    label: str
    ticker: np.ndarray  # (n,) int32, -1 where the file names none
    names: list[str]
    days: Days
    values: dict[str, np.ndarray]  # float64 (n,)
    fault: np.ndarray  # (n,) uint8 into FAULTS
    sent: dict[int, tuple[str, ...]]
    dialect: Dialect
    notes: list[str] = field(default_factory=list)
    open_end: bool = False  # no line break behind a last row that looks whole
    again: Again | None = None  # rows (n,) -> the cells of each as sent, from the file itself

    def __len__(self) -> int:
        return len(self.fault)

    def refused(self) -> np.ndarray:
        """bool (n,): rows whose text is worth keeping, because they cannot be read or can be no bar."""
        v = self.values
        with np.errstate(invalid="ignore"):
            # A comparison with NaN is false: what is missing is refused too.
            sane = (v["low"] > 0) & (v["open"] >= v["low"]) & (v["close"] >= v["low"]) & (v["volume"] >= 0)
            sane &= (v["open"] <= v["high"]) & (v["close"] <= v["high"]) & np.isfinite(v["high"])
        return ~sane | (self.fault > 0) | (self.days.first == NO_DAY)
