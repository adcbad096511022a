"""Negative controls: data that holds nothing to learn must give a model that has learned nothing.

Each control removes what there is to know and leaves everything else as it is, trains the cheap preset, and asks
whether K4 AUC and EV correlation contain their base rate. A score above it means that something besides the past
reached the model. The base rate of a martingale race is not exactly zero (see market/sources/simulated.py), so the
correlation is allowed what knowing the hidden state would give.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import PipelineConfig
from k4_pipeline.leakage import path as production
from k4_pipeline.leakage.audit import AuditReport
from k4_pipeline.leakage.path import PathResult
from k4_pipeline.leakage.small import SMALL_AS_OF, small_config
from k4_pipeline.leakage.verdict import Verdict, guarded
from k4_pipeline.market import sources
from k4_pipeline.market.bars import PRICE_COLUMNS, Bars, to_days
from k4_pipeline.market.sources.base import RawBars

CORRELATION_OF_HIDDEN_STATE = 0.10  # what a martingale race allows at most, by evaluation/truth.py
MIN_K4, MIN_K4_TICKERS, MIN_ROWS = 15, 6, 100
CONTROL_TICKERS, CONTROL_BARS = 100, 760


def control_config(seed: int = 0) -> PipelineConfig:
    """The cheap preset on a universe large enough for an interval."""
    config = small_config(seed, n_tickers=CONTROL_TICKERS, n_bars=CONTROL_BARS)
    integrity = dataclasses.replace(config.integrity, bootstrap_draws=400, confidence=0.99)
    return dataclasses.replace(config, integrity=integrity)


def shuffled_within_date(labeled: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Known classes dealt out anew among the snapshots of the same month: what a row says of its class is destroyed.

    Small universes have few snapshots a day, so a month stands for the date; the class mix over time stays.
    """
    out = labeled.copy()
    known = out["outcome_class"].notna()
    month = out.loc[known, "snapshot_date"].dt.to_period("M")
    classes = out.loc[known, "outcome_class"].to_numpy(dtype=np.int64)
    dealt = np.empty_like(classes)
    for _, at in pd.Series(np.arange(len(classes))).groupby(month.to_numpy()):
        rows = at.to_numpy()
        dealt[rows] = classes[rng.permutation(rows)]
    out.loc[known, "outcome_class"] = pd.array(dealt, dtype="Int8")
    return out


def shifted_by_one_horizon(labeled: pd.DataFrame, bars: Bars, horizon: int) -> pd.DataFrame:
    """Each row gets class and label_end_date of its ticker's first snapshot at least one horizon later.

    The race it is asked about begins when its own would have ended, so its bars say nothing of it in a martingale.
    """
    out = labeled.copy()
    end = bars.locate(labeled["ticker"], to_days(labeled["snapshot_date"]))
    source = np.full(len(labeled), -1)
    for _, at in pd.Series(np.arange(len(labeled))).groupby(labeled["ticker"].to_numpy(dtype=object)):
        rows = at.to_numpy()
        rows = rows[np.argsort(end[rows], kind="stable")]
        later = np.searchsorted(end[rows], end[rows] + horizon, side="left")
        there = later < len(rows)
        source[rows[there]] = rows[later[there]]
    there = source >= 0
    for column in ("outcome_class", "label_end_date"):
        out[column] = labeled[column].iloc[np.maximum(source, 0)].reset_index(drop=True).where(there)
    return out


def time_reversed(bars: Bars) -> Bars:
    """Every ticker's bars in reverse order on its own dates: opens become closes."""
    columns = {c: getattr(bars, c).copy() for c in (*PRICE_COLUMNS, "volume")}
    for a, b in zip(bars.offsets[:-1], bars.offsets[1:]):
        for values in columns.values():
            values[a:b] = values[a:b][::-1].copy()
    columns["open"], columns["close"] = columns["close"], columns["open"]
    return Bars(tickers=bars.tickers, offsets=bars.offsets, date=bars.date, **columns)


def _relabelled(
    raw: RawBars | Bars, config: PipelineConfig, relabel: Callable[[PathResult], pd.DataFrame]
) -> PathResult:
    path = production.build_from_raw(raw, config)
    path.labeled = relabel(path)
    return path


def _trained(path: PathResult, as_of: str) -> PathResult:
    production.split_at(path, as_of)
    path.fitted = production.fit(path)
    return production.score(path)


