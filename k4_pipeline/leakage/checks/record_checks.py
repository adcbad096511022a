"""What is kept of what was said: the ledger against the signals, certified tiers against their calibration rows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.stats import binom

from k4_pipeline.config import BUYS as TIERS, K4, KEYS
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison, compare_tables
from k4_pipeline.verdict import Verdict


def _chain(context: AuditContext) -> tuple[list[dict[str, Any]], Path]:
    """The lines of the chain and the folder of the ledger."""
    folder = Path(context.extra["store"].root).parent / "ledger"
    file = folder / "chain.jsonl"
    return [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else [], folder


def _signals(context: AuditContext) -> tuple[pd.DataFrame, str]:
    """The stored signals, and the fingerprint of the bars they were made from."""
    ref = context.extra["store"].current("signals")
    return pq.read_table(ref.path("signals.parquet")).to_pandas(), str(ref.meta["bars_fingerprint"])


def _rows_of_tonight(context: AuditContext) -> pd.DataFrame:
    """What the ledger holds of the night of the signals, said of these bars by the model that serves."""
    if "ledger_rows" in context.extra:
        return context.extra["ledger_rows"]
    (lines, folder), (signals, of_bars) = _chain(context), _signals(context)
    if not lines or not len(signals):
        return signals.iloc[:0]
    rows = pd.concat([pq.read_table(folder / line["file"]).to_pandas() for line in lines], ignore_index=True)
    champion = json.loads(context.extra["store"].current("champion_model").path("champion.json").read_text())
    tonight = (rows["night"] == signals["snapshot_date"].max()) & (rows["model"] == champion["model_fingerprint"])
    # Where a vendor restated its bars since, what was said first stands.
    said_before = rows.loc[tonight & (rows["data_fingerprint"] != of_bars), "ticker"]
    context.extra["said_before"] = set(said_before)
    return rows[tonight & (rows["data_fingerprint"] == of_bars)]


def _with_rows(context: AuditContext, rows: pd.DataFrame) -> AuditContext:
    return dataclasses.replace(context, extra={**context.extra, "ledger_rows": rows})


def _invented(context: AuditContext) -> pd.DataFrame:
    columns = _signals(context)[0].columns
    return pd.DataFrame([{**dict.fromkeys(columns), "ticker": "!", **dict.fromkeys(KEYS[1:], pd.Timestamp(0))}])


def _improved(context: AuditContext) -> AuditContext:
    rows = _rows_of_tonight(context)
    return _with_rows(context, rows.assign(ev=rows["ev"] + 1e-9) if len(rows) else _invented(context))


def _one_less(context: AuditContext) -> AuditContext:
    rows = _rows_of_tonight(context)
    return _with_rows(context, rows.iloc[1:] if len(rows) else _invented(context))


@check(
    "serving",
    proves="The ledger holds every signal of the last night as it was given, number by number, and each of its files "
    "is the one that its chain names.",
    misses="Signals of nights whose tables are gone.",
    needs=("stored", "ledger"),
    reads_files=True,
    corruptions=(_improved, _one_less),
)
def the_ledger_keeps_every_signal_as_given(context: AuditContext) -> Verdict:
    """Read the ledger plainly and compare it with the signals."""
    out, (lines, folder), (signals, _) = Comparison(), _chain(context), _signals(context)
    for line in lines:
        digest = hashlib.sha256((folder / line["file"]).read_bytes()).hexdigest()
        wrong = digest != line["sha256"]
        out.add(1, int(wrong), [f"ledger: {line['file']} is not the file that was written"] * wrong)
    rows = _rows_of_tonight(context)
    signals = signals[~signals["ticker"].isin(context.extra.get("said_before", set()))]
    columns = [c for c in signals.columns if c not in KEYS]
    cause = "the ledger does not hold what was said that night"
    pair = (signals.sort_values(KEYS), rows.sort_values(KEYS))
    out.merge(compare_tables("ledger", *pair, KEYS, columns, when="in the ledger", cause=cause))
    out.add(1, 0)
    return verdict_of(out, rows=len(rows), files=len(lines))


DRIFT_LEAST = 10  # patterns below which drift says nothing


def _drift(context: AuditContext) -> dict[str, Any]:
    """What was said of drift in the last night (or that of a self-test)."""
    return context.extra.get("drift") or json.loads(
        context.extra["store"].current("drift").path("drift.json").read_text()
    )


def _untold(context: AuditContext) -> AuditContext:
    said = _drift(context)
    told: dict[str, object] = {"why": []} if said["why"] else {"too_few": ""} if said["too_few"] else {"why": ["none"]}
    return dataclasses.replace(context, extra={**context.extra, "drift": {**said, **told}})


def _one_pattern_more(context: AuditContext) -> AuditContext:
    said = _drift(context)
    return dataclasses.replace(context, extra={**context.extra, "drift": {**said, "patterns": said["patterns"] + 1}})


@check(
    "serving",
    proves="What is said of drift tonight follows from its own measures and limits, and counts the patterns of the "
    "ledger: nothing above a limit goes unsaid.",
    misses="The measures themselves.",
    needs=("stored", "ledger", "drift"),
    reads_files=True,
    corruptions=(_untold, _one_pattern_more),
)
def drift_is_told_when_there_is_some(context: AuditContext) -> Verdict:
    """Judge the measures again and count the patterns of the last nights."""
    out, said, (lines, folder) = Comparison(), _drift(context), _chain(context)
    rows = pd.concat([pq.read_table(folder / line["file"]).to_pandas() for line in lines] or [pd.DataFrame()])
    champion = json.loads(context.extra["store"].current("champion_model").path("champion.json").read_text())
    count = 0
    if len(rows):
        nights = sorted(n for n in rows["night"].unique() if n <= pd.Timestamp(said["night"]))
        recent = rows["night"].isin(nights[-context.config.serving.drift_nights :])
        count = rows.loc[recent & (rows["model"] == champion["model_fingerprint"]), "pattern_id"].nunique()
    wrong = said["patterns"] != count
    out.add(1, int(wrong), [f"drift: of {said['patterns']} patterns, the ledger has {count}"] * wrong)
    few = count < DRIFT_LEAST
    wrong = bool(said["too_few"]) != (few or not said["limits"])  # no limits: a champion without its train rows
    out.add(1, int(wrong), [f"drift: {count} patterns, too few is {said['too_few']!r}"] * wrong)
    above = [n for n, limit in said["limits"].items() if not few and (said.get(n) or 0.0) > limit]
    wrong = bool(above) != bool(said["why"])
    out.add(
        len(said["limits"]) + 1, int(wrong), [f"drift: {above} lie above their limits, said is {said['why']}"] * wrong
    )
    return verdict_of(out, patterns=count)


def one_per_pattern(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each pattern the row whose key has the smallest sha256."""
    best: dict[str, tuple[str, int]] = {}
    for i, (pattern, day) in enumerate(zip(rows["pattern_id"].astype(str), rows["snapshot_date"].astype(str))):
        digest = hashlib.sha256(f"{pattern}|{day}".encode()).hexdigest()
        best[pattern] = min(best.get(pattern, (digest, i)), (digest, i))
    return rows.iloc[sorted(i for _, i in best.values())]


