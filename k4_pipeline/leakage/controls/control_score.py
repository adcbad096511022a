"""How a negative control is scored: a within-date permutation for permuted labels, an honest reference for the others.

Labels permuted within a date have an exact base rate: the same scores against every other permutation.
Elsewhere something may be learned honestly, since volatility persists in either direction of time and beyond any
horizon. There the base rate is what a plain reference reaches on the same rows: logistic regression or trees, the
better of the two, on a few facts of the bars up to the snapshot (volatility over three look-backs, range, momentum,
place in the box), computed here from the bars themselves and from nothing the pipeline made: no leak can lift it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from k4_pipeline.config import N_CLASSES
from k4_pipeline.evaluation.bootstrap import cluster_weights
from k4_pipeline.evaluation.weighted import Ranking, mid_ranks
from k4_pipeline.market.bars import Bars, to_days

MIN_CLASS_ROWS, MIN_CLASS_TICKERS = 10, 3  # of a class, before its AUC counts
LOOKBACKS = (20, 60, 250)


@dataclass(frozen=True)
class Score:
    """Mean one-against-rest AUC over the classes with enough rows. `low`, `high`: interval of the base rate."""

    value: float
    base_rate: float
    low: float
    high: float
    p_value: float
    classes: int


def usable_classes(y: np.ndarray, tickers: np.ndarray) -> list[int]:
    """Classes with enough rows of enough tickers, and enough rows outside."""
    found = []
    for c in range(N_CLASSES):
        hit = y == c
        if min(hit.sum(), (~hit).sum()) >= MIN_CLASS_ROWS and len(np.unique(tickers[hit])) >= MIN_CLASS_TICKERS:
            found.append(c)
    return found


def within_date(
    y: np.ndarray, p: np.ndarray, stratum: np.ndarray, classes: list[int], level: float, draws: int, seed: int
) -> Score:
    """Mean AUC of `p` (n, 6) for `y` (n,), pairs of one `stratum` (n,) alone, against labels permuted again within it.

    `low` and `high` hold the base rate in 1 - 2 `level` of the permutations; `p_value` is one-sided and exact.
    """
    rng = np.random.default_rng(seed)
    parts = [np.flatnonzero(stratum == s) for s in np.unique(stratum)]
    ranks = np.zeros((len(y), len(classes)))
    for rows in parts:
        for j, c in enumerate(classes):
            ranks[rows, j] = mid_ranks(p[rows, c])
    pairs, offset = np.zeros(len(classes)), np.zeros(len(classes))
    for rows in parts:
        for j, c in enumerate(classes):
            k = int((y[rows] == c).sum())
            pairs[j] += k * (len(rows) - k)
            offset[j] += k * (k + 1) / 2
    able = pairs > 0

    def mean_auc(labels: np.ndarray) -> float:
        sums = np.array([ranks[labels == c, j].sum() for j, c in enumerate(classes)])
        return float(((sums - offset)[able] / pairs[able]).mean()) if able.any() else float("nan")

    value = mean_auc(y)
    permuted = np.empty(draws)
    for i in range(draws):
        labels = y.copy()
        for rows in parts:
            labels[rows] = y[rng.permutation(rows)]
        permuted[i] = mean_auc(labels)
    low, high = np.quantile(permuted, [level, 1.0 - level])
    p_value = float((1 + (permuted >= value - 1e-12).sum()) / (draws + 1))
    return Score(value, 0.5, float(low), float(high), p_value, int(able.sum()))


def reference_features(table: pd.DataFrame, bars: Bars) -> np.ndarray:
    """(n, 2 * n_facts) float64 facts of each snapshot from its bars up to the snapshot, and their squares."""
    end = bars.locate(table["ticker"], to_days(table["snapshot_date"]))
    first = bars.offsets[np.searchsorted(bars.offsets, end, side="right") - 1]
    upper, lower = table["upper"].to_numpy(dtype=np.float64), table["lower"].to_numpy(dtype=np.float64)
    rows = np.empty((len(table), 4 + 3 * len(LOOKBACKS)))
    for i, (e, f) in enumerate(zip(end.tolist(), first.tolist())):
        facts = []
        for n in LOOKBACKS:
            part = slice(max(f, e - n), e + 1)
            returns = np.diff(np.log(bars.close[part]))
            sigma = max(float(returns.std()) if len(returns) > 1 else 0.0, 1e-5)
            spread = float(np.log(bars.high[part] / bars.low[part]).mean())
            facts += [np.log(sigma), np.log(max(spread, 1e-5)), returns.sum() / (sigma * np.sqrt(max(len(returns), 1)))]
            if n == LOOKBACKS[0]:
                unit = sigma
        close = bars.close[e]
        facts += [
            np.log(close / upper[i]) / unit,
            np.log(close / lower[i]) / unit,
            np.log(np.log(upper[i] / lower[i]) + 1e-5),
            np.log1p(e - f),
        ]
        rows[i] = facts
    return rows


def boosted_probabilities(train: np.ndarray, y_train: np.ndarray, test: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """(n, 6) probabilities of gradient-boosted trees: they find a channel that tells the class within seconds."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        fitted = HistGradientBoostingClassifier(
            max_iter=40, max_leaf_nodes=8, min_samples_leaf=20, l2_regularization=1.0, random_state=seed
        ).fit(train, y_train)
        out = np.zeros((len(test), N_CLASSES))
        out[:, fitted.classes_] = fitted.predict_proba(test)
    return out


