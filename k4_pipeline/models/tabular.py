"""Classifiers of one row of features: a multinomial logit and gradient-boosted trees. No sequence, no torch.

Both take X (n, d) float32 in which NaN means "not available", classes y (n,) int 0..5 and weights (n,) or None, and
give probabilities (n, 6) float64 that sum to one. Fitted twice on the same rows with the same seed they are the same to
the bit; a row's probabilities do not depend on the other rows. They are stored as JSON text, never pickled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from k4_pipeline._numba import n_threads
from k4_pipeline.config import N_CLASSES
from k4_pipeline.errors import BadInputError, StaleArtifactError

_QUANTILES = (0.005, 0.995)
_BOUND = 8.0  # standard deviations, as in the scaler of the sequences
_ABSENT = 0.5  # rows that a class counts which the fit did not see


@dataclass(frozen=True, eq=False)
class Standardiser:
    """Clip at the fitted quantiles, subtract the mean, divide by the deviation (ddof 0), NaN becomes 0: all (d,)."""

    lower: np.ndarray
    upper: np.ndarray
    center: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray) -> Standardiser:
        """On rows x (n, d); a column that is constant or never finite gets centre and scale so that it becomes 0."""
        columns = np.where(np.isfinite(x), x, np.nan).astype(np.float64)
        empty = np.isnan(columns).all(axis=0)
        columns[:, empty] = 0.0
        lower, upper = np.nanquantile(columns, _QUANTILES, axis=0)
        np.clip(columns, lower, upper, out=columns)
        center, scale = np.nanmean(columns, axis=0), np.nanstd(columns, axis=0)
        scale[scale < 1e-6 * np.maximum(1.0, np.abs(center))] = np.inf
        return cls(*(a.astype(np.float32) for a in (lower, upper, center, scale)))

    def transform(self, x: np.ndarray) -> np.ndarray:
        """x (n, d) standardised, float32 and finite."""
        z = (np.clip(x, self.lower, self.upper) - self.center) / self.scale
        return np.nan_to_num(np.clip(z, -_BOUND, _BOUND), nan=0.0).astype(np.float32)

    def to_dict(self) -> dict[str, list[float | None]]:
        """JSON-able and exact; an infinite scale is None."""
        return {
            name: [float(v) if np.isfinite(v) else None for v in getattr(self, name)]
            for name in ("lower", "upper", "center", "scale")
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Standardiser:
        """The inverse of `to_dict`."""
        return cls(
            *(
                np.array([np.inf if v is None else v for v in values[name]], dtype=np.float32)
                for name in ("lower", "upper", "center", "scale")
            )
        )


def checked_rows(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of a fit as float32, int64 and float64; `BadInputError` when they do not match."""
    x, y = np.asarray(x, dtype=np.float32), np.asarray(y, dtype=np.int64)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    if x.ndim != 2 or len(x) == 0 or len(x) != len(y) or len(w) != len(y):
        raise BadInputError(f"a fit needs matching rows; got features {x.shape}, {len(y)} classes, {len(w)} weights")
    if y.min() < 0 or y.max() >= N_CLASSES:
        raise BadInputError(f"classes run from {y.min()} to {y.max()}; rows without a known class cannot be fitted")
    return x, y, w


def _all_classes(p: np.ndarray, present: np.ndarray, n_rows: int) -> np.ndarray:
    """p (n, classes present) spread to (n, 6); an absent class counts as half a row of the fit."""
    out = np.full((len(p), N_CLASSES), _ABSENT / (n_rows + _ABSENT * N_CLASSES))
    out[:, present] = p
    return out / out.sum(axis=1, keepdims=True)


