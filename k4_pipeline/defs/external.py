"""A snapshot file made elsewhere, taken over against the bars there are."""

from __future__ import annotations

from typing import Any

import pandas as pd

from k4_pipeline.defs.io_managers import Production
from k4_pipeline.defs.rows import KEYS


def take_over_file(work: Production) -> pd.DataFrame:
    """The snapshots of `source.snapshots_path` that have bars; writes its refused rows, classes and coverage beside.

    Tickers without bars are left out here and counted in `coverage.json`; whether that is acceptable is judged by the
    check `universe_coverage`, by the policy `source.missing_tickers`.
    """
    from k4_pipeline.patterns.external import read_snapshot_file, read_snapshot_tickers

    config, bars = work.config, work.bars()
    path = config.source.snapshots_path
    write_coverage(work, read_snapshot_tickers(path), bars.tickers.tolist(), config.source.missing_tickers)
    found = read_snapshot_file(path, bars, config.patterns, default_exchange=config.cleaning.default_exchange)
    work.write_table("refused", found.problems)
    if found.outcomes is not None:
        work.write_table("outcomes", found.snapshots[KEYS].assign(outcome_class=found.outcomes))
    work.meta |= {"file": path, "counts": found.counts}
    return found.snapshots


def write_coverage(work: Production, wanted: list[str], available: list[str], policy: str) -> dict[str, Any]:
    """Store which tickers were asked for, for the coverage check. Raises `BadInputError` when not one has bars."""
    from k4_pipeline.errors import BadInputError
    from k4_pipeline.market.coverage import universe_coverage

    report = universe_coverage(wanted, available)
    if wanted and not set(wanted) & set(available):
        raise BadInputError(report.message())
    stored = {"wanted": sorted(wanted), "policy": policy}
    work.write_json("coverage.json", stored)
    return stored