def design_effect(hit: np.ndarray, rows: pd.DataFrame) -> float:
    """Variance of the mean clustered by ticker and by month over the binomial one, at least 1."""
    off = hit - hit.mean()
    alone = float((off**2).sum())
    months = rows["snapshot_date"].dt.to_period("M").astype(str).to_numpy()
    groups = (rows["ticker"].astype(str).to_numpy(), months)
    sums = sum(float((pd.Series(off).groupby(g).sum() ** 2).sum()) for g in groups)
    return max(1.0, (sums - alone) / alone) if alone else 1.0


def proved(rows: pd.DataFrame, p: np.ndarray, train_rate: float, config: Any) -> dict[str, tuple[float, float]]:
    """tier -> (threshold, promised rate) by the documented test, from calibration rows with scores p (n,)."""
    one = one_per_pattern(rows.assign(_p=p).reset_index(drop=True))
    hit, score = (one["outcome_class"].to_numpy() == K4).astype(float), one["_p"].to_numpy()
    if not hit.sum():
        return {}
    effect, n, out = design_effect(hit, one), len(one), {}
    base = max(float(hit.mean()), train_rate)
    for tier, multiple in zip(TIERS, config.multiples):
        for share in config.coverages:
            if share * n / effect < config.min_rows or multiple * base >= 1.0:
                continue
            threshold = np.sort(score)[::-1][round(share * n) - 1]
            chosen = score >= threshold
            trials, hits = (math.floor(float(x) / effect) for x in (chosen.sum(), hit[chosen].sum()))
            if 1.0 - float(binom.cdf(hits - 1, trials, multiple * base)) > 1.0 - config.confidence:
                break
            out[tier] = (float(threshold), multiple * base)
    return out


