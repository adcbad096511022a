"""`labeled_snapshots`: the race label of each snapshot and the date from which it is known."""

import dagster as dg

from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import class_metadata, date_metadata, table_metadata
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import produce
from k4_pipeline.pipeline.external_snapshots import TakenOver, label_file


@k4_asset(
    deps=("daily_bars", "snapshots"),
    kinds={"numba", "parquet"},
    description="Snapshots with outcome class K0..K5, label_end_date (before it the label is not known) and censoring.",
)
def labeled_snapshots(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Label every snapshot by the race over its next bars."""
    from k4_pipeline.patterns.labels import label_snapshots
    from k4_pipeline.pipeline.sharded import patterns as sharded

    with produce(
        context, k4, "labeled_snapshots", inputs=("daily_bars", "snapshots"), sections=("labels", "cleaning")
    ) as work:
        snapshots, against_file = work.table("snapshots"), {}
        ref = work.inputs["snapshots"]
        if "counts" in ref.meta:
            outcomes = work.table("snapshots", "outcomes") if "outcomes.parquet" in ref.files else None
            taken = TakenOver(snapshots, work.table("snapshots", "refused"), outcomes, ref.meta["counts"], [])
            labels = label_file(work.bars(), taken, work.config)
            table, against_file = labels.labeled, labels.counts
        else:
            exchange = work.config.cleaning.default_exchange
            if work.sharded:
                table = sharded.label(work.shards(), snapshots, work.config.labels, exchange)
            else:
                table = label_snapshots(work.bars(), snapshots, work.config.labels, default_exchange=exchange)
        work.write_table("labeled_snapshots", table)
        known = int(table["outcome_class"].notna().sum())
        work.meta = {"rows": len(table), "known": known, "censored": int(table["censored"].sum()), "file": against_file}
    return dg.MaterializeResult(
        metadata=table_metadata(
            table,
            work.ref,
            **class_metadata(table["outcome_class"]),
            **date_metadata(table["snapshot_date"]),
            labelled=known,
            not_known_yet=len(table) - known,
            censored=work.meta["censored"],
            **{f"file_{name}": count for name, count in against_file.items()},
        )
    )
