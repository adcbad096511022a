"""A walk-forward backtest in memory: the data stages once, then split, fit, baselines and metrics of every as-of date.

Partitions run side by side (`side_by_side`). The test spans do not overlap, so the rows of all partitions together are
the pooled table.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from k4_pipeline.config import K4, PipelineConfig, SourceConfig
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.evaluation import validation
from k4_pipeline.evaluation.walk_forward import pooled
from k4_pipeline.market import sources
from k4_pipeline.market.sources.base import RawBars
from k4_pipeline.market.sources.kinds import kind_of
from k4_pipeline.pipeline import ablation, baselines, stages
from k4_pipeline.pipeline.side_by_side import each
from k4_pipeline.progress import Progress

_FIRST_OF = {4: "{}-01-01", 7: "{}-01"}


@dataclass(frozen=True)
class Partition:
    """The labelled test rows of one as-of date, what every method says of them, and the metrics."""

    as_of: str
    scored: pd.DataFrame
    beside: pd.DataFrame
    facts: dict[str, Any]
    result: dict[str, Any]


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 2)
        self._last = now


def as_of_dates(first: str, last: str, every_months: int) -> list[str]:
    """ISO days from `first` to `last`, both included, `every_months` apart; a year or a month means its first day."""
    if every_months < 1:
        raise ConfigError(f"--every is {every_months}; it must be at least 1 month")
    ends = []
    for name, text in (("--from", first), ("--to", last)):
        try:
            ends.append(pd.Timestamp(_FIRST_OF.get(len(text), "{}").format(text)))
        except ValueError as problem:
            raise ConfigError(f"{name} {text} is no date; give YYYY, YYYY-MM or YYYY-MM-DD") from problem
    days = pd.date_range(ends[0], ends[1], freq=pd.DateOffset(months=every_months))
    if not len(days):
        raise ConfigError(f"--from {first} is after --to {last}")
    return [str(day.date()) for day in days]


def table_files(path: str) -> list[str]:
    """`path` itself, or the Parquet files of a folder that holds long tables (with a ticker column)."""
    import pyarrow.parquet as pq

    files = sorted(str(f) for f in Path(path).glob("*.parquet")) if Path(path).is_dir() else []
    columns = {name.lower() for name in pq.read_schema(files[0]).names} if files else set()
    return files if columns & {"ticker", "symbol"} else [path]


def read_sources(
    source: SourceConfig, config: PipelineConfig, paths: Sequence[str], progress: Progress | None
) -> RawBars:
    """The raw bars of the source; of several tables one after the other. A ticker may stand in one table only."""
    if source.source not in ("table", "folder") or not paths:
        if len(paths) > 1:
            raise ConfigError(f"source {source.source!r} reads one --path, not {len(paths)}")
        return sources.read_bars(source, config.simulation, progress=progress)
    files = [file for path in paths for file in table_files(path)]
    raws: list[RawBars] = []
    owner: dict[str, str] = {}
    for file in files:
        kind: Any = source.source if [file] == list(paths) else kind_of(file)
        raw = sources.read_bars(dataclasses.replace(source, source=kind, path=file), config.simulation)
        names = set(raw.frame["ticker"].astype(str).unique())
        twice = sorted(names & owner.keys())
        if twice:
            raise BadInputError(
                f"{len(twice)} tickers stand in more than one table, first {twice[0]} in {owner[twice[0]]} and {file}; "
                "remove them from one of the two"
            )
        owner |= dict.fromkeys(names, file)
        raws.append(raw)
        if progress is not None:
            progress(len(raws), len(files))
    if len(raws) == 1:
        return raws[0]
    frame = pd.concat([raw.frame for raw in raws], ignore_index=True)
    return RawBars(frame, [p for raw in raws for p in raw.problems])


def run_partition(path: stages.PipelineRun, as_of: str) -> Partition:
    """Fit and judge one as-of date on the tables of `path`, which are left as they are."""
    clock = _Clock()
    path = stages.split_at(path.unfitted(split=None, manifest=None), as_of)
    path.fitted = stages.fit(path)
    clock.lap("fit")
    predictions = stages.predict_member(path, "test", path.fitted)
    clock.lap("predict")
    scored = validation.score_labelled(predictions, path.labeled, path.sequences, path.panel)
    if scored.empty:
        raise BadInputError(f"as_of {as_of}: no test snapshot has a known label; choose an earlier --to")
    table = baselines.baseline_table(
        stages.tables(path), path.fitted.scaler, path.config, path.bars, path.labeled, context=path.context
    )
    clock.lap("baselines")
    result = pooled([(as_of, scored, table)], path.config.integrity)
    clock.lap("metrics")
    assert path.split is not None
    found = validation.certified(scored, path.fitted.certificates)
    facts_of_tiers = {"promises": found.pop("tiers"), **found}  # `tiers` is a table of the metrics
    train = path.split[path.split["split"] == "train"]
    facts = {
        "train_rows": len(train),
        "train_k4": int((train["outcome_class"] == K4).sum()),
        "last_label_known": str(train["label_end_date"].max().date()),
        "calibration": path.fitted.calibrator.meta,
        **facts_of_tiers,
        "seconds": clock.laps,
    }
    return Partition(as_of, scored, table, facts, result)


def _data_stages(config: PipelineConfig, paths: Sequence[str], progress: Progress | None) -> stages.PipelineRun:
    """Everything that all as-of dates share, without the raw bars."""
    path = stages.build_from_raw(read_sources(config.source, config, paths, progress), config)
    path.raw, path.rejects = None, None
    return path


def walk_forward(
    config: PipelineConfig,
    dates: Sequence[str],
    *,
    paths: Sequence[str] = (),
    workers: int = 0,
    progress_of: Callable[[str], Progress | None] | None = None,
) -> dict[str, Any]:
    """`partitions` (one dict per as-of date) and `pooled`: model, baselines, best possible, differences, intervals.

    `workers` 0: as many as there are cores and dates. The spans to test on are those between two dates.
    """
    label = progress_of or (lambda _: None)
    path = _data_stages(config, paths, label("reading bars"))
    done = label("partitions")
    found: list[Partition] = []
    for partition in each(run_partition, path, [(as_of,) for as_of in dates], workers):
        found.append(partition)
        if done is not None:
            done(len(found), len(dates))
    return {
        "partitions": [{"as_of": p.as_of, **p.facts, **p.result} for p in found],
        "pooled": pooled([(p.as_of, p.scored, p.beside) for p in found], config.integrity),
    }


def sequence_ablation(
    config: PipelineConfig,
    dates: Sequence[str],
    *,
    paths: Sequence[str] = (),
    workers: int = 0,
    progress_of: Callable[[str], Progress | None] | None = None,
) -> dict[str, Any]:
    """The variants of `ablation` at several dates: `partitions` and `pooled`, and the `answer` in words."""
    label = progress_of or (lambda _: None)
    path = _data_stages(config, paths, label("reading bars"))
    done = label("fits")
    tasks = [(as_of, name) for as_of in dates for name in ablation.VARIANTS]
    found: dict[str, dict[str, pd.DataFrame]] = {as_of: {} for as_of in dates}
    for number, ((as_of, name), scored) in enumerate(zip(tasks, each(ablation.run_variant, path, tasks, workers)), 1):
        found[as_of][name] = scored
        if done is not None:
            done(number, len(tasks))
    together = ablation.pooled(list(found.values()), config)
    return {
        "partitions": [{"as_of": as_of, **ablation.compared(parts, config)} for as_of, parts in found.items()],
        "pooled": together,
        "answer": ablation.answer(together),
    }