def _another_promise(context: AuditContext) -> AuditContext:
    return dataclasses.replace(context, extra={**context.extra, "promise": "another"})


def _another_tier(context: AuditContext) -> AuditContext:
    made = context.full.predictions.copy()  # type: ignore[union-attr]
    at = made.index[-1]
    made.loc[at, "tier"] = "AVOID" if made.loc[at, "tier"] != "AVOID" else "STRONG"
    return context.with_full(predictions=made)


@check(
    "fitted",
    proves="The certified tiers are those that the stored calibration rows prove by the documented test, none where "
    "too few K4 were trained on or no row was left unseen, and every prediction has the tier that its certified score "
    "reaches.",
    misses="The certified score itself (the predictions made again).",
    needs=("stored", "fitted", "predictions"),
    reads_files=True,
    corruptions=(_another_promise, _another_tier),
)
def tiers_are_those_that_unseen_rows_prove(context: AuditContext) -> Verdict:
    """Certify a second time and read the tiers of all predictions again."""
    out, fitted, config = Comparison(), context.full.need_fitted(), context.config
    ref = context.extra["refs"]["trained_model"]
    rows = pq.read_table(ref.path("calibration_rows.parquet")).to_pandas()
    raw = rows[[f"p_raw_{i}" for i in range(6)]].to_numpy(dtype=np.float64)
    z = np.log(np.maximum(raw, 1e-7)) * fitted.calibrator.scale + fitted.calibrator.bias
    q = np.exp(z - z.max(axis=1, keepdims=True))
    counts, expected = list(fitted.class_counts), {}
    if counts[K4] >= config.recipe.min_train_k4 and config.recipe.stopping_frac < 1.0:
        expected = proved(rows, (q / q.sum(axis=1, keepdims=True))[:, K4], counts[K4] / sum(counts), config.tiers)
    stored = {c.tier: (c.threshold, c.promised) for c in fitted.certificates.tiers}
    if context.extra.get("promise"):
        stored = {**stored, "STRONG": (0.5, 0.9)}
    same = set(stored) == set(expected) and all(np.allclose(stored[t], expected[t], rtol=1e-9) for t in stored)
    text = f"certified tiers are {stored}, the unseen rows prove {expected}"
    out.add(len(rows), int(not same), [text] * (not same))
    made = context.full.predictions
    assert made is not None
    score, tier = made["p_k4_certified"].to_numpy(), np.full(len(made), "AVOID", dtype=object)
    for name in reversed([t for t in TIERS if t in expected]):
        tier[score >= expected[name][0]] = name
    wrong = tier != made["tier"].to_numpy(dtype=object)
    out.add(
        len(made),
        int(wrong.sum()),
        (
            f"predictions: {made['ticker'].iloc[i]} has tier {made['tier'].iloc[i]}, its score reaches {tier[i]}"
            for i in np.flatnonzero(wrong)[:5]
        ),
    )
    return verdict_of(out, calibration_rows=len(rows))
