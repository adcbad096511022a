"""A snapshot file made elsewhere, taken over against the bars there are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from k4_pipeline.config import KEYS, PipelineConfig, SourceConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import Bars
from k4_pipeline.pipeline.members import align
from k4_pipeline.progress import Progress

if TYPE_CHECKING:
    from k4_pipeline.market.sources import RawBars
    from k4_pipeline.patterns.external_labels import ExternalLabels


@dataclass(frozen=True)
class TakenOver:
    """`snapshots` that have bars; `refused` rows with their reason; `outcomes` (KEYS, outcome_class) when the file has
    classes; `counts` of rows by what became of them; `wanted`: every ticker the file names."""

    snapshots: pd.DataFrame
    refused: pd.DataFrame
    outcomes: pd.DataFrame | None
    counts: dict[str, int]
    wanted: list[str]


def fetch_missing(raw: RawBars, source: SourceConfig, raw_dir: Path, progress: Progress | None = None) -> RawBars:
    """`raw` with the bars of the snapshot file's tickers that it lacks, when the policy is to fetch them."""
    from k4_pipeline.market.coverage import universe_coverage
    from k4_pipeline.market.series import original_ticker
    from k4_pipeline.market.sources.base import RawBars
    from k4_pipeline.market.sources.yfinance_source import fetch
    from k4_pipeline.patterns.external_file import read_snapshot_tickers

    if not source.snapshots_path or source.missing_tickers != "fetch":
        return raw
    wanted = {original_ticker(t) for t in read_snapshot_tickers(source.snapshots_path)}  # CAR#2 is sent as CAR
    report = universe_coverage(wanted, raw.frame["ticker"].astype(str).unique())
    if not report.n_missing:
        return raw
    got = fetch(report.missing_tickers, raw_dir, start=source.start, progress=progress)
    return RawBars(pd.concat([raw.frame, got.frame], ignore_index=True), [*raw.problems, *got.problems])


def take_over_file(bars: Bars, config: PipelineConfig) -> TakenOver:
    """What `source.snapshots_path` holds, against `bars`.

    Tickers without bars are left out here; whether that is acceptable is judged by the check `universe_coverage`, by
    the policy `source.missing_tickers`. Raises `BadInputError` when no ticker has bars.
    """
    from k4_pipeline.market.coverage import universe_coverage
    from k4_pipeline.patterns.external import read_snapshot_file
    from k4_pipeline.patterns.external_file import read_snapshot_tickers

    path = config.source.snapshots_path
    wanted = read_snapshot_tickers(path)
    report = universe_coverage(wanted, bars.tickers.tolist())
    if wanted and report.n_covered == 0:
        raise BadInputError(report.message())
    found = read_snapshot_file(path, bars, config.patterns, default_exchange=config.cleaning.default_exchange)
    outcomes = None if found.outcomes is None else found.snapshots[KEYS].assign(outcome_class=found.outcomes)
    return TakenOver(found.snapshots, found.problems, outcomes, dict(found.counts), wanted)


def coverage(wanted: list[str], policy: str) -> dict[str, Any]:
    """Which tickers were asked for: what the coverage check compares with the bars."""
    return {"wanted": sorted(wanted), "policy": policy}


def label_file(bars: Bars, taken: TakenOver, config: PipelineConfig) -> ExternalLabels:
    """Labels of a taken-over file: its own classes where it has them, their dates from the bars."""
    from k4_pipeline.patterns.external import ExternalSnapshots
    from k4_pipeline.patterns.external_labels import label_external

    outcomes = None
    if taken.outcomes is not None:
        outcomes = align(taken.snapshots[KEYS], taken.outcomes, ["outcome_class"])["outcome_class"]
    external = ExternalSnapshots(taken.snapshots, outcomes, taken.refused, taken.counts)
    return label_external(bars, external, config.labels, default_exchange=config.cleaning.default_exchange)
