"""The five integrity tests of the validation report, each with its limit, interval and sample size.

1. temporal integrity: every date of every row stands in the right order;
2. future contamination: accuracy before against after the median test date;
3. K4 recall consistency: recall within the larger alert budget, early against late half;
4. EV correlation: its lower bound above zero, and a tripwire for results that are too good;
5. class distribution drift: KL divergence of the test mix from the train mix.

Too little evidence is a failure, never a pass. What these tests cannot see: a leak that lifts both halves alike and
stays under the tripwire; the replay and planted-leak checks of this package are for that.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import K4, N_CLASSES, IntegrityConfig
from k4_pipeline.evaluation.bootstrap import cluster_weights, interval
from k4_pipeline.evaluation.weighted import Ranking

PASSED, FAILED, TOO_LITTLE, SUSPICIOUS = "passed", "failed", "not enough evidence", "suspected leakage"


@dataclass(frozen=True)
class IntegrityResult:
    """One test: `passed` is False for `failed`, `not enough evidence` and `suspected leakage` alike."""

    name: str
    status: str
    value: float
    low: float
    high: float
    n: int
    limit: str
    explanation: str

    @property
    def passed(self) -> bool:
        """Whether the test held on enough evidence."""
        return self.status == PASSED

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with `passed`."""
        return {**asdict(self), "passed": self.passed}


def temporal_integrity(split: pd.DataFrame, as_of: pd.Timestamp) -> IntegrityResult:
    """Dates in order: a label ends after its snapshot; train and validation are known before `as_of`, test is after."""
    member = split[split["split"] != "excluded"]
    fitted = member["split"].isin(["train", "validation"])
    known = member["label_end_date"].notna()
    wrong = (
        (known & (member["label_end_date"] <= member["snapshot_date"]))
        | (fitted & ~known)
        | (fitted & known & (member["label_end_date"] >= as_of))
        | ((member["split"] == "test") & (member["snapshot_date"] < as_of))
        | (member["start_date"] > member["snapshot_date"])
    )
    n, count = len(member), int(wrong.sum())
    status = TOO_LITTLE if n == 0 else (PASSED if count == 0 else FAILED)
    text = "no row out of order" if count == 0 else f"first: {member[wrong].iloc[0].to_dict()}"
    return IntegrityResult("temporal integrity", status, float(count), float(count), float(count), n, "0 rows", text)


