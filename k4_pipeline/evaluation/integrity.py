"""The five integrity tests of the validation report, each with its limit, interval and sample size.

1. temporal integrity: every date of every row stands in the right order;
2. future contamination: accuracy before against after the median test date;
3. K4 recall consistency: recall within the larger alert budget, early against late half;
4. EV correlation: above zero, and a tripwire for results that are too good;
5. class distribution drift: KL divergence of the test mix from the train mix.

A verdict follows from its interval, never from its point: passed when the whole interval keeps the limit, failed when
the whole interval breaks it, else not enough evidence, which is no pass either. What these tests cannot see: a leak
that lifts both halves alike and stays under the tripwire; the replays and controls of `leakage` are for that.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import EXCLUDED, K4, N_CLASSES, SPLIT_NAMES, IntegrityConfig
from k4_pipeline.evaluation.bootstrap import cluster_weights, interval
from k4_pipeline.evaluation.scores import BEST_POSSIBLE
from k4_pipeline.evaluation.weighted import Ranking

PASSED, FAILED, TOO_LITTLE = "passed", "failed", "not enough evidence"


@dataclass(frozen=True)
class IntegrityResult:
    """One test: `status` is passed, failed or not enough evidence; `explanation` is the reason of that verdict."""

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


def by_interval(low: float, high: float, least: float, most: float) -> str:
    """The verdict of an interval against the range `least` to `most` that it has to lie in."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return TOO_LITTLE
    if least <= low and high <= most:
        return PASSED
    return FAILED if high < least or low > most else TOO_LITTLE


def _reason(status: str, low: float, high: float, limit: str) -> str:
    span = f"the interval {low:.2f} to {high:.2f}"
    words = {PASSED: f"{span} keeps the limit", FAILED: f"{span} lies wholly beyond the limit"}
    return words.get(status, f"{span} holds values on both sides of the limit ({limit}), so it tells neither way")


