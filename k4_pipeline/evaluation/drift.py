"""Before labels are known: do today's inputs and predictions still look like those the model learned from?

Reference rows are the model's train rows, current rows those scored lately; both are tabular model inputs (n, d). NaN
is not there (model inputs are filled). Nothing here says that a model is wrong: it says that it is used elsewhere than
where it was validated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

PSI_BINS = 10
PSI_LIMIT = 0.25  # "a major shift" by the usual reading (Siddiqi 2006)
_FLOOR = 1e-4  # share given to an empty bin, so that the logarithm exists


@dataclass(frozen=True)
class ReferenceRange:
    """What the train rows look like: bounds of each input and of the distance from their centre."""

    low: np.ndarray  # (d,) 0.1% quantile
    high: np.ndarray  # (d,) 99.9% quantile
    outside_frac: float  # most inputs outside these bounds that 99.9% of the train rows have

    @classmethod
    def of(cls, reference: np.ndarray) -> ReferenceRange:
        """Fitted on train rows (n, d)."""
        low, high = np.quantile(reference, [0.001, 0.999], axis=0)
        outside = ((reference < low) | (reference > high)).mean(axis=1)
        return cls(low, high, float(np.quantile(outside, 0.999)))

    def too_far(self, rows: np.ndarray) -> np.ndarray:
        """(n,) bool: rows with more inputs outside the bounds than all but one in a thousand train rows."""
        outside = ((rows < self.low) | (rows > self.high)).mean(axis=1)
        return outside > max(self.outside_frac, 1.0 / rows.shape[1])


def population_stability(reference: np.ndarray, current: np.ndarray, bins: int = PSI_BINS) -> float:
    """PSI = sum (c - r) * ln(c / r) over bins of equal reference share, for one input; 0 for equal distributions."""
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1]))
    shares = []
    for values in (reference, current):
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        shares.append(np.maximum(counts / max(1, len(values)), _FLOOR))
    r, c = shares
    return float(((c - r) * np.log(c / r)).sum())


def domain_auc(reference: np.ndarray, current: np.ndarray, seed: int = 0, folds: int = 5) -> float:
    """Cross-validated AUC of a logistic classifier that tells current rows from reference rows; 0.5: it cannot.

    Both sides are drawn to equal size (at most 5,000 rows each).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(seed)
    n = min(len(reference), len(current), 5000)
    if n < folds * 2:
        return float("nan")
    x = np.concatenate([rows[rng.choice(len(rows), n, replace=False)] for rows in (reference, current)])
    y = np.repeat([0, 1], n)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, C=0.1))
    cv = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return float(roc_auc_score(y, cross_val_predict(model, x, y, cv=cv, method="predict_proba")[:, 1]))


def input_drift(
    reference: np.ndarray, current: np.ndarray, names: Sequence[str], *, alpha: float = 0.01, seed: int = 0
) -> dict[str, Any]:
    """PSI and Kolmogorov-Smirnov per input, the domain classifier's AUC and the share of rows outside the train range.

    `drifted` names the inputs with a PSI above the limit whose KS p-value, corrected for the number of inputs
    (Bonferroni), is below `alpha`; a small sample alone does not drift.
    """
    rows = []
    for i, name in enumerate(names):
        a, b = reference[:, i], current[:, i]
        p_value = float(stats.ks_2samp(a, b).pvalue)
        rows.append({"input": str(name), "psi": population_stability(a, b), "ks_p": p_value})
    rows.sort(key=lambda row: -row["psi"])
    drifted = [r["input"] for r in rows if r["psi"] > PSI_LIMIT and r["ks_p"] < alpha / len(rows)]
    return {
        "n_reference": len(reference),
        "n_current": len(current),
        "inputs": rows,
        "drifted": drifted,
        "domain_auc": domain_auc(reference, current, seed),
        "outside_frac": float(ReferenceRange.of(reference).too_far(current).mean()) if len(current) else None,
    }
