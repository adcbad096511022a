"""Negative controls: data that holds nothing to learn must give a model that has learned nothing.

Each control removes what there is to know and leaves everything else as it is, trains the cheap preset through the
production functions, and asks whether the score is at its base rate (control_score.py). Three work on the
user's own bars: labels permuted within their date, labels of one horizon later, bars in reverse order of time.
The fourth is a simulated martingale market. What they notice is a label, or a train row, that reaches the test rows by
some way around the features; and a feature that knows later bars, which it does in either direction of time.

A false alarm would stop an honest retraining, so the level is set for all controls together (`ControlsConfig`), a score
has to lie above its base rate with its whole interval, and an alarm counts when a second trial confirms it. Too few
rows to notice a strong leak is a failure of its own: it says that nothing was proved, and does not block.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import K4, KEYS, N_CLASSES, PipelineConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.leakage.controls import control_score
from k4_pipeline.leakage.controls.control_score import Score
from k4_pipeline.leakage.engine import reduced
from k4_pipeline.leakage.engine.audit import AuditReport
from k4_pipeline.leakage.engine.small import SMALL_AS_OF, small_config
from k4_pipeline.market import sources
from k4_pipeline.market.bars import PRICE_COLUMNS, Bars, to_dates, to_days
from k4_pipeline.patterns import labels
from k4_pipeline.patterns.labels import LABEL_COLUMNS
from k4_pipeline.pipeline import stages as production
from k4_pipeline.pipeline.stages import PipelineRun
from k4_pipeline.progress import Progress
from k4_pipeline.verdict import Verdict, guarded

TOO_LITTLE = "too little evidence"
NULL_TICKERS, NULL_BARS = 100, 760
CONFIRMING = 1_000_003  # between the seeds of a trial and of the one that confirms its alarm


def shuffled_within_date(labeled: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Known classes permuted among the snapshots of the same month: what a row says of its class is destroyed.

    Small universes have few snapshots a day, so a month stands for the date; the class mix over time stays.
    """
    out = labeled.copy()
    known = out["outcome_class"].notna()
    month = out.loc[known, "snapshot_date"].dt.to_period("M")
    classes = out.loc[known, "outcome_class"].to_numpy(dtype=np.int64)
    permuted = np.empty_like(classes)
    for _, at in pd.Series(np.arange(len(classes))).groupby(month.to_numpy()):
        rows = at.to_numpy()
        permuted[rows] = classes[rng.permutation(rows)]
    out.loc[known, "outcome_class"] = pd.array(permuted, dtype="Int8")
    return out


def shifted_by_one_horizon(labeled: pd.DataFrame, bars: Bars, config: PipelineConfig) -> pd.DataFrame:
    """Each row gets the label of a race that begins where its own ends: one horizon of bars later.

    The box moves with the price, so that the race is as hard as it was. Where the ticker has no such bar, the label is
    not known.
    """
    end = bars.locate(labeled["ticker"], to_days(labeled["snapshot_date"]))
    stop = bars.offsets[np.searchsorted(bars.offsets, end, side="right")]
    later = end + config.labels.horizon_bars
    there = np.flatnonzero(later < stop)
    ratio = bars.close[later[there]] / bars.close[end[there]]
    moved = labeled.iloc[there].drop(columns=list(LABEL_COLUMNS)).reset_index(drop=True)
    for column in ("upper", "lower", "power"):
        moved[column] = moved[column] * ratio
    moved["snapshot_date"] = to_dates(bars.date[later[there]]).astype("datetime64[us]")
    raced = labels.label_snapshots(bars, moved, config.labels, default_exchange=config.cleaning.default_exchange)
    raced.index = labeled.index[there]
    out = labeled.copy()
    for column in LABEL_COLUMNS:
        out[column] = raced[column].reindex(labeled.index)
    out["censored"] = out["censored"].eq(True)
    out["label_bars"] = out["label_bars"].fillna(0).astype(np.int64)
    return out.astype({"outcome_class": "Int8"})


def time_reversed(bars: Bars) -> Bars:
    """Every ticker's bars in reverse order on its own dates: opens become closes."""
    columns = {c: getattr(bars, c).copy() for c in (*PRICE_COLUMNS, "volume")}
    for a, b in zip(bars.offsets[:-1], bars.offsets[1:]):
        for values in columns.values():
            values[a:b] = values[a:b][::-1].copy()
    columns["open"], columns["close"] = columns["close"], columns["open"]
    return Bars(tickers=bars.tickers, offsets=bars.offsets, date=bars.date, **columns)


@dataclasses.dataclass(frozen=True)
class Control:
    """One control: its data made from the user's path, and whether its labels are permuted (else a reference is the
    base rate). `make` gives a path up to the sequences and the as-of date to split it at."""

    make: Callable[[PipelineRun, np.random.Generator], PipelineRun]
    permuted: bool
    removes: str
    fixed_as_of: str = ""


def _shuffled(path: PipelineRun, rng: np.random.Generator) -> PipelineRun:
    limit = path.config.controls.max_rows
    part = dataclasses.replace(reduced.reduced(path, 2 * limit, rng), _cache={})
    part.labeled = shuffled_within_date(part.labeled, rng)
    return part


