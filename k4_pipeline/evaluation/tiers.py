"""Certified tiers: "precision at least m times the base rate", proved on rows that no model saw (Learn then Test).

One row per pattern, chosen by a hash, so that a pattern with many snapshots counts once. For each multiple m the
hypotheses "among the rows with the highest P(K4), a share c of all, the K4 rate is below m times the base rate" are
tested in a fixed order of c, from few rows to many, until one is not rejected (fixed-sequence testing controls the
family-wise error without a correction; Angelopoulos et al. 2021, "Learn then Test"). The test is the exact binomial
one. Rows of one ticker or one month are not independent, so rows and hits are first divided by a design effect: the
two-way cluster-robust variance of the K4 share over its binomial variance, at least 1. The base rate is the larger of
that of the calibration rows and that of the train rows, so that a lively year certifies nothing by itself.

What is certified is the score of the fits that were made before validation. Where a refit on newer rows is served
beside them, its probabilities move P(K4) and EV but not the tier: a tier is given by the certified score alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import K4, SIGNAL_NAMES
from k4_pipeline.config.tiers import TierConfig

AVOID = SIGNAL_NAMES[-1]
TIERS = SIGNAL_NAMES[:-1]


@dataclass(frozen=True)
class Certificate:
    """What one tier promises: P(K4) from `threshold` on means a K4 rate of at least `promised`, with `confidence`."""

    tier: str
    multiple: float
    base_rate: float
    promised: float  # multiple * base_rate
    threshold: float  # of the calibrated P(K4)
    coverage: float  # share of the calibration rows from the threshold on
    rows: int  # calibration rows from the threshold on, one per pattern
    hits: int  # of them K4
    bound: float  # lower confidence bound of the K4 rate, after the design effect
    p_value: float
    confidence: float
    design_effect: float


@dataclass(frozen=True)
class Certificates:
    """The tiers that were certified, best first; `why_none` says in a sentence why there is none."""

    tiers: tuple[Certificate, ...]
    why_none: str
    calibration_rows: int  # one per pattern
    calibration_k4: int

    @classmethod
    def none(cls, why: str = "") -> Certificates:
        """No tier, before any row was looked at."""
        return cls((), why, 0, 0)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; every tier with `certified` and the `precision` it promises, as monitoring reads it."""
        tiers = [{**asdict(c), "certified": True, "precision": c.promised} for c in self.tiers]
        return {**asdict(self), "tiers": tiers}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Certificates:
        """The inverse of `to_dict`."""
        names = [f.name for f in fields(Certificate)]
        tiers = tuple(Certificate(**{name: t[name] for name in names}) for t in values["tiers"])
        return cls(tiers, values["why_none"], int(values["calibration_rows"]), int(values["calibration_k4"]))


