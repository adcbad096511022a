"""`sequences`: per snapshot, where its 50 bars lie in the panel and the geometry of its pattern."""

import dagster as dg

from k4_pipeline.config import SEQUENCE_BARS
from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import date_metadata, table_metadata
from k4_pipeline.defs.plots import bar_image
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import produce


@k4_asset(
    deps=("daily_bars", "snapshots"),
    kinds={"pandas", "parquet"},
    description="The index of every sequence: the rows of its bars in the panel, its mask, its pattern geometry. The "
    "50 x 69 tensor is assembled when a batch is read, never stored.",
)
def sequences(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Index the window that ends at each snapshot."""
    from k4_pipeline.pipeline.sharded import patterns as sharded
    from k4_pipeline.sequences.windows import index_sequences

    with produce(context, k4, "sequences", inputs=("daily_bars", "snapshots")) as work:
        made = work.table("snapshots")
        table = sharded.sequences(work.shards(), made) if work.sharded else index_sequences(work.bars(), made)
        work.write_table("sequences", table)
        full = int((table["n_valid"] == SEQUENCE_BARS).sum())
        work.meta = {"rows": len(table), "full": full}
    lengths = table["n_valid"].value_counts().reindex(range(1, SEQUENCE_BARS + 1), fill_value=0)
    picture = bar_image("sequences by number of valid bars", [str(i) for i in lengths.index], lengths.tolist())
    return dg.MaterializeResult(
        metadata=table_metadata(
            table,
            work.ref,
            without_padding=full,
            padded=len(table) - full,
            valid_bars=dg.MetadataValue.md(picture),
            **date_metadata(table["snapshot_date"]),
        )
    )
