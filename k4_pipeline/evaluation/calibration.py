"""Calibration of the classifier's probabilities on validation rows whose label was known at the as-of date.

The loss weighs K4 500-fold and smooths its targets, so raw probabilities rank well but are far from frequencies. The
map is regularised vector scaling (Guo et al. 2017, "On Calibration of Modern Neural Networks"): the calibrated
log-odds of class c are `scale_c * log p_c + bias_c`, fitted by multinomial likelihood with a pull of `scale` towards
one common temperature and of the calibrated class means towards the validation frequencies (which the bias alone can
reach). With few rows of a class its scale stays at the common one and only its level moves.

That is for a loss that distorts probabilities. A network trained on cross-entropy whose class weights were taken out
again needs no scale, and the rows before as_of are one state of the market: on real bars of 2009 to 2012 vector scaling
on them raised the log loss of the months that followed from 1.51 to 1.67. `method="level"` moves the levels alone, and
only as far as thousands of rows ask for it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import N_CLASSES
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.storage.keys import keys_hash

LOG_FLOOR = 1e-7
METHODS = {"vector": "vector_scaling", "level": "levels"}
LEVEL_PENALTY = 2000.0  # of the square of a class's level; 1,000 to 5,000 gave the same log loss in the tuning years
SCALE_PENALTY, BIAS_PENALTY = 2.0, 0.05  # pseudo-observations


@dataclass(frozen=True)
class Calibrator:
    """`softmax(scale * log p + bias)`; `meta` holds what it was fitted on (rows, dates, hash of the keys)."""

    scale: np.ndarray  # (6,) float64
    bias: np.ndarray  # (6,) float64
    meta: dict[str, Any] = field(default_factory=dict)

    def transform(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (n, 6) float64; every row sums to one. Row by row, so free of its batch."""
        return _softmax(np.log(np.maximum(np.asarray(probabilities, np.float64), LOG_FLOOR)) * self.scale + self.bias)

    def to_json(self) -> str:
        """Exact: floats are written with all their digits."""
        return json.dumps(
            {"scale": self.scale.tolist(), "bias": self.bias.tolist(), "meta": self.meta}, sort_keys=True, indent=1
        )

    @classmethod
    def from_json(cls, text: str) -> Calibrator:
        """The inverse of `to_json`."""
        data = json.loads(text)
        return cls(np.array(data["scale"], np.float64), np.array(data["bias"], np.float64), data["meta"])

    def hash(self) -> str:
        """16 hex digits of its content."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def fit_calibrator(
    p_raw: np.ndarray,
    outcome_class: np.ndarray,
    *,
    keys: pd.DataFrame,
    method: str = "vector",
) -> Calibrator:
    """Fit on raw probabilities (n, 6) and realised classes (n,) int of the validation rows named by `keys`.

    `method`: "vector" (scales and levels) or "level" (levels alone, held close to zero); penalties fade as rows are
    added. Raises `BadInputError` without rows or with an unknown class. Deterministic.
    """
    p = np.asarray(p_raw, np.float64)
    y = np.asarray(outcome_class, dtype=np.int64)
    if len(p) == 0 or len(p) != len(y) or len(keys) != len(y):
        raise BadInputError(
            f"calibration needs matching rows; got {len(p)} probabilities, {len(y)} labels, {len(keys)} keys"
        )
    if y.min() < 0 or y.max() >= N_CLASSES:
        raise BadInputError("calibration got an unlabelled row; pass only validation rows whose label is known")
    if method not in METHODS:
        raise ConfigError(f"calibration {method!r} is unknown; use one of {', '.join(METHODS)}")
    log_p = np.log(np.maximum(p, LOG_FLOOR))
    one_hot = np.zeros_like(p)
    one_hot[np.arange(len(y)), y] = 1.0
    if method == "level":
        scale, bias, converged = _levels(log_p, one_hot)
    else:
        scale, bias, converged = _vector_scaling(log_p, one_hot)
    meta = {
        "method": METHODS[method],
        "rows": len(y),
        "class_counts": np.bincount(y, minlength=N_CLASSES).tolist(),
        "first_snapshot": str(keys["snapshot_date"].min().date()),
        "last_snapshot": str(keys["snapshot_date"].max().date()),
        "keys_hash": keys_hash(keys),
        "converged": converged,
        "log_loss_before": float(-np.log(np.maximum(p[np.arange(len(y)), y], LOG_FLOOR)).mean()),
    }
    fitted = Calibrator(scale, bias, meta)
    meta["log_loss_after"] = float(-np.log(fitted.transform(p)[np.arange(len(y)), y]).mean())
    return fitted


Fit = tuple[np.ndarray, np.ndarray, bool]  # scale (6,), bias (6,), whether the search converged


def _levels(log_p: np.ndarray, one_hot: np.ndarray) -> Fit:
    """Scales of 1, and levels by penalised likelihood."""
    from scipy.optimize import minimize  # here alone: scoring needs none of it

    def objective(bias: np.ndarray) -> tuple[float, np.ndarray]:
        q = _softmax(log_p + bias)
        loss = -np.log(np.maximum((q * one_hot).sum(axis=1), 1e-300)).sum() + LEVEL_PENALTY * (bias @ bias)
        return loss, (q - one_hot).sum(axis=0) + 2 * LEVEL_PENALTY * bias

    found = minimize(objective, np.zeros(N_CLASSES), jac=True, method="L-BFGS-B")
    return np.ones(N_CLASSES), found.x, bool(found.success)


def _vector_scaling(log_p: np.ndarray, one_hot: np.ndarray) -> Fit:
    """A scale and a level of every class, by penalised likelihood."""
    from scipy.optimize import minimize

    log_p_centred = log_p - log_p.mean(axis=0)
    counts = one_hot.sum(axis=0)
    # Jeffreys-like prior keeps a class that validation lacks at a small positive level.
    prior = (counts + 0.5) / (counts.sum() + 0.5 * N_CLASSES)
    start_bias = np.log(prior)

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        common, delta, bias = theta[0], theta[1 : 1 + N_CLASSES], theta[1 + N_CLASSES :]
        q = _softmax(log_p_centred * (common + delta) + start_bias + bias)
        loss = -np.log(np.maximum((q * one_hot).sum(axis=1), 1e-300)).sum()
        loss += SCALE_PENALTY * (delta @ delta) + BIAS_PENALTY * (bias @ bias) + 0.5 * (common - 1.0) ** 2
        residual = q - one_hot
        by_class = (residual * log_p_centred).sum(axis=0)
        gradient = np.concatenate(
            [
                [by_class.sum() + (common - 1.0)],
                by_class + 2 * SCALE_PENALTY * delta,
                residual.sum(axis=0) + 2 * BIAS_PENALTY * bias,
            ]
        )
        return loss, gradient

    start = np.concatenate([[1.0], np.zeros(2 * N_CLASSES)])
    # A negative scale would turn the ranking of a class round on a handful of rows: bounded at zero together.
    bounds = [(0.05, 5.0)] + [(-0.9, 0.9)] * N_CLASSES + [(None, None)] * N_CLASSES
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500})
    scale = np.maximum(found.x[0] + found.x[1 : 1 + N_CLASSES], 0.02)
    return scale, start_bias + found.x[1 + N_CLASSES :] - scale * log_p.mean(axis=0), bool(found.success)
