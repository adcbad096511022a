"""`walk_forward_report`: the reports of all as-of dates side by side."""

import dagster as dg
import pandas as pd

from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import version_metadata
from k4_pipeline.defs.plots import bar_image
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import load_json, produce
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.markdown import markdown_table
from k4_pipeline.storage import ArtifactRef, ArtifactStore


@k4_asset(
    deps=("validation_report",),
    kinds={"pandas", "parquet"},
    description="One row per as-of date: its metrics, their intervals, and whether its integrity tests passed.",
)
def walk_forward_report(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Collect every validated partition."""
    from k4_pipeline.evaluation.walk_forward import walk_forward_table

    with produce(context, k4, "walk_forward_report") as work:
        reports = validated_reports(work.store)
        work.inputs = {ref.key: ref for ref, _ in reports}
        table = walk_forward_table([(ref.partition or "", load_json(ref, "report.json"), ok) for ref, ok in reports])
        work.write_table("walk_forward_report", table)
        work.meta = {"partitions": table["as_of"].dt.strftime("%Y-%m-%d").tolist()}
    rows = [[v.date() if isinstance(v, pd.Timestamp) else v for v in row] for row in table.itertuples(index=False)]
    labels = [str(d.date()) for d in table["as_of"]]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(table),
            "table": dg.MetadataValue.md(markdown_table(list(table.columns), rows)),
            "auc_plot": dg.MetadataValue.md(bar_image("K4 AUC by as_of", labels, table["k4_auc"].tolist())),
            **version_metadata(work.ref),
        }
    )


def validated_reports(store: ArtifactStore) -> list[tuple[ArtifactRef, bool]]:
    """(report version, whether its inputs are still the current ones) of every partition whose report was promoted.

    A walk-forward row is history: when the bars have grown since, it is kept and marked, not refused.
    """
    found = []
    for as_of in store.partitions("validation_report"):
        try:
            ref = store.current("validation_report", as_of)
        except StaleArtifactError:
            continue
        ref.verify()
        try:
            store.verify_chain([ref])
            fresh = True
        except StaleArtifactError:
            fresh = False
        found.append((ref, fresh))
    return found