def input_facts(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(n, 138) of model inputs (n, 50, 69): the last bar, and the mean over the valid bars."""
    valid = mask[:, :, None]
    mean = (x * valid).sum(axis=1) / np.maximum(valid.sum(axis=1), 1)
    return np.hstack([x[:, -1, :], mean]).astype(np.float64)


def reference_probabilities(
    train: np.ndarray, y_train: np.ndarray, test: np.ndarray, *, strength: float = 0.1
) -> np.ndarray:
    """(n, 6) probabilities of a regularised multinomial logistic regression on standardised facts and squares."""
    from sklearn.linear_model import LogisticRegression

    low, high = np.nanquantile(train, [0.01, 0.99], axis=0)
    mean, sd = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-9)

    def shaped(x: np.ndarray) -> np.ndarray:
        z = (np.clip(x, low, high) - mean) / sd
        return np.hstack([z, z * z])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = LogisticRegression(C=strength, max_iter=300).fit(shaped(train), y_train)
    out = np.zeros((len(test), N_CLASSES))
    out[:, fitted.classes_] = fitted.predict_proba(shaped(test))
    return out


def against_reference(
    y: np.ndarray,
    p: np.ndarray,
    references: list[np.ndarray],
    tickers: np.ndarray,
    classes: list[int],
    level: float,
    draws: int,
    seed: int,
) -> Score:
    """Mean AUC of `p` (n, 6), with the mean AUC of the better of `references` (n, 6) on the same rows as its base rate.

    `low` and `high` bound value minus base rate plus base rate (whole tickers drawn): `low` above the base
    rate plus a margin means that the pipeline knows more than the bars up to the snapshot tell.
    """
    # Whole tickers alone: what a month does to both readers cancels in their difference.
    weights, ones = cluster_weights(tickers, draws, seed), np.ones(len(y))

    def plain(q: np.ndarray) -> float:
        return float(np.mean([Ranking.of(q[:, c], y == c).auc(ones) for c in classes]))

    reference = max(references, key=plain)
    pairs = [(Ranking.of(p[:, c], y == c), Ranking.of(reference[:, c], y == c)) for c in classes]

    def means(w: np.ndarray) -> tuple[float, float]:
        both = np.array([(a.auc(w), b.auc(w)) for a, b in pairs])
        fine = np.isfinite(both).all(axis=1)
        return (float(both[fine, 0].mean()), float(both[fine, 1].mean())) if fine.any() else (np.nan, np.nan)

    value, base = means(ones)
    gaps = np.array([a - b for a, b in (means(w) for w in weights if w.any())])
    gaps = gaps[np.isfinite(gaps)]
    if len(gaps) < max(2, draws // 2):
        return Score(value, base, float("nan"), float("nan"), float("nan"), len(classes))
    low, high = np.quantile(gaps, [level, 1.0 - level])
    return Score(value, base, base + float(low), base + float(high), float((gaps <= 0).mean()), len(classes))
