"""Listens to the pipeline for leaks that combine things of different steps; changes nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.sequences.dataset import SequenceDataset
from k4_pipeline_tests.mutations.registry import Patch, Wrapper, replaced


@dataclass
class Seen:
    """What passed last: split tables by length, the training set (panel, index, scaler), the model, the calibrator."""

    splits: dict[int, pd.DataFrame] = field(default_factory=dict)
    train_set: Any = None
    model: Any = None
    calibrator: Any = None

    def split_of(self, base: Any) -> pd.DataFrame | None:
        """The split table that belongs to the tables of `base`: replays on shorter bars make others in between."""
        return None if base is None else self.splits.get(len(base.index))

    @property
    def split(self) -> pd.DataFrame | None:
        """The split table of the training set that passed last."""
        return self.split_of(self.train_set)

    def rows(self, name: str, like: Any = None) -> np.ndarray:
        """Positions of the labelled rows of one member; sequences have the order of the split table.

        None when the tables at hand (of `like`, or of the training set) are not those the split was made of: a leak
        cannot use rows that it is not given.
        """
        split = self.split_of(self.train_set if like is None else like)
        if split is None:
            return np.zeros(0, dtype=np.int64)
        wanted = (split["split"] == name) & split["outcome_class"].notna()
        return np.flatnonzero(wanted.to_numpy())

    def keys(self, rows: np.ndarray) -> pd.DataFrame:
        """Rows of the split table, with their keys; empty before there is one."""
        return pd.DataFrame() if self.split is None else self.split.iloc[rows]

    def classes(self, rows: np.ndarray, like: Any = None) -> np.ndarray:
        """Outcome classes of labelled rows, int64."""
        split = self.split_of(self.train_set if like is None else like)
        if split is None or not len(rows):
            return np.zeros(0, dtype=np.int64)
        return split["outcome_class"].iloc[rows].to_numpy(dtype=np.int64)

    def dataset(self, rows: np.ndarray, like: Any = None) -> SequenceDataset:
        """Any labelled rows as a training set, with the panel, index and scaler of the one that passed."""
        base = self.train_set if like is None else like
        return SequenceDataset(base.panel_values, base.index, rows, base.scaler, targets=self.classes(rows, base))


@contextmanager
def recording(seen: Seen) -> Iterator[None]:
    """Keep `seen` up to date while the pipeline runs."""

    def split(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        seen.splits[len(result[0])] = result[0]
        return result

    def train(
        original: Callable[..., Any], a: Any, b: Any, c: Any, train_set: Any, validation_set: Any, **k: Any
    ) -> Any:
        seen.train_set = train_set
        result = original(a, b, c, train_set, validation_set, **k)
        seen.model = result.model
        return result

    def calibrate(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        seen.calibrator = original(*args, **kwargs)
        return seen.calibrator

    with ExitStack() as stack:
        stack.enter_context(replaced("splits.walk_forward.split_snapshots", split))
        stack.enter_context(replaced("training.loop.train", train))
        stack.enter_context(replaced("evaluation.calibration.fit_calibrator", calibrate))
        yield


def informed(where: str, wrapper: Callable[..., Any]) -> Patch:
    """A patch whose wrapper gets `Seen` as its first argument: `wrapper(seen, original, *args, **kwargs)`."""

    @contextmanager
    def patch() -> Iterator[None]:
        seen = Seen()

        def instead(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return wrapper(seen, original, *args, **kwargs)

        with recording(seen), replaced(where, instead):
            yield

    return patch


def uninformed(wrapper: Wrapper) -> Callable[..., Any]:
    """A wrapper for `informed` that ignores what was seen: the benign mutant records as well, and uses nothing."""
    return lambda seen, original, *args, **kwargs: wrapper(original, *args, **kwargs)


def passed_on(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The production function called as it is."""
    return original(*args, **kwargs)
