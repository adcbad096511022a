"""`daily_bars`: the source read and cleaned; refused rows beside it with their reasons."""

import datetime as dt

import dagster as dg
import pandas as pd

from k4_pipeline.config import to_dict
from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import counts_table, date_metadata, table_metadata
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import AssetRun, load_json, load_table, produce
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.markdown import markdown_table
from k4_pipeline.pipeline.external_snapshots import fetch_missing


@k4_asset(
    kinds={"pandas", "parquet"},
    description="Cleaned daily bars, one row per (ticker, date). Nothing is repaired: a row is as the source sent it, "
    "or it stands in the rejects with its reason.",
)
def daily_bars(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Read the configured source, clean it, store bars, rejects and listings."""
    from k4_pipeline.market.cleaning import clean_bars
    from k4_pipeline.market.completeness import completeness
    from k4_pipeline.market.revisions import restated, revision_log
    from k4_pipeline.market.sources import read_bars
    from k4_pipeline.market.summary import show, summarise

    with produce(context, k4, "daily_bars", sections=("source", "simulation", "cleaning")) as work:
        raw = read_bars(
            work.config.source,
            work.config.simulation,
            raw_dir=work.settings.raw_dir,
            progress=work.progress("reading bars"),
            default_exchange=work.config.cleaning.default_exchange,
        )
        fetching = work.progress("fetching missing tickers")
        raw = fetch_missing(raw, work.config.source, work.settings.raw_dir, fetching)
        now = dt.datetime.now(dt.UTC)
        result = clean_bars(raw, work.config.cleaning, today=now.date(), now=now)
        table = result.bars.to_frame()
        work.write_table("daily_bars", table)
        work.write_table("rejects", result.rejects)
        for name, listing in result.listings.items():
            work.write_table(name, listing)
        complete = completeness(result.bars, work.config.cleaning)
        work.write_table("completeness", complete)
        log, before, known_from = known_before(work)
        revisions = revision_log(log, before, table, now, known_from)
        work.write_table("revisions", revisions)
        summary = summarise(raw, result, now, work.config, complete)
        summary["warnings"] += restated(revisions, now)
        work.write_json("summary.json", {**summary, "read_by_ticker": result.read_by_ticker})
        work.meta = {"rows": len(table), "tickers": result.bars.n_tickers, "counts": dict(result.counts)}
        work.meta["ingested_at"] = now.isoformat()
        work.meta["restated"] = restated(revisions, now)
        work.meta["problems"] = list(raw.problems)
        work.meta["first_date"], work.meta["last_date"] = (str(d.date()) for d in (table.date.min(), table.date.max()))
    reasons = result.rejects["reason"].value_counts().to_dict()
    return dg.MaterializeResult(
        metadata=table_metadata(
            table,
            work.ref,
            what_was_read=dg.MetadataValue.md("```\n" + "\n".join(show(summary)) + "\n```"),
            tickers=result.bars.n_tickers,
            **date_metadata(table["date"]),
            rejected_rows=len(result.rejects),
            rejects=dg.MetadataValue.md(counts_table("reason", reasons)),
            listings=dg.MetadataValue.md(counts_table("listing", {k: len(v) for k, v in result.listings.items()})),
            missing_sessions=int(complete["missing_sessions"].sum()),
            longest_gap_sessions=int(complete["longest_gap_sessions"].max()),
            least_complete=dg.MetadataValue.md(least_complete(complete)),
            revisions=len(revisions),
            unreadable=dg.MetadataValue.md("\n".join(f"- {p}" for p in raw.problems[:50]) or "none"),
        )
    )


def known_before(work: AssetRun) -> tuple[pd.DataFrame | None, pd.DataFrame | None, dt.datetime | None]:
    """Revision log, bars and time of ingestion of the last good version, when of the same source; else nothing."""
    try:
        before = work.store.last_good("daily_bars")
    except StaleArtifactError:
        return None, None, None
    same = ("source", "simulation") if work.config.source.source == "simulated" else ("source",)
    now, then = to_dict(work.config), load_json(before, "config.json")
    if any(now[section] != then.get(section) for section in same):
        return None, None, None
    ingested_at = before.meta.get("ingested_at")
    known_from = dt.datetime.fromisoformat(ingested_at) if ingested_at else None
    return load_table(before, "revisions"), load_table(before), known_from


def least_complete(table: pd.DataFrame, rows: int = 10) -> str:
    """The tickers that lack most of their sessions, as Markdown."""
    worst = table[table["missing_sessions"] > 0].nsmallest(rows, "completeness")
    header = ["ticker", "exchange", "bars", "missing sessions", "longest gap", "completeness"]
    columns = ["ticker", "exchange", "bars", "missing_sessions", "longest_gap_sessions"]
    lines = [[*(row[c] for c in columns), f"{row['completeness']:.2%}"] for row in worst.to_dict("records")]
    return markdown_table(header, lines) if lines else "every ticker has every session of its calendar"
