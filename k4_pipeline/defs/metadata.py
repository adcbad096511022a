"""Metadata shown on asset pages: row counts, date ranges, class tables, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pandas as pd

from k4_pipeline.config import CLASS_NAMES
from k4_pipeline.defs.columns import column_metadata
from k4_pipeline.defs.plots import bar_image
from k4_pipeline.markdown import markdown_table
from k4_pipeline.storage import ArtifactRef
from k4_pipeline.storage.code_version import described


def counts_table(title: str, counts: Mapping[str, int]) -> str:
    """A Markdown table of counts, largest first."""
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return markdown_table([title, "count"], [[name, int(n)] for name, n in rows])


def class_counts(outcome_class: pd.Series) -> dict[str, int]:
    """Rows per class name, unknown labels last."""
    counts = outcome_class.dropna().astype("int64").value_counts()
    out = {name: int(counts.get(i, 0)) for i, name in enumerate(CLASS_NAMES)}
    out["not known yet"] = int(outcome_class.isna().sum())
    return out


def class_table(outcome_class: pd.Series) -> str:
    """Markdown: class, rows, share of the labelled rows."""
    counts = class_counts(outcome_class)
    known = max(sum(counts[name] for name in CLASS_NAMES), 1)
    rows = [[name, counts[name], f"{counts[name] / known:.2%}"] for name in CLASS_NAMES]
    return markdown_table(["class", "rows", "share"], [*rows, ["not known yet", counts["not known yet"], ""]])


def class_metadata(outcome_class: pd.Series) -> dict[str, Any]:
    """The class table and its picture."""
    counts = class_counts(outcome_class)
    picture = bar_image("rows per class", [n[:2] for n in CLASS_NAMES], [counts[n] for n in CLASS_NAMES])
    return {"classes": dg.MetadataValue.md(class_table(outcome_class)), "class_plot": dg.MetadataValue.md(picture)}


def date_metadata(dates: pd.Series) -> dict[str, Any]:
    """First and last date, and rows per year as a picture."""
    known = dates.dropna()
    if known.empty:
        return {"date_range": "no rows"}
    years = known.dt.year.value_counts().sort_index()
    picture = bar_image("rows per year", [str(y) for y in years.index], years.tolist())
    return {
        "date_range": f"{known.min().date()} .. {known.max().date()}",
        "rows_per_year": dg.MetadataValue.md(picture),
    }


def preview(table: pd.DataFrame, rows: int = 5) -> dg.MarkdownMetadataValue:
    """The first rows as Markdown."""
    head = table.head(rows)
    cells = [[v.date() if isinstance(v, pd.Timestamp) else v for v in row] for row in head.itertuples(index=False)]
    return dg.MetadataValue.md(markdown_table([str(c) for c in head.columns], cells))


def version_metadata(ref: ArtifactRef | None) -> dict[str, Any]:
    """Where the version lies and what it was made from."""
    if ref is None:
        return {}
    size = sum(int(entry["bytes"]) for entry in ref.files.values())
    made_from = markdown_table(["input", "fingerprint"], [[k, v[:12]] for k, v in sorted(ref.inputs.items())])
    return {
        "version": ref.version,
        "fingerprint": ref.fingerprint,
        "megabytes": round(size / 1e6, 3),
        "folder": dg.MetadataValue.path(str(ref.dir)),
        "made_from": dg.MetadataValue.md(made_from),
        "made_by": described(ref.code),
    }


def table_metadata(table: pd.DataFrame, ref: ArtifactRef | None, **more: Any) -> dict[str, Any]:
    """Row count, preview and version, with whatever the asset adds."""
    columns = {} if ref is None else column_metadata(ref.asset, [key.partition("@")[0] for key in ref.inputs])
    return {"dagster/row_count": len(table), **more, "preview": preview(table), **columns, **version_metadata(ref)}
