"""Extremely randomised trees (Geurts et al. 2006), fitted by scikit-learn, kept as plain arrays in JSON text."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from k4_pipeline._numba import n_threads, njit, run_chunks
from k4_pipeline.config import N_CLASSES
from k4_pipeline.models.tabular import Standardiser, checked_rows, read_text

_ARRAYS = {"roots": "<i8", "feature": "<i4", "threshold": "<f8", "left": "<i4", "right": "<i4", "value": "<f4"}
_FLOOR = 1e-4  # no class is impossible


@njit
def _predict(
    x: np.ndarray,
    roots: np.ndarray,
    feature: np.ndarray,
    threshold: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    value: np.ndarray,
    out: np.ndarray,
) -> None:
    for i in range(len(x)):
        for root in roots:
            node = root
            while left[node] >= 0:
                node = root + (left[node] if x[i, feature[node]] <= threshold[node] else right[node])
            for c in range(out.shape[1]):
                out[i, c] += value[node, c]


@dataclass
class ExtraTrees:
    """Trees on standardised features, each on a bootstrap of `sample_frac` of the rows."""

    trees: int = 150
    min_leaf_rows: int = 40
    feature_frac: float = 0.3
    sample_frac: float = 0.4
    standardiser: Standardiser | None = None
    arrays: dict[str, np.ndarray] | None = None

    def fit(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None, seed: int = 0) -> ExtraTrees:
        """Fit in place and return self; the same rows and seed give the same trees on any number of threads."""
        from sklearn.ensemble import ExtraTreesClassifier

        x, y, w = checked_rows(x, y, weights)
        self.standardiser = Standardiser.fit(x)
        model = ExtraTreesClassifier(
            self.trees,
            min_samples_leaf=self.min_leaf_rows,
            max_features=self.feature_frac,
            bootstrap=True,
            max_samples=self.sample_frac,
            n_jobs=n_threads(),
            random_state=seed,
        ).fit(self.standardiser.transform(x), y, sample_weight=w)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in _ARRAYS}
        count = 0
        for tree in (e.tree_ for e in model.estimators_):
            parts["roots"].append(np.array([count]))
            count += tree.node_count
            parts["feature"].append(tree.feature)
            parts["threshold"].append(tree.threshold)
            parts["left"].append(tree.children_left)
            parts["right"].append(tree.children_right)
            value = np.zeros((tree.node_count, N_CLASSES))
            value[:, model.classes_] = tree.value[:, 0, :]
            parts["value"].append(value / np.maximum(value.sum(axis=1, keepdims=True), 1e-300))
        self.arrays = {name: np.concatenate(parts[name]).astype(dtype) for name, dtype in _ARRAYS.items()}
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """(n, 6) float64."""
        assert self.standardiser is not None
        assert self.arrays is not None
        z, arrays = self.standardiser.transform(np.asarray(x, dtype=np.float32)), list(self.arrays.values())
        out = np.zeros((len(z), N_CLASSES))
        run_chunks(lambda a, b: _predict(z[a:b], *arrays, out[a:b]), len(z), 64)
        p = out / len(self.arrays["roots"]) + _FLOOR
        return p / p.sum(axis=1, keepdims=True)

    def to_json(self) -> str:
        """Arrays in base64, little-endian; exact."""
        assert self.standardiser is not None
        assert self.arrays is not None
        texts = {name: base64.b64encode(self.arrays[name].tobytes()).decode() for name in _ARRAYS}
        values = {
            "kind": "extra_trees",
            "trees": self.trees,
            "min_leaf_rows": self.min_leaf_rows,
            "feature_frac": self.feature_frac,
            "sample_frac": self.sample_frac,
            "standardiser": self.standardiser.to_dict(),
            "arrays": texts,
        }
        return json.dumps(values, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ExtraTrees:
        """The inverse of `to_json`."""
        v: dict[str, Any] = read_text(text, "extra_trees")
        # Copied, so that the kernel meets writable arrays before and after loading and is compiled once.
        arrays = {n: np.frombuffer(base64.b64decode(v["arrays"][n]), dtype).copy() for n, dtype in _ARRAYS.items()}
        arrays["value"] = arrays["value"].reshape(-1, N_CLASSES)
        fields = {name: v[name] for name in ("trees", "min_leaf_rows", "feature_frac", "sample_frac")}
        return cls(**fields, standardiser=Standardiser.from_dict(v["standardiser"]), arrays=arrays)
