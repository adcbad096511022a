"""By which evidence the champion moves: the rule, and the paired comparison it rests on.

A candidate takes over from a serving champion of the same market when it passed every check, saw enough K4 rows and
was **better on the same rows**: log loss of both on the candidate's labelled test rows, which neither has seen, with
the interval of the paired difference over whole tickers and months. A champion older than `MAX_AGE_DAYS` gives way to a
candidate that is not shown to be worse. A champion that only serves provisionally gives way to any later candidate that
is not shown to be worse, passed or not. A validated champion never gives way to a candidate that failed something,
whichever market that is of.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import K4, IntegrityConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.evaluation.bootstrap import cluster_weights, drawn_values, percentiles
from k4_pipeline.evaluation.champion import Record
from k4_pipeline.evaluation.scores import PROBABILITIES

MAX_AGE_DAYS = 400  # a quarterly retraining and its labels take most of a year: five quarters without a better one
P_LEAST = 1e-12


@dataclass(frozen=True)
class Comparison:
    """Log loss of candidate and champion on `rows` common rows; `low`, `high`: interval of their difference.

    Negative differences speak for the candidate. Without enough rows, or when the champion cannot be read by this
    version, `unusable` says why and nothing is shown either way.
    """

    rows: int = 0
    k4: int = 0
    candidate: float | None = None
    champion: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    unusable: str = ""
    unreadable: bool = False  # the champion gives no scores under this version, now or later
    metric: str = "log loss"
    threshold: float = 0.0

    @property
    def better(self) -> bool:
        """The candidate is shown to be better."""
        return self.high is not None and self.high < self.threshold

    @property
    def worse(self) -> bool:
        """The candidate is shown to be worse."""
        return self.low is not None and self.low > self.threshold

    def in_words(self) -> str:
        """For the history and for messages."""
        if self.unusable:
            return f"they could not be compared: {self.unusable}"
        return (
            f"log loss {self.candidate:.4f} against {self.champion:.4f} of the champion on the same {self.rows} rows "
            f"({self.k4} K4), difference {self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"
        )


@dataclass(frozen=True)
class Decision:
    """Whether the champion moves, the sentence that says why, and what it rests on."""

    moves: bool
    why: str
    comparison: Comparison | None = None
    judged: bool = True  # whether a candidate was weighed at all: what is told as moved or held

    def to_dict(self, serves: Record, candidate: Record | None) -> dict[str, Any]:
        """What `decision.json` says; `serves` is the champion afterwards."""
        return {
            "moved": self.moves,
            "why": self.why,
            "as_of": serves.as_of,
            "champion": serves.model_fingerprint,
            "candidate": candidate.model_fingerprint if candidate and self.judged else None,
            "candidate_as_of": candidate.as_of if candidate and self.judged else None,
            "failed": list(candidate.failed) if candidate and self.judged else [],
            "comparison": asdict(self.comparison) if self.comparison else None,
        }


def compare(rows: pd.DataFrame, config: IntegrityConfig) -> Comparison:
    """Both models on the same rows: `outcome_class`, `ticker`, `snapshot_date`, `p_0`.. and `champion_p_0`..."""
    y = rows["outcome_class"].to_numpy(np.int64)
    n, k4 = len(y), int((y == K4).sum())
    if n < config.min_rows:
        return Comparison(n, k4, unusable=f"{n} labelled test rows, {config.min_rows} are needed")

    def losses(prefix: str) -> np.ndarray:
        p = rows[[f"{prefix}{name}" for name in PROBABILITIES]].to_numpy(np.float64)
        return -np.log(np.maximum(p[np.arange(n), y], P_LEAST))

    ours, theirs = losses(""), losses("champion_")
    difference = ours - theirs
    weights = cluster_weights(
        rows["ticker"].to_numpy(), config.bootstrap_draws, config.seed, rows["snapshot_date"].to_numpy()
    )
    drawn = drawn_values(lambda w: (w @ difference) / np.maximum(w.sum(axis=-1), P_LEAST), weights)
    low, high = percentiles(drawn, config.confidence)
    if not np.isfinite(low + high):
        return Comparison(n, k4, unusable="the rows are of too few tickers and months")
    return Comparison(n, k4, float(ours.mean()), float(theirs.mean()), float(difference.mean()), low, high)


def needs_comparison(current: Record | None, candidate: Record | None) -> bool:
    """Whether the decision between these two, of one market, rests on a comparison: another, not older model."""
    return (
        current is not None
        and candidate is not None
        and candidate.model_fingerprint not in (current.model_fingerprint, *current.held_back)
        and candidate.as_of >= current.as_of
        and (current.provisional or not candidate.failed)
    )


def decide(current: Record | None, candidate: Record | None, comparison: Comparison | None = None) -> Decision:
    """The rule. `current` is the champion of the candidate's market (`champion.champion_of`), None where nothing has
    served it; `candidate` is None when no validated model has a current chain."""
    if candidate is None:
        if current is None:
            raise BadInputError(
                "no champion can be named: no as_of has a validation report whose inputs are current; materialize "
                "dataset_split to validation_report of one partition first"
            )
        return Decision(False, "no as_of has a validation report whose inputs are current", judged=False)
    shortcoming = f"; these checks failed: {', '.join(candidate.failed)}" if candidate.failed else ""
    if current is None:
        return Decision(True, f"nothing served this market before{shortcoming}")
    if candidate.model_fingerprint in current.held_back:
        why = f"as_of {candidate.as_of} was rolled back; train it again to make it eligible"
        return Decision(False, why, judged=False)
    if candidate.model_fingerprint == current.model_fingerprint:
        if current.failed != candidate.failed:
            return Decision(True, f"the same model was validated again{shortcoming}")
        return Decision(False, f"as_of {current.as_of} serves already", judged=False)
    if candidate.failed and not current.provisional:
        return Decision(False, f"the candidate of as_of {candidate.as_of} is not good enough{shortcoming}")
    if candidate.as_of < current.as_of:
        why = f"the candidate's as_of {candidate.as_of} is older than {current.as_of}"
        return Decision(False, why, judged=False)
    return _by_evidence(current, candidate, comparison or Comparison(unusable="it was not tried"), shortcoming)


def _by_evidence(current: Record, candidate: Record, found: Comparison, shortcoming: str) -> Decision:
    age = (dt.date.fromisoformat(candidate.as_of) - dt.date.fromisoformat(current.as_of)).days
    said = f"as_of {candidate.as_of} {{}} as_of {current.as_of}: {{}}{found.in_words()}{shortcoming}"
    if found.worse:
        return Decision(False, said.format("does not follow", "it is worse, "), found)
    if found.better:
        return Decision(True, said.format("follows", "it is better, "), found)
    if current.provisional:
        return Decision(True, said.format("follows", "that served provisionally; "), found)
    if found.unreadable:
        return Decision(True, said.format("follows", "that this version cannot read; "), found)
    if age > MAX_AGE_DAYS:
        return Decision(True, said.format("follows", f"that is {age} days older (limit {MAX_AGE_DAYS}); "), found)
    return Decision(False, said.format("does not follow", "it is not shown to be better, "), found)
