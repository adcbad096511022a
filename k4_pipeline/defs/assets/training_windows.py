"""`training_windows`: labelled windows at any bar, for the first phase of training and for nothing else."""

import dagster as dg

from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import class_metadata, date_metadata, table_metadata
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import produce


@k4_asset(
    deps=("daily_bars",),
    kinds={"numba", "parquet"},
    description="Windows at any bar with the box of its last ten bars, labelled by the same race: where their "
    "bars lie, their class and its date. Networks learn from them first; nothing is predicted or tested on them.",
)
def training_windows(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Make, label and index the windows."""
    from k4_pipeline.pipeline.sharded import patterns as sharded
    from k4_pipeline.pipeline.training_windows import index_windows

    sections = ("windows", "patterns", "labels", "cleaning")
    with produce(context, k4, "training_windows", inputs=("daily_bars",), sections=sections) as work:
        table = sharded.windows(work.shards(), work.config) if work.sharded else index_windows(work.bars(), work.config)
        work.write_table("training_windows", table)
        work.meta = {"rows": len(table)}
    return dg.MaterializeResult(
        metadata=table_metadata(
            table, work.ref, **class_metadata(table["outcome_class"]), **date_metadata(table["snapshot_date"])
        )
    )
