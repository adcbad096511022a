"""`walk_forward_report`: the reports of all as-of dates side by side."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import pandas as pd

from k4_pipeline.config import PipelineConfig
from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import version_metadata
from k4_pipeline.defs.plots import bar_image
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import load_json, load_table, produce
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.markdown import markdown_table
from k4_pipeline.storage import ArtifactRef, ArtifactStore
from k4_pipeline.storage.json_values import json_safe


@k4_asset(
    deps=("validation_report",),
    kinds={"pandas", "parquet"},
    description="One row per as-of date: its metrics, their intervals, and whether its integrity tests passed.",
)
def walk_forward_report(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Collect every validated partition."""
    from k4_pipeline.evaluation.walk_forward import walk_forward_table
    from k4_pipeline.report.walk_forward import pooled_page

    with produce(context, k4, "walk_forward_report") as work:
        reports = validated_reports(work.store)
        work.inputs = {ref.key: ref for ref, _ in reports}
        table = walk_forward_table([(ref.partition or "", load_json(ref, "report.json"), ok) for ref, ok in reports])
        work.write_table("walk_forward_report", table)
        together = pooled_reports(reports, work.config)
        work.write_json("pooled.json", json_safe(together))
        work.meta = {"partitions": table["as_of"].dt.strftime("%Y-%m-%d").tolist()}
    rows = [[v.date() if isinstance(v, pd.Timestamp) else v for v in row] for row in table.itertuples(index=False)]
    labels = [str(d.date()) for d in table["as_of"]]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(table),
            "table": dg.MetadataValue.md(markdown_table(list(table.columns), rows)),
            "pooled": dg.MetadataValue.md(pooled_page(together)),
            "auc_plot": dg.MetadataValue.md(bar_image("K4 AUC by as_of", labels, table["k4_auc"].tolist())),
            **version_metadata(work.ref),
        }
    )


def pooled_reports(reports: Sequence[tuple[ArtifactRef, bool]], config: PipelineConfig) -> dict[str, Any]:
    """The test rows of every report in one table, and what was certified before beside what held: `k4 walk-forward`.

    A report whose bars have changed since is left out, and said to be: its rows are those of other bars.
    """
    from k4_pipeline.evaluation.walk_forward import pooled

    parts, promises, left_out = [], [], []
    for ref, current in reports:
        as_of = ref.partition or ""
        if not current or "scored.parquet" not in ref.files:
            left_out.append(as_of)
            continue
        parts.append((as_of, load_table(ref, "scored"), load_table(ref, "baselines")))
        report = load_json(ref, "report.json")
        promises.append({"as_of": as_of, "promises": report.get("tiers", []), "certificate": report["certificate"]})
    found = pooled(parts, config.integrity) if parts else {}
    return {"as_of": [as_of for as_of, _, _ in parts], "left_out": left_out, "promises": promises, "pooled": found}


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