def temporal_integrity(split: pd.DataFrame, as_of: pd.Timestamp) -> IntegrityResult:
    """Dates in order: a label ends after its snapshot; train and validation are known before `as_of`, test is after."""
    member = split[split["split"] != EXCLUDED]
    fitted = member["split"].isin(SPLIT_NAMES[:2])
    known = member["label_end_date"].notna()
    wrong = (
        (known & (member["label_end_date"] <= member["snapshot_date"]))
        | (fitted & ~known)
        | (fitted & known & (member["label_end_date"] >= as_of))
        | ((member["split"] == SPLIT_NAMES[2]) & (member["snapshot_date"] < as_of))
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
    status = by_interval(low, high, -np.inf, config.contamination_max_drop)
    text = f"accuracy {hit[early].mean():.3f} before and {hit[late].mean():.3f} after the median date; "
    text += _reason(status, low, high, limit)
    return IntegrityResult("future contamination", status, value, low, high, n, limit, text)


def recall_consistency(
    dates: np.ndarray, outcome_class: np.ndarray, p_k4: np.ndarray, groups: np.ndarray, config: IntegrityConfig
) -> IntegrityResult:
    """K4 recall within the largest budget, early less late half of the test span."""
    name, limit, budget = "K4 recall consistency", f"|difference| <= {config.recall_max_gap}", max(config.budget_fracs)
    early, late = _halves(dates)
    is_k4 = outcome_class == K4
    counts = int(is_k4[early].sum()), int(is_k4[late].sum())
    if min(counts) * 2 < config.min_k4:
        nan = float("nan")
        text = f"{counts[0]} and {counts[1]} K4 rows in the halves; {config.min_k4} in all, evenly, are needed"
        return IntegrityResult(name, TOO_LITTLE, nan, nan, nan, len(dates), limit, text)
    rankings = [(part, Ranking.of(p_k4[part], is_k4[part])) for part in (early, late)]

    def difference(w: np.ndarray) -> float:
        a, b = (ranking.recall_in_top(w[part], budget) for part, ranking in rankings)
        return a - b

    value = difference(np.ones(len(dates)))
    low, high = interval(
        difference, cluster_weights(groups, config.bootstrap_draws, config.seed, dates), config.confidence
    )
    a, b = (ranking.recall_in_top(np.ones(part.sum()), budget) for part, ranking in rankings)
    status = by_interval(low, high, -config.recall_max_gap, config.recall_max_gap)
    text = f"recall in the top {budget:.0%}: {a:.2f} early ({counts[0]} K4), {b:.2f} late ({counts[1]} K4); "
    text += _reason(status, low, high, limit)
    return IntegrityResult(name, status, value, low, high, len(dates), limit, text)


def ev_correlation(metrics: dict[str, Any], config: IntegrityConfig, audit_passed: bool | None) -> IntegrityResult:
    """Pearson correlation of EV with the realised value; too good a result fails until the audit passes."""
    ev = metrics["model"]["ev_correlation_pearson"]
    value, low, high, n = float(ev["value"]), float(ev["low"]), float(ev["high"]), int(ev["n"])
    limit = f"interval above 0; tripwire {config.ev_correlation_tripwire}"
    common = (value, low, high, n, limit)
    if n < config.min_rows or not np.isfinite(low):
        return IntegrityResult("EV correlation", TOO_LITTLE, *common, f"{n} rows; {config.min_rows} are needed")
    certain, hints = _too_good(metrics, config)
    if certain and not audit_passed:
        text = "suspected leakage, too good until `k4 audit` passes: " + "; ".join(certain)
        return IntegrityResult("EV correlation", FAILED, *common, text)
    span = f"the interval {low:.3f} to {high:.3f}"
    if low > 0:
        status, text = PASSED, f"{span} lies above 0: a higher EV was followed by a higher value"
    elif high < config.ev_correlation_useful:
        status, text = FAILED, f"{span} lies below {config.ev_correlation_useful}: EV says nothing of what followed"
    else:
        status, text = TOO_LITTLE, f"{span} holds 0: {n} rows cannot tell this EV from one that says nothing"
    if certain:
        text += "; unusually good (" + "; ".join(certain) + "), and the leakage audit of these artifacts passed"
    elif hints:
        text += "; the point alone looks too good (" + "; ".join(hints) + "), its interval does not"
    return IntegrityResult("EV correlation", status, *common, text)


def _too_good(metrics: dict[str, Any], config: IntegrityConfig) -> tuple[list[str], list[str]]:
    """What is too good with its whole interval, and what is with its point alone, in words.

    On a simulated market the best possible is known, and nothing but exceeding it is too good.
    """
    certain: list[str] = []
    hints: list[str] = []
    if BEST_POSSIBLE in metrics:
        for key, what in (
            ("ev_correlation_pearson", "EV correlation"),
            ("k4_average_precision", "K4 average precision"),
        ):
            value, best = metrics["model"][key]["value"], metrics[BEST_POSSIBLE][key]["value"]
            if value > best:
                text = f"{what} {value:.3f} lies above the best possible on this simulated market, {best:.3f}"
                (certain if metrics["differences"][BEST_POSSIBLE][key]["low"] > 0 else hints).append(text)
        return certain, hints
    ev, ap = metrics["model"]["ev_correlation_pearson"], metrics["model"]["k4_average_precision"]
    if ev["value"] > config.ev_correlation_tripwire:
        sure = ev["low"] > config.ev_correlation_tripwire
        (certain if sure else hints).append(f"EV correlation {ev['value']:.3f} > {config.ev_correlation_tripwire}")
    reached = {n: float(m["k4_average_precision"]["value"]) for n, m in metrics["baselines"].items()}
    reached = {n: v for n, v in reached.items() if np.isfinite(v) and v > 0}
    if reached:
        strongest = max(reached, key=lambda n: reached[n])
        bound = config.average_precision_tripwire_ratio * reached[strongest]
        if ap["value"] > bound:
            times = f"{ap['value'] / reached[strongest]:.1f}x that of {strongest}, the strongest baseline"
            (certain if ap["low"] > bound else hints).append(f"K4 average precision {ap['value']:.3f} is {times}")
    return certain, hints


def class_drift(
    train_class: np.ndarray, test_class: np.ndarray, groups: np.ndarray, dates: np.ndarray, config: IntegrityConfig
) -> IntegrityResult:
    """KL divergence (nats) of the test class mix from the train mix, with half a count added to every class.

    The interval draws whole tickers `groups` (n,) and months of `dates` (n,) of the test rows, as all others do.
    """
    limit = f"KL <= {config.drift_max_kl}"
    n = min(len(train_class), len(test_class))
    if n * 2 < config.min_rows:
        nan = float("nan")
        text = f"{len(train_class)} train and {len(test_class)} test rows; {config.min_rows // 2} of each are needed"
        return IntegrityResult("class distribution drift", TOO_LITTLE, nan, nan, nan, n, limit, text)

    def divergence(test_counts: np.ndarray) -> float:
        p = (test_counts + 0.5) / (test_counts + 0.5).sum()
        return float((p * np.log(p / q)).sum())

    train = np.bincount(train_class, minlength=N_CLASSES).astype(float)
    test = np.bincount(test_class, minlength=N_CLASSES).astype(float)
    q = (train + 0.5) / (train + 0.5).sum()
    weights = cluster_weights(groups, config.bootstrap_draws, config.seed, dates)
    member = np.eye(N_CLASSES)[test_class]
    low, high = interval(lambda w: divergence(w @ member), weights, config.confidence)
    value = divergence(test)
    status = by_interval(low, high, -np.inf, config.drift_max_kl)
    text = f"K4 share {train[K4] / train.sum():.2%} in train, {test[K4] / test.sum():.2%} in test; "
    text += _reason(status, low, high, limit)
    return IntegrityResult("class distribution drift", status, value, low, high, n, limit, text)


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
    train = split.loc[split["split"] == SPLIT_NAMES[0], "outcome_class"].to_numpy(dtype=np.int64)
    return [
        temporal_integrity(split, pd.Timestamp(as_of)),
        future_contamination(dates, y, p.argmax(axis=1), groups, config),
        recall_consistency(dates, y, p[:, K4], groups, config),
        ev_correlation(metrics, config, audit_passed),
        class_drift(train, y, groups, dates, config),
    ]
