"""What becomes of scored patterns: which models may speak, which rows are refused, what today's list leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["preferred", "bond_like", "warrant", "unit", "right"]


@dataclass(frozen=True)
class ServingConfig:
    """Age of the champion, drift and today's list."""

    champion_max_age_days: int = 730  # from its as_of to the night; an older champion gives no signals
    refuse_outside: bool = True  # AVOID, with the reason, for what lies too far outside the train rows
    drift_nights: int = 20  # nights that are compared with the train rows together
    drift_lasting_nights: int = 5  # nights in a row on which drift must show before a model is trained for it
    list_rows: int = 20  # of today's list: with reasons, similar patterns and a chart
    lookback_bars: int = 20  # past bars that the next two look at
    min_dollar_volume: float = 250_000.0  # least median of close times volume, in the currency of the bars
    min_price: float = 1.0  # least median close
    excluded_tickers: tuple[str, ...] = ()  # never in the list
    # Told by the ticker's form and, for bond_like, by a year of returns (docs/operations.md).
    excluded_kinds: tuple[Kind, ...] = ("preferred", "bond_like", "warrant", "unit", "right")
