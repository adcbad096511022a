"""What every source hands over: the bars as the vendor sent them, and what went wrong while reading.

Sources repair nothing and judge nothing but readability; `market/cleaning.py` decides which rows are sane.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

RAW_COLUMNS = ("ticker", "date", "open", "high", "low", "close", "volume", "source")


@dataclass(frozen=True)
class RawBars:
    """Bars as sent.

    `frame` has `RAW_COLUMNS`; values may keep the dtypes of the source (dates as text, prices as objects). Two more
    columns may be there: `fault`, why a row could not be read, and `sent`, its cells as sent (ticker, date, open, high,
    low, close, volume) where a row was faulty. `problems` are sentences for a person; `skipped` names the files that
    gave no bars, each with the cause; `dialects` holds per file how it was read.
    """

    frame: pd.DataFrame
    problems: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    dialects: dict[str, dict[str, Any]] = field(default_factory=dict)
    resend: Callable[[np.ndarray], dict[int, tuple[str, ...]]] | None = None  # rows of `frame` -> cells as sent
    files_unchanged: int = 0  # known from the last time and not read again
