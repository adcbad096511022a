"""What every baseline but the network says, a second time: what it is fitted on, how, and in which order rows stand.

Written from docs/model-card.md and the declarations of the baselines, with scikit-learn and LightGBM alone. Every
function takes classes y (n_known,) 0..5 and gives (score (n,), probabilities (n, 6)), float64.
"""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import n_threads

CLASSES, K4, FLOOR, HALF_A_ROW = 6, 4, 1e-5, 0.5
Said = tuple[np.ndarray, np.ndarray]


def class_mix(y: np.ndarray, n: int) -> Said:
    """The shares of the classes, half a row added to each, for every one of n rows."""
    shares = np.bincount(y, minlength=CLASSES) + HALF_A_ROW
    p = np.tile(shares / shares.sum(), (n, 1))
    return p[:, K4], p


def spread(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Probabilities of the classes that occur in y, as (n, 6); one that does not counts as half a row."""
    out = np.full((len(p), CLASSES), HALF_A_ROW / (len(y) + HALF_A_ROW * CLASSES))
    out[:, np.unique(y)] = p
    return out / out.sum(axis=1, keepdims=True)


def standardised(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    """x (n, d) clipped at the 0.5% and 99.5% quantiles of `known`, centred and scaled by them, within 8; NaN is 0."""
    at = np.where(np.isfinite(known), known, np.nan).astype(np.float64)
    at[:, np.isnan(at).all(axis=0)] = 0.0
    low, high = np.nanquantile(at, (0.005, 0.995), axis=0)
    at = np.clip(at, low, high)
    mean, deviation = np.nanmean(at, axis=0), np.nanstd(at, axis=0)
    deviation[deviation < 1e-6 * np.maximum(1.0, np.abs(mean))] = np.inf
    low, high, mean, deviation = (v.astype(np.float32) for v in (low, high, mean, deviation))
    z = np.clip((np.clip(np.asarray(x, np.float32), low, high) - mean) / deviation, -8.0, 8.0)
    return np.nan_to_num(z, nan=0.0).astype(np.float32).astype(np.float64)


def logit(known: np.ndarray, y: np.ndarray, wanted: np.ndarray, c: float) -> Said:
    """Multinomial logistic regression on standardised columns, L2 penalty of inverse strength c."""
    from sklearn.linear_model import LogisticRegression

    known, wanted = (np.asarray(x, dtype=np.float32) for x in (known, wanted))
    if len(np.unique(y)) == 1:
        p = spread(np.ones((len(wanted), 1)), y)
    else:
        fitted = LogisticRegression(C=c, max_iter=300).fit(standardised(known, known), y)
        p = spread(fitted.predict_proba(standardised(wanted, known)), y)
    return p[:, K4], p


def by_volatility(known: np.ndarray, y: np.ndarray, wanted: np.ndarray) -> Said:
    """Ranked by the volatility itself; probabilities from a logit on its logarithm and the square of that."""

    def columns(v: np.ndarray) -> np.ndarray:
        log = np.log(np.maximum(np.nan_to_num(v, nan=FLOOR), FLOOR))
        return np.column_stack([log, log * log])

    return np.nan_to_num(wanted, nan=-1.0), logit(columns(known), y, columns(wanted), 1.0)[1]


def trees(known: np.ndarray, y: np.ndarray, wanted: np.ndarray) -> Said:
    """LightGBM: 120 rounds of 8 leaves of at least 20 rows, learning rate .05, on every known row."""
    import lightgbm

    present = np.unique(y)
    if len(present) == 1:
        p = spread(np.ones((len(wanted), 1)), y)
        return p[:, K4], p
    parameters = {
        "objective": "multiclass",
        "num_class": len(present),
        "num_leaves": 8,
        "learning_rate": 0.05,
        "min_data_in_leaf": 20,
        "deterministic": True,
        "force_col_wise": True,
        "seed": 0,
        "num_threads": n_threads(),
        "verbosity": -1,
    }
    data = lightgbm.Dataset(np.asarray(known, np.float32), np.searchsorted(present, y), weight=np.ones(len(y)))
    fitted = lightgbm.train(parameters, data, num_boost_round=120)
    p = spread(np.asarray(fitted.predict(np.asarray(wanted, np.float32))).reshape(len(wanted), len(present)), y)
    return p[:, K4], p
