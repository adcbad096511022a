"""What a method says of the test rows, and what is known of them: the two inputs of every metric."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from k4_pipeline.config import K4, N_CLASSES
from k4_pipeline.evaluation.expected_value import expected_value, realised_value

MODEL, BEST_POSSIBLE = "model", "best_possible"
PROBABILITIES = tuple(f"p_{i}" for i in range(N_CLASSES))


@dataclass(frozen=True)
class Scores:
    """One method: `k4` (n,) what rows are ranked by for K4, `p` (n, 6) probabilities or None where it has none."""

    k4: np.ndarray
    p: np.ndarray | None
    ev: np.ndarray  # (n,) expected value, or the score again where there are no probabilities

    @classmethod
    def of(cls, p: np.ndarray, k4: np.ndarray | None = None) -> Scores:
        """From probabilities (n, 6); ranked by P(K4) unless `k4` (n,) is given."""
        p = np.asarray(p, np.float64)
        return cls(p[:, K4] if k4 is None else np.asarray(k4, np.float64), p, expected_value(p))

    def take(self, rows: np.ndarray) -> Scores:
        """The scores of some rows."""
        return Scores(self.k4[rows], None if self.p is None else self.p[rows], self.ev[rows])


@dataclass(frozen=True)
class Rows:
    """What is known of the rows: classes (n,), tickers, snapshot dates, patterns, and the volatility they had."""

    y: np.ndarray
    tickers: np.ndarray
    dates: np.ndarray | None = None
    patterns: np.ndarray | None = None
    volatility: np.ndarray | None = None  # of 60 bars where there is history: what "inside volatility" holds fixed
    signal: np.ndarray | None = None
    tier: np.ndarray | None = None
    value: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "y", np.asarray(self.y, np.int64))
        object.__setattr__(self, "value", realised_value(self.y))

    @property
    def is_k4(self) -> np.ndarray:
        """Which rows turned out K4, (n,) bool."""
        return self.y == K4

    @property
    def months(self) -> np.ndarray | None:
        """Month of each row, (n,) datetime64[M]."""
        return None if self.dates is None else np.asarray(self.dates).astype("datetime64[M]")

    @classmethod
    def of(cls, scored: pd.DataFrame) -> Rows:
        """From the rows of `validation.score_labelled`; pattern_id, volatility_60 and tier may be absent."""

        def column(*names: str) -> np.ndarray | None:
            found = next((n for n in names if n in scored), None)
            return None if found is None else scored[found].to_numpy()

        volatility = column("volatility_60", "volatility")
        return cls(
            scored["outcome_class"].to_numpy(np.int64),
            scored["ticker"].to_numpy(dtype=object),
            scored["snapshot_date"].to_numpy(),
            column("pattern_id"),
            None if volatility is None else np.nan_to_num(volatility.astype(np.float64), nan=-1.0),
            column("signal"),
            column("tier"),
        )


def model_scores(scored: pd.DataFrame) -> Scores:
    """The scores of the model: its calibrated probabilities and the EV stored with them."""
    p = scored[list(PROBABILITIES)].to_numpy(np.float64)
    return Scores(p[:, K4], p, scored["ev"].to_numpy(np.float64))


def score_columns(name: str, scores: Scores, index: pd.Index | None = None) -> pd.DataFrame:
    """A method as columns of a table: `<name>__score`, `<name>__p_0` ..; the inverse is `scores_in`."""
    out = pd.DataFrame({f"{name}__score": scores.k4}, index=index)
    if scores.p is not None:
        out[[f"{name}__{c}" for c in PROBABILITIES]] = scores.p
    return out


def scores_in(table: pd.DataFrame) -> dict[str, Scores]:
    """Every method whose columns stand in `table`, in their order."""
    found = {}
    for column in table.columns:
        name, mark, what = str(column).partition("__")
        if mark and what == "score":
            k4 = table[column].to_numpy(np.float64)
            if f"{name}__p_0" in table:
                found[name] = Scores.of(table[[f"{name}__{c}" for c in PROBABILITIES]].to_numpy(), k4)
            else:
                found[name] = Scores(k4, None, k4)
    return found
