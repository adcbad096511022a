"""Where raw bars come from: `read_bars` picks the source named in the config; each source is a module of its own."""

from __future__ import annotations

from pathlib import Path

from k4_pipeline.config import SimulationConfig, SourceConfig
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.market.sources.base import RAW_COLUMNS, RawBars
from k4_pipeline.progress import Progress

__all__ = ["RAW_COLUMNS", "RawBars", "read_bars"]


def read_bars(
    source: SourceConfig,
    simulation: SimulationConfig,
    *,
    raw_dir: Path | str | None = None,
    progress: Progress | None = None,
    default_exchange: str = "XNYS",
) -> RawBars:
    """The bars of the configured source as sent, for `market.cleaning.clean_bars`.

    `raw_dir` is the folder in which the source `yfinance` keeps what the vendor sent; the other sources ignore it.
    Sources are imported when used: the vendor's client is an optional extra, the simulated market compiles kernels.
    """
    if source.source == "simulated":
        from k4_pipeline.market.sources.simulated import simulate

        return simulate(simulation, progress=progress)
    if source.source in ("folder", "table") and not source.path:
        raise BadInputError(f"source {source.source!r} needs a path; set it with --path")
    if source.source == "folder":
        from k4_pipeline.market.sources.folder import read_folder

        return read_folder(
            source.path, tickers=source.tickers, progress=progress, config=source, default_exchange=default_exchange
        )
    if source.source == "table":
        from k4_pipeline.market.sources.table import read_table

        return read_table(
            source.path, tickers=source.tickers, progress=progress, config=source, default_exchange=default_exchange
        )
    if source.source == "yfinance":
        from k4_pipeline.market.sources.yfinance_source import fetch

        if raw_dir is None:
            raise BadInputError("source 'yfinance' needs raw_dir, the folder in which the vendor's bars are kept")
        return fetch(source.tickers, raw_dir, start=source.start, progress=progress)
    raise ConfigError(f"source {source.source!r} is unknown; use simulated, folder, table or yfinance")
