"""The registry of baselines, and what a baseline is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from k4_pipeline.config import N_CLASSES
from k4_pipeline.evaluation.scores import Scores
from k4_pipeline.progress import Progress


@dataclass(frozen=True)
class Task:
    """Rows to learn from and rows to score. No class of a scored row is here.

    `volatility` maps a number of bars to (known, wanted) standard deviations of the log returns of so many bars;
    `tabular` gives (known, wanted) features of the last bar and its context, `train_sequence` probabilities
    (n_wanted, 6) of a sequence network of the named architecture: both are computed when asked for.
    """

    y: np.ndarray  # (n_known,) classes known at as_of
    n_wanted: int
    volatility: dict[int, tuple[np.ndarray, np.ndarray]]
    tabular: Callable[[], tuple[np.ndarray, np.ndarray]]
    train_sequence: Callable[[str], np.ndarray]

    @cached_property
    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """`tabular`, computed once."""
        return self.tabular()

    @property
    def prior(self) -> np.ndarray:
        """Class shares (6,) of the known rows, half a row added to every class."""
        counts = np.bincount(self.y, minlength=N_CLASSES) + 0.5
        return counts / counts.sum()


Baseline = Callable[[Task], Scores]
BASELINES: dict[str, Baseline] = {}


def baseline(name: str) -> Callable[[Baseline], Baseline]:
    """Register the decorated function as the baseline `name`."""

    def wrap(made: Baseline) -> Baseline:
        BASELINES[name] = made
        return made

    return wrap


def score_all(task: Task, names: tuple[str, ...] | None = None, progress: Progress | None = None) -> dict[str, Scores]:
    """The scores of the named baselines, all by default, in the order of the registry."""
    wanted = [name for name in BASELINES if names is None or name in names]
    out = {}
    for done, name in enumerate(wanted, start=1):
        out[name] = BASELINES[name](task)
        if progress is not None:
            progress(done, len(wanted))
    return out
