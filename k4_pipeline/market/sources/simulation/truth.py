"""What the simulated market knows and its bars do not show: hidden states, splits, listings, dirty rows.

Only for comparing a model with the best possible one (evaluation/truth.py) and for tests; no asset that feeds a model
may read it. Continuing the simulation from these states lives in evaluation/, because it needs the label rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from k4_pipeline.config import SimulationConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import to_dates
from k4_pipeline.market.sources.simulation.parameters import Params


@dataclass(frozen=True, eq=False)
class SimulationTruth:
    """The hidden side of one simulation; n bars in (ticker, date) order, the dirty rows neither added nor removed."""

    config: SimulationConfig
    tickers: np.ndarray  # (n_tickers,) object, ascending
    offsets: np.ndarray  # (n_tickers + 1,) int64; rows of ticker i are offsets[i]:offsets[i + 1]
    date: np.ndarray  # (n,) int32 days since 1970-01-01
    states: np.ndarray  # (n, N_STATE) float64 at the close of each bar; columns in simulation/process.py
    adjustment: np.ndarray  # (n,) float64; published price * adjustment = price quoted on that day, volume / it
    params: tuple[Params, ...]  # of each ticker
    splits: pd.DataFrame  # ticker, date (first bar on the new basis), ratio (new shares per old one)
    listings: pd.DataFrame  # ticker, first_date, last_date, listed_late (bool), delisted (bool)
    dirty_rows: pd.DataFrame  # ticker, date (as in the dirty row), kind

    @cached_property
    def _keys(self) -> np.ndarray:
        code = np.repeat(np.arange(len(self.tickers), dtype=np.int64), np.diff(self.offsets))
        return code * (1 << 32) + self.date

    def locate(self, tickers: pd.Series | np.ndarray, days: np.ndarray) -> np.ndarray:
        """Row of each (ticker, day), int64 (n,); `BadInputError` naming the first bar that was never simulated."""
        codes = {t: i for i, t in enumerate(self.tickers)}
        code = np.array([codes.get(t, -1) for t in tickers], dtype=np.int64)
        wanted = code * (1 << 32) + np.asarray(days, dtype=np.int64)
        rows = np.searchsorted(self._keys, wanted)
        found = (rows < len(self._keys)) & (self._keys[np.minimum(rows, len(self._keys) - 1)] == wanted)
        if not found.all():
            first = int(np.flatnonzero(~found)[0])
            name, day = np.asarray(tickers, dtype=object)[first], to_dates(np.asarray(days))[first]
            raise BadInputError(
                f"{int((~found).sum())} of {len(found)} bars are not of this simulation, the first is {name} "
                f"{np.datetime_as_string(day, unit='D')}; use the snapshots made from its bars and the same config"
            )
        return rows.astype(np.int64)

    def ticker_code(self, rows: np.ndarray) -> np.ndarray:
        """Number of the ticker that owns each row, int64."""
        return np.searchsorted(self.offsets, rows, side="right") - 1
