"""`dataset_split`: who is trained on, validated on and tested at one as-of date, and the scaler fitted on train."""

import dagster as dg

from k4_pipeline.config import CLASS_NAMES
from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import counts_table, table_metadata
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import produce
from k4_pipeline.markdown import markdown_table


@k4_asset(
    deps=("labeled_snapshots", "sequences", "market_features"),
    kinds={"pandas", "parquet"},
    description="Train, validation and test membership from dates alone (purged, with embargo), and the scaler fitted "
    "on the train rows alone.",
)
def dataset_split(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Split the labelled snapshots at the partition's date and fit the scaler."""
    from k4_pipeline.pipeline.tables import Stored, fit_scaler
    from k4_pipeline.sequences.assemble import SequenceIndex
    from k4_pipeline.splits.walk_forward import split_snapshots

    with produce(
        context,
        k4,
        "dataset_split",
        inputs=("labeled_snapshots", "sequences", "market_features"),
        sections=("split", "scaler"),
    ) as work:
        split, manifest = split_snapshots(work.table("labeled_snapshots"), context.partition_key, work.config.split)
        sequences, panel = work.table("sequences"), work.panel()
        index = SequenceIndex.from_frame(sequences, panel.close)
        scaler = fit_scaler(Stored(split, sequences, panel.values, index), work.config)
        work.write_table("dataset_split", split)
        work.write_text("split.json", manifest.to_json())
        work.write_text("scaler.json", scaler.to_json())
        work.meta = {"rows": dict(manifest.rows), "scaler_hash": scaler.hash(), "fingerprint": manifest.fingerprint}
    classes = [[name, *(manifest.classes[part][name] for part in manifest.classes)] for name in CLASS_NAMES]
    ranges = [[part, r["first_snapshot"], r["last_snapshot"]] for part, r in manifest.date_ranges.items()]
    return dg.MaterializeResult(
        metadata=table_metadata(
            split,
            work.ref,
            **{f"{name}_rows": count for name, count in manifest.rows.items()},
            classes=dg.MetadataValue.md(markdown_table(["class", *manifest.classes], classes)),
            date_range=dg.MetadataValue.md(markdown_table(["split", "first snapshot", "last snapshot"], ranges)),
            excluded=dg.MetadataValue.md(counts_table("reason", manifest.excluded)),
            warnings=dg.MetadataValue.md("\n".join(f"- {w}" for w in manifest.warnings) or "none"),
            scaler_hash=scaler.hash(),
        )
    )
