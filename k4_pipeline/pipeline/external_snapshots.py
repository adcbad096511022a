"""A snapshot file made elsewhere, taken over against the bars there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from k4_pipeline.config import KEYS
from k4_pipeline.errors import BadInputError
from k4_pipeline.pipeline.members import align

if TYPE_CHECKING:
    from k4_pipeline.defs.staging import AssetRun
    from k4_pipeline.market.sources import RawBars
    from k4_pipeline.patterns.external_labels import ExternalLabels


def fetch_missing(work: AssetRun, raw: RawBars) -> RawBars:
    """`raw` with the bars of the snapshot file's tickers that it lacks, when the policy is to fetch them."""
    from k4_pipeline.market.coverage import universe_coverage
    from k4_pipeline.market.sources.base import RawBars
    from k4_pipeline.market.sources.yfinance_source import fetch
    from k4_pipeline.patterns.external_file import read_snapshot_tickers

    source = work.config.source
    if not source.snapshots_path or source.missing_tickers != "fetch":
        return raw
    report = universe_coverage(read_snapshot_tickers(source.snapshots_path), raw.frame["ticker"].astype(str).unique())
    if not report.n_missing:
        return raw
    progress = work.progress("fetching missing tickers")
    got = fetch(report.missing_tickers, work.settings.raw_dir, start=source.start, progress=progress)
    return RawBars(pd.concat([raw.frame, got.frame], ignore_index=True), [*raw.problems, *got.problems])


def take_over_file(work: AssetRun) -> pd.DataFrame:
    """The snapshots of `source.snapshots_path` that have bars; writes its refused rows, classes and coverage beside.

    Tickers without bars are left out here and counted in `coverage.json`; whether that is acceptable is judged by the
    check `universe_coverage`, by the policy `source.missing_tickers`.
    """
    from k4_pipeline.market.coverage import universe_coverage
    from k4_pipeline.patterns.external import read_snapshot_file
    from k4_pipeline.patterns.external_file import read_snapshot_tickers

    config, bars = work.config, work.bars()
    path = config.source.snapshots_path
    wanted = read_snapshot_tickers(path)
    report = universe_coverage(wanted, bars.tickers.tolist())
    if wanted and report.n_covered == 0:
        raise BadInputError(report.message())
    write_coverage(work, wanted, config.source.missing_tickers)
    found = read_snapshot_file(path, bars, config.patterns, default_exchange=config.cleaning.default_exchange)
    work.write_table("refused", found.problems)
    if found.outcomes is not None:
        work.write_table("outcomes", found.snapshots[KEYS].assign(outcome_class=found.outcomes))
    work.meta |= {"file": path, "counts": found.counts}
    return found.snapshots


def write_coverage(work: AssetRun, wanted: list[str], policy: str) -> None:
    """Store which tickers were asked for: what the coverage check compares with the bars."""
    work.write_json("coverage.json", {"wanted": sorted(wanted), "policy": policy})


def label_file(work: AssetRun, snapshots: pd.DataFrame) -> ExternalLabels:
    """Labels of a taken-over file: its own classes where it has them, their dates from the bars."""
    from k4_pipeline.patterns.external import ExternalSnapshots
    from k4_pipeline.patterns.external_labels import label_external

    ref = work.inputs["snapshots"]
    outcomes = None
    if "outcomes.parquet" in ref.files:
        outcomes = align(snapshots[KEYS], work.table("snapshots", "outcomes"), ["outcome_class"])["outcome_class"]
    external = ExternalSnapshots(snapshots, outcomes, work.table("snapshots", "refused"), ref.meta["counts"])
    return label_external(
        work.bars(), external, work.config.labels, default_exchange=work.config.cleaning.default_exchange
    )