def _shifted(path: PipelineRun, rng: np.random.Generator) -> PipelineRun:
    limit = path.config.controls.max_rows
    part = dataclasses.replace(reduced.reduced(path, 4 * limit, rng), _cache={})
    part.labeled = shifted_by_one_horizon(part.labeled, part.bars, path.config)
    return part


def _reversed(path: PipelineRun, rng: np.random.Generator) -> PipelineRun:
    tickers = reduced.bars_budget(path.bars, path.labeled, path.config.controls.max_bars, rng)
    return production.build(time_reversed(path.bars.subset(tickers)), path.config)


def _martingale(path: PipelineRun, rng: np.random.Generator) -> PipelineRun:
    small = small_config(int(rng.integers(0, 100_000)), n_tickers=NULL_TICKERS, n_bars=NULL_BARS, world="null")
    made = dataclasses.replace(path.config, **{n: getattr(small, n) for n in _OF_SMALL})
    return production.build_from_raw(sources.read_bars(made.source, made.simulation), made)


_OF_SMALL = ("source", "simulation", "cleaning", "patterns", "labels", "split")

CONTROLS: dict[str, Control] = {
    "shuffled_labels_teach_nothing": Control(
        _shuffled, True, "the user's own rows, classes permuted among the snapshots of a month"
    ),
    "labels_one_horizon_late_teach_nothing": Control(
        _shifted, False, "the user's own rows, each with the label of a race that begins where its own ends"
    ),
    "reversed_time_teaches_nothing": Control(_reversed, False, "the user's own bars in reverse order"),
    "a_martingale_teaches_nothing": Control(_martingale, False, "a simulated market of martingales", SMALL_AS_OF),
}


