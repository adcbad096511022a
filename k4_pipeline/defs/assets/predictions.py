"""`predictions`: raw and calibrated probabilities, expected value and signal of the test snapshots."""

import dagster as dg

from k4_pipeline.config import SIGNAL_NAMES
from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import counts_table, date_metadata, table_metadata
from k4_pipeline.defs.plots import bar_image
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import produce


@k4_asset(
    deps=("trained_model", "dataset_split", "sequences", "market_features", "context_features"),
    kinds={"pytorch", "parquet"},
    description="Probabilities of the six classes for every snapshot after the as-of date, raw and calibrated, with "
    "expected value and signal.",
)
def predictions(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Score the test rows with the model of this partition."""
    from k4_pipeline.pipeline.model_files import score_snapshots

    with produce(
        context,
        k4,
        "predictions",
        inputs=("trained_model", "dataset_split", "sequences", "market_features", "context_features"),
        sections=("signals",),
    ) as work:
        split = work.table("dataset_split")
        table = score_snapshots(
            work.inputs["trained_model"].dir,
            wanted=split[split["split"] == "test"],
            sequences=work.table("sequences"),
            panel=work.panel(),
            context=work.bar_context(),
            config=work.config,
            progress=work.progress("scoring"),
        )
        work.write_table("predictions", table)
        counts = {name: int((table["signal"] == name).sum()) for name in SIGNAL_NAMES}
        work.meta = {"rows": len(table), "signals": counts}
    return dg.MaterializeResult(
        metadata=table_metadata(
            table,
            work.ref,
            signals=dg.MetadataValue.md(counts_table("signal", counts)),
            signal_plot=dg.MetadataValue.md(bar_image("signals", list(counts), list(counts.values()))),
            **date_metadata(table["snapshot_date"]),
        )
    )