def _halves(dates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    median = np.sort(dates)[len(dates) // 2] if len(dates) else np.datetime64("NaT")
    return dates < median, dates >= median


def future_contamination(
    dates: np.ndarray, outcome_class: np.ndarray, predicted: np.ndarray, groups: np.ndarray, config: IntegrityConfig
) -> IntegrityResult:
    """Accuracy before minus after the median test date; a large drop says the early half was known in training."""
    limit = f"drop <= {config.contamination_max_drop}"
    early, late = _halves(dates)
    hit = (outcome_class == predicted).astype(float)
    n = len(hit)
    if min(early.sum(), late.sum()) * 2 < config.min_rows:
        nan = float("nan")
        text = f"{int(early.sum())} and {int(late.sum())} labelled test rows; {config.min_rows} are needed"
        return IntegrityResult("future contamination", TOO_LITTLE, nan, nan, nan, n, limit, text)

    def drop(w: np.ndarray) -> float:
        a, b = w[early].sum(), w[late].sum()
        return float(w[early] @ hit[early] / a - w[late] @ hit[late] / b) if min(a, b) > 0 else float("nan")

    value = drop(np.ones(n))
    low, high = interval(drop, cluster_weights(groups, config.bootstrap_draws, config.seed, dates), config.confidence)
    status = PASSED if value <= config.contamination_max_drop else FAILED
    text = f"accuracy {hit[early].mean():.3f} before and {hit[late].mean():.3f} after the median date"
    return IntegrityResult("future contamination", status, value, low, high, n, limit, text)


def recall_consistency(
    dates: np.ndarray, outcome_class: np.ndarray, p_k4: np.ndarray, groups: np.ndarray, config: IntegrityConfig
) -> IntegrityResult:
    """Gap of K4 recall within the largest budget between the early and the late half of the test span."""
    name, limit, budget = "K4 recall consistency", f"gap <= {config.recall_max_gap}", max(config.budget_fracs)
    early, late = _halves(dates)
    is_k4 = outcome_class == K4
    counts = int(is_k4[early].sum()), int(is_k4[late].sum())
    if min(counts) * 2 < config.min_k4:
        nan = float("nan")
        text = f"{counts[0]} and {counts[1]} K4 rows in the halves; {config.min_k4} in all, evenly, are needed"
        return IntegrityResult(name, TOO_LITTLE, nan, nan, nan, len(dates), limit, text)
    rankings = [(part, Ranking.of(p_k4[part], is_k4[part])) for part in (early, late)]

    def gap(w: np.ndarray) -> float:
        a, b = (ranking.recall_in_top(w[part], budget) for part, ranking in rankings)
        return abs(a - b)

    value = gap(np.ones(len(dates)))
    low, high = interval(gap, cluster_weights(groups, config.bootstrap_draws, config.seed, dates), config.confidence)
    a, b = (ranking.recall_in_top(np.ones(part.sum()), budget) for part, ranking in rankings)
    status = PASSED if value <= config.recall_max_gap else FAILED
    text = f"recall in the top {budget:.0%}: {a:.2f} early ({counts[0]} K4), {b:.2f} late ({counts[1]} K4)"
    return IntegrityResult(name, status, value, low, high, len(dates), limit, text)


def ev_correlation(metrics: dict[str, Any], config: IntegrityConfig, audit_passed: bool | None) -> IntegrityResult:
    """Pearson correlation of EV with the realised value; too good a result is suspected until the audit passes."""
    ev = metrics["model"]["ev_correlation_pearson"]
    ap = metrics["model"]["k4_average_precision"]["value"]
    ap_volatility = metrics["volatility_ranking"]["k4_average_precision"]["value"]
    limit = f"lower bound > 0; tripwire {config.ev_correlation_tripwire}; target {config.ev_correlation_target}"
    common = (float(ev["value"]), float(ev["low"]), float(ev["high"]), int(ev["n"]), limit)
    reached = "reached" if ev["value"] >= config.ev_correlation_target else "not reached"
    text = f"the original target of {config.ev_correlation_target} is {reached}"
    if ev["n"] < config.min_rows or not np.isfinite(ev["low"]):
        return IntegrityResult("EV correlation", TOO_LITTLE, *common, f"{ev['n']} rows; {config.min_rows} are needed")
    reasons = []
    if ev["value"] > config.ev_correlation_tripwire:
        reasons.append(f"EV correlation {ev['value']:.3f} > {config.ev_correlation_tripwire}")
    if ap > config.average_precision_tripwire_ratio * ap_volatility:
        reasons.append(f"K4 average precision {ap:.3f} is {ap / ap_volatility:.1f}x that of volatility ranking")
    if reasons and not audit_passed:
        return IntegrityResult("EV correlation", SUSPICIOUS, *common, "too good until audited: " + "; ".join(reasons))
    if reasons:
        text += "; unusually good (" + "; ".join(reasons) + "), and the leakage audit of these artifacts passed"
    return IntegrityResult("EV correlation", PASSED if ev["low"] > 0 else FAILED, *common, text)


def class_drift(train_class: np.ndarray, test_class: np.ndarray, config: IntegrityConfig) -> IntegrityResult:
    """KL divergence (nats) of the test class mix from the train mix, with half a count added to every class."""
    limit = f"KL <= {config.drift_max_kl}"
    n = min(len(train_class), len(test_class))
    if n * 2 < config.min_rows:
        nan = float("nan")
        text = f"{len(train_class)} train and {len(test_class)} test rows; {config.min_rows // 2} of each are needed"
        return IntegrityResult("class distribution drift", TOO_LITTLE, nan, nan, nan, n, limit, text)

    def divergence(test_counts: np.ndarray) -> np.ndarray:
        p = (test_counts + 0.5) / (test_counts + 0.5).sum(axis=-1, keepdims=True)
        return (p * np.log(p / q)).sum(axis=-1)

    train = np.bincount(train_class, minlength=N_CLASSES).astype(float)
    test = np.bincount(test_class, minlength=N_CLASSES).astype(float)
    q = (train + 0.5) / (train + 0.5).sum()
    draws = np.random.default_rng(config.seed).multinomial(
        len(test_class), test / test.sum(), size=config.bootstrap_draws
    )
    tail = 50 * (1 - config.confidence)
    low, high = np.percentile(divergence(draws), [tail, 100 - tail])
    value = float(divergence(test))
    status = PASSED if value <= config.drift_max_kl else FAILED
    text = f"K4 share {train[K4] / train.sum():.2%} in train, {test[K4] / test.sum():.2%} in test"
    return IntegrityResult("class distribution drift", status, value, float(low), float(high), n, limit, text)


def run_integrity_tests(
    split: pd.DataFrame,
    as_of: pd.Timestamp,
    scored: pd.DataFrame,
    metrics: dict[str, Any],
    config: IntegrityConfig,
    *,
    audit_passed: bool | None = None,
) -> list[IntegrityResult]:
    """The five tests in order.

    `split`: the dataset_split table. `scored`: predictions of the test rows whose label is known, with
    `outcome_class`. `metrics`: `evaluation.metrics.evaluate` of the same rows. `audit_passed`: the verdict of the
    leakage audit of these artifacts, None when it did not run.
    """
    dates = scored["snapshot_date"].to_numpy()
    y = scored["outcome_class"].to_numpy(dtype=np.int64)
    p = scored[[f"p_{i}" for i in range(N_CLASSES)]].to_numpy()
    groups = scored["ticker"].to_numpy(dtype=object)
    train = split.loc[split["split"] == "train", "outcome_class"].to_numpy(dtype=np.int64)
    return [
        temporal_integrity(split, pd.Timestamp(as_of)),
        future_contamination(dates, y, p.argmax(axis=1), groups, config),
        recall_consistency(dates, y, p[:, K4], groups, config),
        ev_correlation(metrics, config, audit_passed),
        class_drift(train, y, config),
    ]
