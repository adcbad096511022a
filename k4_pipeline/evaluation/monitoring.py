"""Whether yesterday's signals were right: hit rates by tier against their certificate, calibration, recall, value.

Input is the matured part of the prediction ledger (evaluation/ledger.py). Hit rates count one row per pattern and tier;
everything else counts every row and draws whole tickers and months for its intervals.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import betaincinv

from k4_pipeline.config import K4, N_CLASSES, SIGNAL_NAMES
from k4_pipeline.evaluation.bootstrap import cluster_weights, percentiles
from k4_pipeline.evaluation.ledger import LEDGER_KEY, first_of_pattern
from k4_pipeline.evaluation.sequential import ALPHA, precision_holds
from k4_pipeline.evaluation.tiers import one_row_per_pattern
from k4_pipeline.evaluation.weighted import Ranking

CONFIDENCE = 0.95
BUDGET_FRAC = 0.10
CERTIFICATE = "certificate.json"
_DRAWS = 500


def certified_precision(model_folder: Path) -> dict[str, float]:
    """The precision each tier of a model was certified for, from its `certificate.json`; empty when it has none."""
    path = model_folder / CERTIFICATE
    if not path.is_file():
        return {}
    tiers = json.loads(path.read_text())["tiers"]
    return {t["tier"]: float(t["precision"]) for t in tiers if t.get("certified")}


def tier_column(rows: pd.DataFrame) -> str:
    """`tier` (certified) where the ledger has it, else `signal` (by expected value)."""
    return "tier" if "tier" in rows else "signal"


def hit_rates(
    matured: pd.DataFrame, certified: Mapping[str, float] | None = None, judged: pd.DataFrame | None = None
) -> list[dict]:
    """Per tier: matured patterns, K4 hits, hit rate with its exact (Clopper-Pearson) interval, and the certificate.

    `certified` maps a tier to the precision it was certified for. A certificate speaks of its tier or better, so it is
    tested on such rows of `judged` (`rows_judged`): `n_judged`, `hits_judged`, `evidence_against`, and `claim_holds`
    (None: no certificate). The tests share `ALPHA`.
    """
    column, claims = tier_column(matured), certified or {}
    single = first_of_pattern(matured)
    ordered = None if judged is None else judged.sort_values(["label_end_date", "night", "ticker"], kind="stable")
    out = []
    for place, tier in enumerate(SIGNAL_NAMES):
        rows = single[single[column] == tier]
        n, hits = len(rows), int((rows["outcome_class"] == K4).sum())
        low, high = clopper_pearson(hits, n)
        row: dict[str, Any] = {"tier": tier, "n": n, "hits": hits, "hit_rate": hits / n if n else None}
        row |= {"low": low, "high": high, "certified": claims.get(tier), "claim_holds": None, "evidence_against": None}
        row |= {"n_judged": 0, "hits_judged": 0}
        if tier in claims and ordered is not None:
            hit = (ordered.loc[ordered[column].isin(SIGNAL_NAMES[: place + 1]), "outcome_class"] == K4).to_numpy()
            test = precision_holds(hit, claims[tier], ALPHA / len(claims))
            row |= {"claim_holds": test.holds, "evidence_against": test.peak, "n_judged": test.n}
            row["hits_judged"] = test.hits
        row["mean_value"] = float(rows["value"].mean()) if n else None
        out.append(row)
    return out


def rows_judged(ledger: pd.DataFrame, matured: pd.DataFrame, model: str) -> pd.DataFrame:
    """The matured rows that certificates of `model` are judged by: its own, one per pattern, chosen as the rows were on
    which it was certified, by a hash that knows neither class nor score."""
    own = ledger[(ledger["model"] == model) & ledger["pattern_id"].isin(set(matured["pattern_id"]))]
    if own.empty:
        return matured.iloc[:0]
    keys = list(LEDGER_KEY)
    return matured.merge(one_row_per_pattern(own)[keys], on=keys, how="inner", validate="1:1")


def clopper_pearson(hits: int, n: int, confidence: float = CONFIDENCE) -> tuple[float | None, float | None]:
    """Exact two-sided interval of a proportion; (None, None) without rows."""
    if n == 0:
        return None, None
    tail = (1.0 - confidence) / 2.0
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1.0 - tail)) if hits < n else 1.0
    return low, high


def by_month(matured: pd.DataFrame, seed: int = 0) -> list[dict]:
    """Per month of the night: rows, K4 rows, K4 claimed and realised, EV claimed and realised, recall in the top 10%.

    Intervals (95%) of the realised means draw whole tickers.
    """
    out = []
    for month, rows in matured.groupby(matured["night"].dt.strftime("%Y-%m")):
        k4 = (rows["outcome_class"] == K4).to_numpy()
        weights = cluster_weights(rows["ticker"].to_numpy(), _DRAWS, seed)
        realised, total = rows["value"].to_numpy(dtype=np.float64), weights.sum(axis=1)
        low, high = percentiles(weights @ realised / total, CONFIDENCE)
        k4_low, k4_high = percentiles(weights @ k4 / total, CONFIDENCE)
        ranking = Ranking.of(rows[f"p_{K4}"].to_numpy(), k4)
        out.append(
            {
                "month": month,
                "n": len(rows),
                "n_k4": int(k4.sum()),
                "k4_claimed": float(rows[f"p_{K4}"].mean()),
                "k4_realised": float(k4.mean()),
                "k4_realised_low": k4_low,
                "k4_realised_high": k4_high,
                "ev_claimed": float(rows["ev"].mean()),
                "ev_realised": float(realised.mean()),
                "ev_realised_low": low,
                "ev_realised_high": high,
                "k4_recall_top_10pct": ranking.recall_in_top(np.ones(len(rows)), BUDGET_FRAC),
                "k4_recall_top_10pct_expected": expected_performance(rows)["k4_recall_top_10pct_expected"],
            }
        )
    return out


def calibration_table(matured: pd.DataFrame, bins: int = 10) -> list[dict]:
    """Claimed and realised K4 share in bins of equal size of the claimed probability, with exact intervals."""
    p = matured[f"p_{K4}"].to_numpy()
    k4 = (matured["outcome_class"] == K4).to_numpy()
    groups = np.array_split(np.argsort(p, kind="stable"), max(1, min(bins, len(p) // 5)))
    out = []
    for group in groups:
        if not len(group):
            continue
        low, high = clopper_pearson(int(k4[group].sum()), len(group))
        claimed, realised = float(p[group].mean()), float(k4[group].mean())
        out.append({"n": len(group), "claimed": claimed, "realised": realised, "low": low, "high": high})
    return out


def expected_performance(rows: pd.DataFrame) -> dict[str, float | int | None]:
    """What the calibrated probabilities themselves promise, before any label: K4 rows, recall in the top 10%, EV.

    If the probabilities are calibrated, the expected share of K4 caught in the top 10% is the mass of P(K4) there over
    all of it. Compare it with what came (`by_month`) once labels are known.
    """
    p = np.sort(rows[f"p_{K4}"].to_numpy(dtype=np.float64))[::-1]
    total = float(p.sum())
    top = float(p[: int(np.ceil(BUDGET_FRAC * len(p)))].sum())
    return {
        "n": len(p),
        "n_k4_expected": total,
        "k4_recall_top_10pct_expected": top / total if total > 0 else None,
        "ev_expected": float(rows["ev"].mean()) if len(p) else None,
    }


def refusals(matured: pd.DataFrame) -> list[dict[str, Any]]:
    """What became of the rows that were refused as too far outside the train rows, and of those that were scored."""
    if "refused" not in matured:
        return []
    out = []
    single = first_of_pattern(matured)
    far = (single["refused"].fillna("") != "").to_numpy()
    for name, rows in (("refused", single[far]), ("scored", single[~far])):
        hits = int((rows["outcome_class"] == K4).sum())
        low, high = clopper_pearson(hits, len(rows))
        row = {"rows": name, "n": len(rows), "hits": hits, "low": low, "high": high}
        row["ev_claimed"], row["ev_realised"] = (float(rows[c].mean()) if len(rows) else None for c in ("ev", "value"))
        out.append(row)
    return out


def summary(
    ledger: pd.DataFrame,
    matured_rows: pd.DataFrame,
    certified: Mapping[str, float] | None = None,
    drift_months: Mapping[str, Mapping[str, float | None]] | None = None,
    model: str = "",
) -> dict[str, Any]:
    """Everything `k4 monitor` shows, JSON-safe: counts, tiers, months, calibration, and what is still open.

    `certified`: what the tiers of the champion, whose fingerprint is `model`, were certified for.
    `drift_months`: what the nights of a month measured of drift, put beside what came of its signals.
    """
    months = by_month(matured_rows) if len(matured_rows) else []
    for month in months:
        month["drift"] = dict((drift_months or {}).get(month["month"], {}))
    keys = list(LEDGER_KEY)
    done = pd.MultiIndex.from_frame(matured_rows[keys]) if len(matured_rows) else None
    waiting = ledger if done is None else ledger[~pd.MultiIndex.from_frame(ledger[keys]).isin(done)]
    return {
        "rows": len(ledger),
        "matured": len(matured_rows),
        "first_night": str(ledger["night"].min().date()) if len(ledger) else None,
        "last_night": str(ledger["night"].max().date()) if len(ledger) else None,
        "by": tier_column(ledger) if len(ledger) else None,
        "tiers": hit_rates(matured_rows, certified, rows_judged(ledger, matured_rows, model))
        if len(matured_rows)
        else [],
        "months": months,
        "drift_months": [{"month": m, **values} for m, values in sorted((drift_months or {}).items())],
        "refusals": refusals(matured_rows) if len(matured_rows) else [],
        "calibration": calibration_table(matured_rows) if len(matured_rows) else [],
        "waiting": expected_performance(waiting) if len(waiting) else None,
        "classes": [
            int((matured_rows["outcome_class"] == c).sum()) if len(matured_rows) else 0 for c in range(N_CLASSES)
        ],
    }
