"""The standardisation of the model inputs, as stored with a model. scaler.py fits it, model_inputs.py applies it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from k4_pipeline.config import N_FEATURES
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.features.spec import feature_list_hash

_ARRAYS = ("center", "scale", "lower", "upper")


@dataclass(frozen=True, eq=False)
class Scaler:
    """center, scale: what is subtracted and divided by; lower, upper: the train quantiles that bounded the fit.

    All (69,) float32 in canonical order, in units of the scale-free values. `meta` holds the fit's date range, row
    counts, hash of the keys, quantiles, `clip_sigmas`, the hash of the feature declarations and the channels that were
    constant or empty (scale 1).
    """

    center: np.ndarray
    scale: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    meta: dict[str, Any]

    @property
    def clip_sigmas(self) -> float:
        """Bound of the standardised value."""
        return float(self.meta["clip_sigmas"])

    def check_usable(self, *, exact_close: bool) -> None:
        """`StaleArtifactError` when the scaler does not belong to today's declarations or to this kind of index."""
        if self.meta["feature_list_hash"] != feature_list_hash():
            raise StaleArtifactError(
                f"the scaler was fitted for feature list {self.meta['feature_list_hash']}, in use is "
                f"{feature_list_hash()}; fit it again"
            )
        if bool(self.meta["exact_close"]) != exact_close:
            raise StaleArtifactError(
                f"the scaler was fitted {'with' if self.meta['exact_close'] else 'without'} float64 closes and the "
                f"index {'has' if exact_close else 'lacks'} them; pass `close` to SequenceIndex in both places"
            )

    def to_json(self) -> str:
        """JSON that restores every float32 exactly."""
        arrays = {name: [float(v) for v in getattr(self, name)] for name in _ARRAYS}
        return json.dumps({**arrays, "meta": self.meta}, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Scaler:
        """The inverse of `to_json`; `StaleArtifactError` when a field is missing or of the wrong length."""
        try:
            values = json.loads(text)
            arrays = {name: np.array(values[name], dtype=np.float32) for name in _ARRAYS}
            meta = dict(values["meta"])
        except (ValueError, KeyError, TypeError) as problem:
            raise StaleArtifactError(f"the stored scaler cannot be read ({problem}); fit it again") from problem
        if any(a.shape != (N_FEATURES,) or not np.isfinite(a).all() for a in arrays.values()):
            raise StaleArtifactError(f"the stored scaler does not hold {N_FEATURES} finite values each; fit it again")
        return cls(**arrays, meta=meta)

    def hash(self) -> str:
        """sha256 over all values and `meta`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
