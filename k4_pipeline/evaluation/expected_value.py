"""Expected strategic value of a snapshot: `EV = sum_i p_i * value_i`, on calibrated probabilities."""

from __future__ import annotations

import numpy as np

from k4_pipeline.config import CLASS_VALUES, N_CLASSES


def expected_value(probabilities: np.ndarray) -> np.ndarray:
    """Expected value in strategic points, (n,) float64, from class probabilities (n, 6).

    The class values (-2, -0.2, 1, 3, 10, -10 for K0..K5) are the table of docs/patterns.md.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] != N_CLASSES:
        raise ValueError(f"probabilities have shape {p.shape}; expected (n, {N_CLASSES})")
    # A sum along each row, not a matrix product: BLAS may round a row differently in another batch.
    return (p * np.asarray(CLASS_VALUES)).sum(axis=1)


def realised_value(outcome_class: np.ndarray) -> np.ndarray:
    """The strategic value of each realised class 0..5, (n,) float64."""
    return np.asarray(CLASS_VALUES)[np.asarray(outcome_class, dtype=np.int64)]