def _null_world(seed: int) -> PathResult:
    config = control_config(seed)
    config = dataclasses.replace(config, simulation=dataclasses.replace(config.simulation, world="null"))
    return production.build_from_raw(sources.read_bars(config.source, config.simulation), config)


def _squeeze(seed: int) -> tuple[RawBars, PipelineConfig]:
    config = control_config(seed)
    return sources.read_bars(config.source, config.simulation), config


def shuffled_labels(seed: int) -> PathResult:
    """Labels shuffled within date."""
    raw, config = _squeeze(seed)
    rng = np.random.default_rng([seed, 1])
    return _relabelled(raw, config, lambda path: shuffled_within_date(path.labeled, rng))


def null_world(seed: int) -> PathResult:
    """A martingale market."""
    return _null_world(seed)


def reversed_time(seed: int) -> PathResult:
    """The martingale market with time turned round: what leads to a price is now what follows from it.

    Volatility clusters in either direction, and a race depends on volatility; so the martingale world, in which all
    tickers have the same, is the one that is turned.
    """
    config = control_config(seed)
    config = dataclasses.replace(config, simulation=dataclasses.replace(config.simulation, world="null"))
    cleaned = production.clean(sources.read_bars(config.source, config.simulation), config)
    return production.build(time_reversed(cleaned.bars), config)


def shifted_labels(seed: int) -> PathResult:
    """Labels of the martingale market, taken one horizon later."""
    path = _null_world(seed)
    path.labeled = shifted_by_one_horizon(path.labeled, path.bars, path.config.labels.horizon_bars)
    return path


CONTROLS: dict[str, Callable[[int], PathResult]] = {
    "shuffled_labels_teach_nothing": shuffled_labels,
    "a_martingale_teaches_nothing": null_world,
    "reversed_time_teaches_nothing": reversed_time,
    "labels_one_horizon_late_teach_nothing": shifted_labels,
}


def judge(name: str, path: PathResult) -> Verdict:
    """K4 AUC contains one half and EV correlation its base rate, on enough K4 rows of enough tickers."""
    metrics = path.metrics
    if metrics is None or path.scored is None:
        return Verdict.of(name, 0, ["no labelled test row: the control shows nothing"])
    auc, ev = metrics["model"]["k4_auc"], metrics["model"]["ev_correlation_pearson"]
    k4 = path.scored["outcome_class"] == 4
    findings = []
    tickers = int(path.scored.loc[k4, "ticker"].nunique())
    if int(k4.sum()) < MIN_K4 or tickers < MIN_K4_TICKERS or len(path.scored) < MIN_ROWS:
        findings.append(
            f"too little evidence: {int(k4.sum())} K4 rows of {tickers} tickers among {len(path.scored)}; needed are "
            f"{MIN_K4}, {MIN_K4_TICKERS} and {MIN_ROWS}"
        )
    if not auc["low"] <= 0.5:
        findings.append(f"report: K4 AUC {auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}] lies above 0.5")
    if not ev["low"] <= CORRELATION_OF_HIDDEN_STATE:
        findings.append(
            f"report: EV correlation {ev['value']:.3f} [{ev['low']:.3f}, {ev['high']:.3f}] lies above "
            f"{CORRELATION_OF_HIDDEN_STATE}"
        )
    detail: dict[str, Any] = {"k4_auc": auc["value"], "auc_low": auc["low"], "auc_high": auc["high"]}
    detail |= {"ev_correlation": ev["value"], "ev_low": ev["low"], "ev_high": ev["high"]}
    return Verdict.of(name, len(path.scored), findings, k4=int(k4.sum()), **detail)


def run_control(name: str, seed: int) -> Verdict:
    """Make the data of one control, train on it and judge what was learned."""
    return judge(name, _trained(CONTROLS[name](seed), SMALL_AS_OF))


def run_controls(
    *, seed: int = 0, names: list[str] | None = None, progress: Callable[[int, int], None] | None = None
) -> AuditReport:
    """Every control, trained with the cheap preset; a verdict each."""
    report = AuditReport([], {})
    wanted = list(CONTROLS) if names is None else names
    for done, name in enumerate(wanted, start=1):
        begin = time.perf_counter()
        report.verdicts.append(guarded(name, functools.partial(run_control, name, seed)))
        report.seconds[name] = time.perf_counter() - begin
        if progress is not None:
            progress(done, len(wanted))
    return report
