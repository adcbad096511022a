"""`snapshots`: the state of every active consolidation, scanned from the bars or read from a file made elsewhere."""

import dagster as dg

from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import date_metadata, table_metadata
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import produce
from k4_pipeline.pipeline.external_snapshots import coverage, take_over_file


@k4_asset(
    deps=("daily_bars",),
    kinds={"numba", "parquet"},
    description="Consolidation snapshots: one row per (pattern, bar) with the box fixed at the activation bar. From "
    "the scanner, or from a snapshot file (source.snapshots_path).",
)
def snapshots(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Scan for patterns, or take over an external file."""
    from k4_pipeline.patterns.snapshots import make_snapshots
    from k4_pipeline.pipeline.sharded import patterns as sharded

    with produce(context, k4, "snapshots", inputs=("daily_bars",), sections=("source", "patterns", "labels")) as work:
        if work.config.source.snapshots_path:
            taken = take_over_file(work.bars(), work.config)
            table, wanted, policy = taken.snapshots, taken.wanted, work.config.source.missing_tickers
            work.write_table("refused", taken.refused)
            if taken.outcomes is not None:
                work.write_table("outcomes", taken.outcomes)
            work.meta |= {"file": work.config.source.snapshots_path, "counts": taken.counts}
        else:
            progress = work.progress("scanning for patterns")
            if work.sharded:
                table = sharded.scan(work.shards(), work.config.patterns, progress)
            else:
                table = make_snapshots(work.bars(), work.config.patterns, progress=progress)
            wanted, policy = sorted(set(table["ticker"])), "fail"
        work.write_json("coverage.json", coverage(wanted, policy))
        work.write_table("snapshots", table)
        work.meta |= {"rows": len(table), "patterns": int(table["pattern_id"].nunique())}
    return dg.MaterializeResult(
        metadata=table_metadata(
            table,
            work.ref,
            patterns=work.meta["patterns"],
            **{f"file_{name}": count for name, count in work.meta.get("counts", {}).items()},
            tickers=int(table["ticker"].nunique()),
            **date_metadata(table["snapshot_date"]),
        )
    )
