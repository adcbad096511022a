"""Before labels are known: do today's inputs and predictions still look like those the model learned from?

Reference rows are the model's train rows, current rows those scored lately; both are tabular model inputs (n, d), NaN
where not available. One month never looks like all of history: so each measure is judged by what it was for the months
of the train rows themselves, each against the others. Nothing here says that a model is wrong: it says that it is used
elsewhere than where it was validated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.special import kolmogorov

PSI_BINS = 10
PSI_LIMIT = 0.25  # "a major shift" by the usual reading (Siddiqi 2006)
KS_ALPHA = 0.01  # of all inputs together
MIN_ROWS = 10  # patterns; fewer say nothing
MIN_MONTHS = 8  # of train rows, for limits of their own
JUDGED = ("domain_auc", "psi_mean", "outside_frac", "p_k4_psi")
# What a measure may reach where too few months are known to say; and at least, whatever they say.
USUAL_LIMITS = {"domain_auc": 0.95, "psi_mean": 0.50, "outside_frac": 0.25, "p_k4_psi": 0.50}
LEAST_LIMITS = {"domain_auc": 0.65, "psi_mean": 0.10, "outside_frac": 0.05, "p_k4_psi": 0.10}
_FOLDS = 5
_RIDGE = 0.05  # of the number of rows, on standardised inputs
_BLOCKS = 5  # spans of time
_MOST_ROWS = 2000  # of each side of the domain classifier


@dataclass(frozen=True)
class ReferenceRange:
    """What the train rows look like: bounds of each input and how many inputs outside them a row may have."""

    low: np.ndarray  # (d,) 0.1% quantile
    high: np.ndarray  # (d,) 99.9% quantile
    outside_frac: float  # share of the inputs outside that all but one in a thousand train rows stay below

    @classmethod
    def of(cls, reference: np.ndarray, days: np.ndarray | None = None) -> ReferenceRange:
        """Fitted on train rows (n, d); with their `days` (n,), how many inputs may lie outside is told by rows whose
        time the bounds had not seen: the rows are cut into `_BLOCKS` spans of time, each judged by the bounds of the
        others.
        """
        low, high = _bounds(reference)
        counted = ((reference < low) | (reference > high)).mean(axis=1)
        if days is not None and len(reference) >= 10 * _BLOCKS:
            blocks = np.array_split(np.argsort(days, kind="stable"), _BLOCKS)
            for block in blocks:
                others = np.ones(len(reference), dtype=bool)
                others[block] = False
                below, above = _bounds(reference[others])
                counted[block] = ((reference[block] < below) | (reference[block] > above)).mean(axis=1)
        return cls(low, high, float(np.quantile(counted, 0.999)))

    def outside(self, rows: np.ndarray) -> np.ndarray:
        """(n, d) bool: inputs outside the bounds; what is not available is not outside."""
        return (rows < self.low) | (rows > self.high)

    def too_far(self, rows: np.ndarray) -> np.ndarray:
        """(n,) bool: rows with more inputs outside the bounds than all but one in a thousand train rows."""
        return self.outside(rows).mean(axis=1) > max(self.outside_frac, 1.0 / rows.shape[1])

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"low": self.low.tolist(), "high": self.high.tolist(), "outside_frac": self.outside_frac}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ReferenceRange:
        """The inverse of `to_dict`."""
        return cls(np.array(values["low"]), np.array(values["high"]), float(values["outside_frac"]))


def _bounds(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.nanquantile(np.where(np.isfinite(rows).any(axis=0), rows, 0.0), [0.001, 0.999], axis=0)
    return low, high


def population_stability(reference: np.ndarray, current: np.ndarray, bins: int = PSI_BINS) -> float:
    """PSI = sum (c - r) * ln(c / r) over bins of equal reference share, for one input; 0 for equal distributions.

    What two samples of one distribution have on average, (bins - 1) * (1/n + 1/m), is taken off; never below 0.
    """
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1]))
    shares = []
    for values in (reference, current):
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        shares.append((counts + 0.5) / (len(values) + 0.5 * len(counts)))
    r, c = shares
    by_chance = len(edges) * (1.0 / len(reference) + 1.0 / len(current))
    return max(0.0, float(((c - r) * np.log(c / r)).sum()) - by_chance)


def ks_p_value(a: np.ndarray, b: np.ndarray) -> float:
    """Kolmogorov-Smirnov: asymptotic p-value that two samples come from one distribution."""
    every = np.concatenate([a, b])
    steps = [np.searchsorted(np.sort(x), every, side="right") / len(x) for x in (a, b)]
    distance = float(np.abs(steps[0] - steps[1]).max())
    return float(kolmogorov(distance * np.sqrt(len(a) * len(b) / (len(a) + len(b)))))


def domain_auc(reference: np.ndarray, current: np.ndarray, seed: int = 0) -> float:
    """Cross-validated AUC of a linear classifier that tells current rows from reference rows; 0.5: it cannot.

    Ridge regression on standardised inputs (the direction of a regularised discriminant), both sides weighed alike.
    """
    rng = np.random.default_rng(seed)
    sides = [
        rows if len(rows) <= _MOST_ROWS else rows[rng.choice(len(rows), _MOST_ROWS, replace=False)]
        for rows in (reference, current)
    ]
    x = np.concatenate(sides).astype(np.float64)
    y = np.repeat([0.0, 1.0], [len(side) for side in sides])
    known = np.isfinite(sides[0])
    mean = np.where(known, sides[0], 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    deviation = np.sqrt(np.where(known, (sides[0] - mean) ** 2, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))
    z = np.clip(np.where(np.isfinite(x), (x - mean) / np.where(deviation > 1e-9, deviation, np.inf), 0.0), -8, 8)
    z = np.concatenate([z, np.ones((len(z), 1))], axis=1)
    fold = np.concatenate([rng.permutation(len(side)) % _FOLDS for side in sides])
    weight = np.where(y > 0, 0.5 / len(sides[1]), 0.5 / len(sides[0]))
    score = np.empty(len(z))
    for k in range(_FOLDS):
        out, zw = fold == k, z[fold != k] * weight[fold != k, None]
        gram = zw.T @ z[fold != k] + _RIDGE * np.eye(z.shape[1])
        score[out] = z[out] @ np.linalg.solve(gram, zw.T @ (y[fold != k] - 0.5))
    # Folds have levels of their own; within each, what share of the pairs is in order?
    pairs = [_pairs_in_order(score[fold == k], y[fold == k] > 0) for k in range(_FOLDS)]
    return sum(good for good, _ in pairs) / max(sum(n for _, n in pairs), 1)


def _pairs_in_order(score: np.ndarray, positive: np.ndarray) -> tuple[float, int]:
    ups, downs = np.sort(score[positive]), np.sort(score[~positive])
    if not len(ups) or not len(downs):
        return 0.0, 0
    below = np.searchsorted(downs, ups, side="left") + np.searchsorted(downs, ups, side="right")
    return float(below.sum() / 2), len(ups) * len(downs)


def by_input(reference: np.ndarray, current: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """`input`, `psi`, `ks_p` of every input known on both sides, largest PSI first."""
    rows = []
    for i, name in enumerate(names):
        a, b = (side[:, i][np.isfinite(side[:, i])] for side in (reference, current))
        if len(a) >= MIN_ROWS and len(b) >= MIN_ROWS:
            rows.append({"input": str(name), "psi": population_stability(a, b), "ks_p": ks_p_value(a, b)})
    return sorted(rows, key=lambda row: -row["psi"])


def input_drift(reference: np.ndarray, current: np.ndarray, names: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """PSI and Kolmogorov-Smirnov per input, the domain classifier's AUC and the share of rows outside the train range.

    `drifted` names the inputs with a PSI above the limit whose KS p-value, corrected for the number of inputs
    (Bonferroni), is below `KS_ALPHA`; a small sample alone does not drift.
    """
    rows = by_input(reference, current, names)
    return {
        "n_reference": len(reference),
        "n_current": len(current),
        "inputs": rows,
        "drifted": [r["input"] for r in rows if r["psi"] > PSI_LIMIT and r["ks_p"] < KS_ALPHA / len(rows)],
        "psi_mean": float(np.mean([r["psi"] for r in rows])) if rows else None,
        "domain_auc": domain_auc(reference, current, seed),
        "outside_frac": float(ReferenceRange.of(reference).too_far(current).mean()),
    }


@dataclass(frozen=True)
class Limits:
    """What each measure may reach; `months`: how many months of train rows say so (0: the usual values)."""

    values: dict[str, float] = field(default_factory=lambda: dict(USUAL_LIMITS))
    months: int = 0

    @classmethod
    def of(cls, inputs: np.ndarray, months: np.ndarray, p_k4: np.ndarray, p_months: np.ndarray) -> Limits:
        """From inputs (n, d) of train rows and P(K4) (m,) of calibration rows, one per pattern, with the month of each.

        Each month is measured against all others; the limit is three standard deviations above the mean of the
        months, and no less than the largest. The newest 24 months that have `MIN_ROWS` patterns are looked at.
        """
        found: dict[str, list[float]] = {name: [] for name in JUDGED}
        for own in _each_month(months):
            measured = input_drift(inputs[~own], inputs[own], [str(i) for i in range(inputs.shape[1])])
            for name in JUDGED[:3]:
                found[name].append(measured[name])
        found["p_k4_psi"] = [population_stability(p_k4[~own], p_k4[own]) for own in _each_month(p_months)]
        limits = dict(USUAL_LIMITS)
        for name, values in found.items():
            if len(values) >= MIN_MONTHS:
                high = max(float(np.mean(values) + 3 * np.std(values)), max(values), LEAST_LIMITS[name])
                limits[name] = min(high, 0.999) if name == "domain_auc" else high
        months_used = len(found["domain_auc"])
        return cls(limits, months_used if months_used >= MIN_MONTHS else 0)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)


def _each_month(months: np.ndarray) -> list[np.ndarray]:
    """The rows (n,) bool of each of the newest 24 months that leave `MIN_ROWS` inside and outside."""
    names, counts = np.unique(months, return_counts=True)
    enough = (counts >= MIN_ROWS) & (len(months) - counts >= MIN_ROWS)
    return [months == name for name in names[enough][-24:]]


def prediction_drift(reference: np.ndarray, current: np.ndarray) -> dict[str, float]:
    """PSI and KS p-value of P(K4), and both means: calibration rows (n,) against those scored lately (m,)."""
    return {
        "p_k4_psi": population_stability(reference, current),
        "p_k4_ks_p": ks_p_value(reference, current),
        "p_k4_mean_reference": float(reference.mean()),
        "p_k4_mean": float(current.mean()),
    }


_WORDS = {
    "domain_auc": "a classifier tells the rows scored lately from the train rows (AUC {value:.2f})",
    "psi_mean": "the inputs are distributed otherwise than in training (mean PSI {value:.2f})",
    "outside_frac": "{value:.0%} of the rows lie outside what the model was trained on",
    "p_k4_psi": "P(K4) is distributed otherwise than on the calibration rows (PSI {value:.2f})",
}


def reasons(measured: dict[str, Any], limits: Limits) -> list[str]:
    """A sentence for each measure above its limit; empty: no drift."""
    out = []
    for name in JUDGED:
        value, limit = measured.get(name), limits.values[name]
        if value is not None and value > limit:
            since = (
                f"in {limits.months} months of training at most {limit:.2f}" if limits.months else f"limit {limit:g}"
            )
            out.append(f"{_WORDS[name].format(value=value)}; {since}")
    return out