def train_control(path: PipelineRun, as_of: str, seed: int) -> PipelineRun:
    """Split with every later row to test on, cap each member, fit and score with the cheap preset.

    Where few labelled rows follow `as_of`, an earlier date is taken: the control asks about the pipeline.
    """
    settings = path.config.controls
    config = reduced.with_far_test(reduced.cheap_config(path.config, epochs=settings.epochs, seed=seed))
    path = reduced.labelled_only(dataclasses.replace(path, config=config))
    split = reduced.split_with_evidence(path, as_of, settings.test_rows).split
    assert split is not None
    caps = {"train": settings.max_rows, "validation": settings.max_rows // 4, "test": settings.max_rows}
    path.split = reduced.capped_members(split, caps, np.random.default_rng([seed, 3]))
    with reduced.one_thread():
        path.fitted = production.fit(path)
        return production.score(path)


def readings(path: PipelineRun, seed: int) -> dict[str, np.ndarray]:
    """(n, 6) probabilities of the scored rows by two readers: the trained network, and trees on the model inputs.

    The network shows what the training and prediction code let through; trees find within seconds a channel that tells
    the class, which so small a training of the network would not.
    """
    scored = path.scored
    assert scored is not None
    network = scored[[f"p_{i}" for i in range(N_CLASSES)]].to_numpy(dtype=np.float64)
    rows, table = production.members(path, "train")
    train = control_score.input_facts(*path.inputs(rows))
    numbered = path.sequences[KEYS].assign(_row=np.arange(len(path.sequences)))
    at = scored[KEYS].merge(numbered, on=KEYS, how="left", validate="1:1")["_row"].to_numpy()
    test = control_score.input_facts(*path.inputs(at))
    y = table["outcome_class"].to_numpy(dtype=np.int64)
    return {"network": network, "trees": control_score.boosted_probabilities(train, y, test, seed=seed)}


def references(path: PipelineRun, seed: int) -> list[np.ndarray]:
    """(n, 6) probabilities of the scored rows from facts of the bars up to the snapshot, by two plain learners."""
    assert path.scored is not None
    tables = [production.members(path, "train")[1], path.scored]
    rows = [t[KEYS].merge(path.labeled, on=KEYS, how="left", validate="1:1") for t in tables]
    train, test = (control_score.reference_features(t, path.bars) for t in rows)
    y = rows[0]["outcome_class"].to_numpy(dtype=np.int64)
    return [
        control_score.reference_probabilities(train, y, test),
        control_score.boosted_probabilities(train, y, test, seed=seed),
    ]


def score_control(path: PipelineRun, *, permuted: bool, seed: int) -> dict[str, Score]:
    """The score of each reader of a trained control with its base rate; empty when no class has enough rows."""
    scored, settings = path.scored, path.config.controls
    if scored is None or scored.empty:
        return {}
    y, tickers = scored["outcome_class"].to_numpy(dtype=np.int64), scored["ticker"].to_numpy(dtype=object)
    dates = scored["snapshot_date"].to_numpy()
    classes = control_score.usable_classes(y, tickers)
    if not classes:
        return {}
    read = readings(path, seed)
    level = settings.false_alarm_rate / (len(CONTROLS) * len(read))
    if permuted:
        month = dates.astype("datetime64[M]").astype(np.int64)
        return {
            name: control_score.within_date(y, p, month, classes, level, settings.draws, seed)
            for name, p in read.items()
        }
    honest = references(path, seed)
    return {
        name: control_score.against_reference(y, p, honest, tickers, classes, level, settings.draws, seed)
        for name, p in read.items()
    }


def judge(name: str, path: PipelineRun, *, permuted: bool, seed: int = 0) -> Verdict:
    """Whether a trained control scores at its base rate, on enough rows to notice a strong leak."""
    settings, scores = path.config.controls, score_control(path, permuted=permuted, seed=seed)
    scored = path.scored if path.scored is not None else pd.DataFrame(columns=["ticker", "outcome_class"])
    n, tickers = len(scored), int(scored["ticker"].nunique())
    sizes: dict[str, Any] = {
        "test_rows": n,
        "test_tickers": tickers,
        "test_k4": int((scored["outcome_class"] == K4).sum()),
    }
    sizes |= {"train_rows": len(production.members(path, "train")[0]), "as_of": str(path.as_of)}
    if not scores or not np.isfinite([[s.low, s.high] for s in scores.values()]).all():
        text = f"{TOO_LITTLE}: {n} labelled test rows of {tickers} tickers, and no class with enough of them"
        return Verdict(name, False, n, (text,), {"evidence": False, **sizes})
    margin = 0.0 if permuted else settings.margin
    alarms, blind = [], []
    for reader, s in scores.items():
        # The smallest score that would have raised an alarm: what lies below passes unnoticed.
        noticed = s.high if permuted else s.base_rate + margin + (s.value - s.low)
        values = {"score": s.value, "base_rate": s.base_rate, "low": s.low, "high": s.high, "p_value": s.p_value}
        sizes |= {f"{reader}_{key}": float(value) for key, value in {**values, "noticed_from": noticed}.items()}
        if s.value > s.high if permuted else s.low > s.base_rate + margin:
            against = (
                f"other permutations of the same labels score up to {s.high:.3f}"
                if permuted
                else f"interval from {s.low:.3f}, while the bars up to the snapshot tell {s.base_rate:.3f}"
            )
            alarms.append(
                f"{reader} of the control, as of {path.as_of}: mean AUC {s.value:.3f} on {n} test rows ({against}); "
                "labels, train rows or later bars reach the test rows"
            )
        if noticed > settings.notice_at_most:
            where = f"from a mean AUC of {noticed:.3f} on only" if noticed < 1 else "at no mean AUC"
            blind.append(f"the {reader} would be noticed {where}")
    short = n < settings.min_rows or tickers < settings.min_tickers or len(blind) == len(scores)
    findings = alarms or (
        [
            f"{TOO_LITTLE}: {'; '.join([f'{n} labelled test rows of {tickers} tickers', *blind])} (needed: "
            f"{settings.min_rows} rows, {settings.min_tickers} tickers, {settings.notice_at_most})"
        ]
        if short
        else []
    )
    sizes |= {"classes": next(iter(scores.values())).classes, "level": settings.false_alarm_rate / len(CONTROLS)}
    return Verdict.of(name, n, findings, evidence=bool(alarms or not short), **sizes)


def run_control(name: str, path: PipelineRun, as_of: str, *, seed: int = 0) -> Verdict:
    """Make the data of one control from the user's `path`, train on it and judge what was learned.

    An alarm has to be confirmed by a second trial with another draw and another training: chance does not strike twice
    at these levels, a leak does. What the first trial found then stands in the detail.
    """
    first = _trial(name, path, as_of, seed)
    if first.holds or not blocks(first):
        return first
    second = _trial(name, path, as_of, seed + CONFIRMING)
    if blocks(second) and not second.holds:
        return first
    return dataclasses.replace(second, detail={**second.detail, "not_confirmed": first.findings[0]})


def _trial(name: str, path: PipelineRun, as_of: str, seed: int) -> Verdict:
    control, rng = CONTROLS[name], np.random.default_rng([seed, list(CONTROLS).index(name)])
    try:
        trained = train_control(control.make(path, rng), control.fixed_as_of or as_of, seed)
    except BadInputError as error:
        return Verdict(name, False, 0, (f"{TOO_LITTLE}: {error}",), {"evidence": False})
    return judge(name, trained, permuted=control.permuted, seed=seed)


def blocks(verdict: Verdict) -> bool:
    """Whether a failed control objects: an alarm does, and so does a control that broke; too little evidence warns."""
    return bool(verdict.detail.get("evidence", True))


def run_controls(
    path: PipelineRun,
    as_of: str,
    *,
    seed: int = 0,
    names: list[str] | None = None,
    progress: Progress | None = None,
) -> AuditReport:
    """Every control, trained with the cheap preset; a verdict each."""
    report = AuditReport([], {})
    wanted = list(CONTROLS) if names is None else names
    for done, name in enumerate(wanted, start=1):
        begin = time.perf_counter()
        report.verdicts.append(guarded(name, functools.partial(run_control, name, path, as_of, seed=seed)))
        report.seconds[name] = time.perf_counter() - begin
        if progress is not None:
            progress(done, len(wanted))
    return report
