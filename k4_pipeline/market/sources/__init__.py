"""Where raw bars come from: `read_bars` picks the source named in the config; each source is a module of its own."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

from k4_pipeline.config import FILE_SOURCES, SimulationConfig, SourceConfig
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.market.sources.base import RAW_COLUMNS, RawBars
from k4_pipeline.progress import Progress

__all__ = ["RAW_COLUMNS", "VENDORS", "RawBars", "read_bars"]

# source -> module and class below `vendors`: `history(ticker, start)` of each is fetched and kept as Yahoo's is.
VENDORS = {
    "tiingo": "tiingo:TiingoClient",
    "polygon": "polygon:PolygonClient",
    "alpaca": "alpaca:AlpacaClient",
    "binance": "binance:BinanceClient",
}


def read_bars(
    source: SourceConfig,
    simulation: SimulationConfig,
    *,
    raw_dir: Path | str | None = None,
    progress: Progress | None = None,
    default_exchange: str = "XNYS",
    keep: bool = True,
) -> RawBars:
    """The bars of the configured source as sent, for `market.cleaning.clean_bars`.

    `raw_dir` is the folder that keeps what a vendor sent (`yfinance`, `VENDORS`) and what was read of files; `keep`
    False: nothing of files is written there. Sources are imported when used: the vendor's client is an optional extra,
    the simulated market compiles kernels.
    """
    if source.source == "simulated":
        from k4_pipeline.market.sources.simulated import simulate

        return simulate(simulation, progress=progress)
    if source.source in FILE_SOURCES and not source.path:
        raise BadInputError(f"source {source.source!r} needs a path; set it with --path")
    kept = None if raw_dir is None else Path(raw_dir) / "files"
    if source.source in ("folder", "stooq"):
        from k4_pipeline.market.sources.folder import read_folder
        from k4_pipeline.market.sources.stooq import read_archive

        read = read_folder if source.source == "folder" else read_archive
        return read(
            source.path, tickers=source.tickers, progress=progress, config=source, default_exchange=default_exchange,
            kept=kept, keep=keep,
        )  # fmt: skip
    if source.source == "table":
        from k4_pipeline.market.sources.table import read_table

        return read_table(
            source.path, tickers=source.tickers, progress=progress, config=source, default_exchange=default_exchange
        )
    if source.source == "yfinance" or source.source in VENDORS:
        from k4_pipeline.market.sources.yfinance_source import fetch

        if raw_dir is None:
            raise BadInputError(f"source {source.source!r} needs raw_dir, the folder that keeps the vendor's bars")
        if source.source == "yfinance":
            return fetch(source.tickers, raw_dir, start=source.start, progress=progress)
        # Tickers of different vendors may be spelled alike and be adjusted differently: a folder for each.
        folder = Path(raw_dir) / source.source
        return fetch(
            source.tickers, folder, start=source.start, client=_client(VENDORS[source.source]), progress=progress
        )
    if source.source == "plugin":
        return _plugin(source)
    known = ", ".join(("simulated", *FILE_SOURCES, "yfinance", *VENDORS, "plugin"))
    raise ConfigError(f"source {source.source!r} is unknown; use one of {known}")


def _client(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"k4_pipeline.market.sources.vendors.{module}"), name)()


def _plugin(source: SourceConfig) -> RawBars:
    """A user's own source: an entry point of group `k4_pipeline.sources`, named as `source.path`.

    It is a class without arguments whose `bars(tickers, start)` gives a frame with ticker, date, open, high, low, close
    and volume; it is cleaned as every other source.
    """
    found = {point.name: point for point in importlib.metadata.entry_points(group="k4_pipeline.sources")}
    if source.path not in found:
        there = ", ".join(sorted(found)) or "none is installed"
        raise BadInputError(f"no plug-in source is called {source.path!r} (--path names it); there: {there}")
    frame = found[source.path].load()().bars(source.tickers, source.start)
    lacking = [c for c in RAW_COLUMNS[:-1] if c not in getattr(frame, "columns", ())]
    if lacking:
        raise BadInputError(f"plug-in source {source.path!r} gives no column {', '.join(lacking)}")
    return RawBars(frame[list(RAW_COLUMNS[:-1])].assign(source=source.path))