@dataclass
class Logit:
    """Multinomial logistic regression on standardised features; `c` is the inverse of the L2 penalty per row sum."""

    c: float = 0.01
    max_iterations: int = 300
    standardiser: Standardiser | None = None
    present: np.ndarray | None = None  # (k,) classes seen
    coefficients: np.ndarray | None = None  # (k, d) float64
    intercept: np.ndarray | None = None  # (k,)
    n_rows: int = 0

    def fit(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None, seed: int = 0) -> Logit:
        """Fit in place and return self; `seed` changes nothing, the problem is convex."""
        from sklearn.linear_model import LogisticRegression

        x, y, w = checked_rows(x, y, weights)
        self.standardiser, self.n_rows = Standardiser.fit(x), len(y)
        self.present = np.unique(y)
        if len(self.present) == 1:
            self.coefficients, self.intercept = np.zeros((1, x.shape[1])), np.zeros(1)
            return self
        model = LogisticRegression(C=self.c, max_iter=self.max_iterations)
        model.fit(self.standardiser.transform(x).astype(np.float64), y, sample_weight=w)
        if len(self.present) == 2:  # scikit-learn keeps one row of a symmetric pair
            self.coefficients = np.concatenate([-model.coef_, model.coef_]) / 2.0
            self.intercept = np.concatenate([-model.intercept_, model.intercept_]) / 2.0
        else:
            self.coefficients, self.intercept = model.coef_, model.intercept_
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """(n, 6) float64."""
        assert self.standardiser is not None
        assert self.coefficients is not None
        assert self.intercept is not None
        assert self.present is not None
        z = self.standardiser.transform(np.asarray(x, dtype=np.float32)).astype(np.float64)
        # Not a matrix product: that chooses its order of summation by the number of rows.
        logits = np.stack([(z * row).sum(axis=1) for row in self.coefficients], axis=1) + self.intercept
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        return _all_classes(e / e.sum(axis=1, keepdims=True), self.present, self.n_rows)

    def to_json(self) -> str:
        """Exact: floats are written with all their digits."""
        assert self.standardiser is not None
        assert self.coefficients is not None
        assert self.intercept is not None
        assert self.present is not None
        values = {
            "kind": "logit",
            "c": self.c,
            "max_iterations": self.max_iterations,
            "n_rows": self.n_rows,
            "present": self.present.tolist(),
            "coefficients": self.coefficients.tolist(),
            "intercept": self.intercept.tolist(),
            "standardiser": self.standardiser.to_dict(),
        }
        return json.dumps(values, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Logit:
        """The inverse of `to_json`."""
        v = read_text(text, "logit")
        return cls(
            v["c"],
            v["max_iterations"],
            Standardiser.from_dict(v["standardiser"]),
            np.array(v["present"], dtype=np.int64),
            np.array(v["coefficients"], dtype=np.float64),
            np.array(v["intercept"], dtype=np.float64),
            v["n_rows"],
        )


@dataclass
class GradientBoosting:
    """LightGBM, multiclass; NaN goes its own way in every split. Defaults: 8 leaves, 120 rounds."""

    leaves: int = 8
    rounds: int = 120
    learning_rate: float = 0.05
    min_leaf_rows: int = 20
    feature_frac: float = 1.0
    l2: float = 0.0
    present: np.ndarray | None = None
    n_rows: int = 0
    booster: Any = None

    def fit(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None, seed: int = 0) -> GradientBoosting:
        """Fit in place and return self; the seed matters where features are drawn (`feature_frac` below 1)."""
        import lightgbm

        x, y, w = checked_rows(x, y, weights)
        self.present, self.n_rows = np.unique(y), len(y)
        if len(self.present) == 1:
            return self
        parameters = {
            "objective": "multiclass",
            "num_class": len(self.present),
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_leaf_rows,
            "feature_fraction": self.feature_frac,
            "lambda_l2": self.l2,
            "seed": seed,
            # The same trees whatever the number of threads.
            "deterministic": True,
            "force_col_wise": True,
            "num_threads": n_threads(),
            "verbosity": -1,
        }
        data = lightgbm.Dataset(x, np.searchsorted(self.present, y), weight=w, free_raw_data=True)
        fitted = lightgbm.train(parameters, data, num_boost_round=self.rounds)
        # Through its text once, so that what predicts now is what predicts after loading.
        self.booster = lightgbm.Booster(model_str=fitted.model_to_string())
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """(n, 6) float64."""
        assert self.present is not None
        x = np.asarray(x, dtype=np.float32)
        if self.booster is None:
            p = np.ones((len(x), 1))
        else:
            p = np.asarray(self.booster.predict(x, num_threads=n_threads())).reshape(len(x), len(self.present))
        return _all_classes(p, self.present, self.n_rows)

    def to_json(self) -> str:
        """JSON around LightGBM's own model text."""
        assert self.present is not None
        values = {
            "kind": "gradient_boosting",
            "leaves": self.leaves,
            "rounds": self.rounds,
            "learning_rate": self.learning_rate,
            "min_leaf_rows": self.min_leaf_rows,
            "feature_frac": self.feature_frac,
            "l2": self.l2,
            "present": self.present.tolist(),
            "n_rows": self.n_rows,
            "model": None if self.booster is None else self.booster.model_to_string(),
        }
        return json.dumps(values, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> GradientBoosting:
        """The inverse of `to_json`."""
        v = read_text(text, "gradient_boosting")
        booster = None
        if v["model"] is not None:
            import lightgbm

            booster = lightgbm.Booster(model_str=v["model"])
        names = ("leaves", "rounds", "learning_rate", "min_leaf_rows", "feature_frac", "l2")
        fields = {name: v[name] for name in names}
        return cls(**fields, present=np.array(v["present"], np.int64), n_rows=v["n_rows"], booster=booster)


def read_text(text: str, kind: str) -> dict[str, Any]:
    """The JSON object of a stored model; `StaleArtifactError` when it is none of that kind."""
    try:
        values = json.loads(text)
    except ValueError as problem:
        raise StaleArtifactError(f"the stored {kind} model cannot be read ({problem}); train again") from problem
    if not isinstance(values, dict) or values.get("kind") != kind:
        raise StaleArtifactError(f"the stored model is no {kind} model; train again")
    return values