def one_row_per_pattern(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each pattern_id the row whose key has the smallest hash: a choice that knows neither class nor score."""
    keys = rows["pattern_id"].astype(str) + "|" + rows["snapshot_date"].astype(str)
    order = keys.map(lambda text: hashlib.sha256(text.encode()).hexdigest())
    first = order.groupby(rows["pattern_id"].astype(str)).idxmin()
    return rows.loc[first.to_numpy()].reset_index(drop=True)


def design_effect(is_k4: np.ndarray, tickers: Sequence[Any], dates: np.ndarray) -> float:
    """Variance of the mean of `is_k4` (n,) clustered by ticker and by month, over its binomial variance; at least 1."""
    hit = np.asarray(is_k4, np.float64)
    residual = hit - hit.mean()
    alone = float(residual @ residual)
    if alone == 0.0:
        return 1.0
    total = -alone
    for groups in (np.asarray(tickers).astype(str), np.asarray(dates).astype("datetime64[M]")):
        _, codes = np.unique(groups, return_inverse=True)
        total += float((np.bincount(codes, weights=residual) ** 2).sum())
    return max(1.0, total / alone)


def certify(
    p_k4: np.ndarray, is_k4: np.ndarray, train_rate: float, effect: float, config: TierConfig
) -> tuple[Certificate, ...]:
    """The certified tiers from P(K4) (n,) and outcomes (n,) of calibration rows, one per pattern, best first."""
    from scipy.stats import beta, binom  # here alone: a night reads certificates and makes none

    n = len(p_k4)
    order = np.argsort(-np.asarray(p_k4), kind="stable")
    score, hit = np.asarray(p_k4, np.float64)[order], np.asarray(is_k4, bool)[order]
    base = max(float(hit.mean()) if n else 0.0, train_rate)
    counts = [round(c * n) for c in config.coverages if c * n / effect >= config.min_rows]
    found = []
    for tier, multiple in zip(TIERS, config.multiples):
        promised, best = multiple * base, None
        for k in counts:
            k = int(np.searchsorted(-score, -score[k - 1], side="right"))  # ties belong to the same set
            rows, hits = math.floor(k / effect), math.floor(hit[:k].sum() / effect)
            p_value = float(binom.sf(hits - 1, rows, min(promised, 1.0)))
            if promised >= 1.0 or p_value > 1.0 - config.confidence:
                break
            bound = float(beta.ppf(1.0 - config.confidence, hits, rows - hits + 1))
            best = Certificate(
                tier=tier,
                multiple=multiple,
                base_rate=base,
                promised=promised,
                threshold=float(score[k - 1]),
                coverage=k / n,
                rows=k,
                hits=int(hit[:k].sum()),
                bound=bound,
                p_value=p_value,
                confidence=config.confidence,
                design_effect=effect,
            )
        if best is not None:
            found.append(best)
    return tuple(found)


def certificates(
    rows: pd.DataFrame, p_k4: np.ndarray, class_counts: Sequence[int], config: TierConfig, *, min_train_k4: int
) -> Certificates:
    """Certificates from calibration rows that no model saw.

    `rows`: pattern_id, ticker, snapshot_date, outcome_class; `p_k4` (n,) the calibrated probabilities of a model that
    was not fitted on them; `class_counts` (6,) of its train rows, of which `min_train_k4` have to be K4.
    """
    train_k4 = int(class_counts[K4])
    if train_k4 < min_train_k4:
        why = f"No tier: the model saw {train_k4} K4 rows in training; {min_train_k4} are needed."
        return Certificates.none(why)
    single = one_row_per_pattern(rows.assign(_p=np.asarray(p_k4)))
    is_k4 = single["outcome_class"].to_numpy(np.int64) == K4
    n, hits = len(single), int(is_k4.sum())
    if n == 0 or hits == 0:
        return Certificates((), f"No tier: {hits} K4 among {n} patterns that the model had not seen.", n, hits)
    effect = design_effect(is_k4, single["ticker"].tolist(), single["snapshot_date"].to_numpy())
    found = certify(single["_p"].to_numpy(), is_k4, train_k4 / sum(class_counts), effect, config)
    why = ""
    if not found:
        why = (
            f"No tier: {n} patterns the model had not seen, {hits} of them K4 (worth {n / effect:.0f} independent "
            f"patterns), do not prove even {config.multiples[-1]:g} times the base rate with confidence "
            f"{config.confidence:.0%}."
        )
    return Certificates(found, why, n, hits)


def assign_tiers(p_k4: np.ndarray, tiers: Sequence[Certificate]) -> np.ndarray:
    """The best certified tier of each P(K4) (n,), AVOID where none reaches; (n,) object."""
    out = np.full(len(p_k4), AVOID, dtype=object)
    for certificate in reversed(list(tiers)):
        out[np.asarray(p_k4) >= certificate.threshold] = certificate.tier
    return out


def checked_on_test(found: Certificates, rows: pd.DataFrame, p_k4: np.ndarray) -> list[dict[str, Any]]:
    """What became of every promise on test rows, one per pattern: rows, hits, rate, and what they say of the promise.

    `kept`: True when the rate is at least the promise, False when an exact one-sided test rejects the promise at the
    level of the certificate, None when it is lower but may be chance.
    """
    from scipy.stats import binom

    single = one_row_per_pattern(rows.assign(_p=np.asarray(p_k4)))
    is_k4 = single["outcome_class"].to_numpy(np.int64) == K4
    out = []
    for certificate in found.tiers:
        chosen = single["_p"].to_numpy() >= certificate.threshold
        n, hits = int(chosen.sum()), int(is_k4[chosen].sum())
        rate = hits / n if n else float("nan")
        rejected = n > 0 and float(binom.cdf(hits, n, certificate.promised)) < 1.0 - certificate.confidence
        kept = None if n == 0 else True if rate >= certificate.promised else False if rejected else None
        out.append(
            {
                "tier": certificate.tier,
                "promised": certificate.promised,
                "multiple": certificate.multiple,
                "rows": certificate.rows,
                "hits": certificate.hits,
                "bound": certificate.bound,
                "confidence": certificate.confidence,
                "test_rows": n,
                "test_hits": hits,
                "test_rate": rate,
                "kept": kept,
            }
        )
    return out
