"""`daily_bars`: the source read and cleaned; refused rows beside it with their reasons."""

import datetime as dt

import dagster as dg

from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.external import fetch_missing
from k4_pipeline.defs.io_managers import produce
from k4_pipeline.defs.metadata import counts_table, date_metadata, table_metadata
from k4_pipeline.defs.resources import K4Resource


@k4_asset(
    kinds={"pandas", "parquet"},
    description="Cleaned daily bars, one row per (ticker, date). Nothing is repaired: a row is as the source sent it, "
    "or it stands in the rejects with its reason.",
)
def daily_bars(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Read the configured source, clean it, store bars, rejects and listings."""
    from k4_pipeline.market.cleaning import clean_bars
    from k4_pipeline.market.sources import read_bars

    with produce(context, k4, "daily_bars", sections=("source", "simulation", "cleaning")) as work:
        raw = read_bars(
            work.config.source,
            work.config.simulation,
            raw_dir=work.settings.raw_dir,
            progress=work.progress("reading bars"),
        )
        raw = fetch_missing(work, raw)
        now = dt.datetime.now(dt.UTC)
        result = clean_bars(raw, work.config.cleaning, today=now.date(), now=now)
        table = result.bars.to_frame()
        work.write_table("daily_bars", table)
        work.write_table("rejects", result.rejects)
        for name, listing in result.listings.items():
            work.write_table(name, listing)
        work.meta = {"rows": len(table), "tickers": result.bars.n_tickers, "counts": dict(result.counts)}
        work.meta["problems"] = list(raw.problems)
        work.meta["first_date"], work.meta["last_date"] = (str(d.date()) for d in (table.date.min(), table.date.max()))
    reasons = result.rejects["reason"].value_counts().to_dict()
    return dg.MaterializeResult(
        metadata=table_metadata(
            table,
            work.ref,
            tickers=result.bars.n_tickers,
            **date_metadata(table["date"]),
            rejected_rows=len(result.rejects),
            rejects=dg.MetadataValue.md(counts_table("reason", reasons)),
            listings=dg.MetadataValue.md(counts_table("listing", {k: len(v) for k, v in result.listings.items()})),
            unreadable=dg.MetadataValue.md("\n".join(f"- {p}" for p in raw.problems[:50]) or "none"),
        )
    )
