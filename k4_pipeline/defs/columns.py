"""Column schema and lineage of the tables, for the asset pages: made from the pandera schemas and a few rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

# What a column was computed from, where it is not taken over under its own name: asset -> column -> (asset, columns).
_BARS = ("daily_bars", ("high", "low", "close", "volume"))
DERIVED: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "snapshots": {
        "start_date": ("daily_bars", ("date",)),
        "snapshot_date": ("daily_bars", ("date",)),
        "upper": ("daily_bars", ("high",)),
        "lower": ("daily_bars", ("low",)),
        "power": ("daily_bars", ("high",)),
    },
    "labeled_snapshots": {
        "outcome_class": _BARS,
        "label_end_date": ("daily_bars", ("date",)),
        "censored": ("daily_bars", ("date",)),
    },
    "training_windows": {
        "start_date": ("daily_bars", ("date",)),
        "snapshot_date": ("daily_bars", ("date",)),
        "outcome_class": _BARS,
        "label_end_date": ("daily_bars", ("date",)),
    },
    "dataset_split": {
        "split": ("labeled_snapshots", ("snapshot_date", "label_end_date")),
        "reason": ("labeled_snapshots", ("snapshot_date", "label_end_date")),
    },
}


def schema_of(asset: str) -> Any:
    """The pandera schema of an asset's table with default settings; None where it has none."""
    from k4_pipeline.schemas.daily_bars import DAILY_BARS
    from k4_pipeline.schemas.dataset_split import DATASET_SPLIT
    from k4_pipeline.schemas.labeled_snapshots import labeled_snapshots_schema
    from k4_pipeline.schemas.predictions import PREDICTIONS, SIGNALS
    from k4_pipeline.schemas.sequences import SEQUENCES
    from k4_pipeline.schemas.snapshots import snapshots_schema
    from k4_pipeline.schemas.training_windows import TRAINING_WINDOWS
    from k4_pipeline.schemas.walk_forward_report import WALK_FORWARD_REPORT

    made = {
        "daily_bars": lambda: DAILY_BARS,
        "snapshots": snapshots_schema,
        "labeled_snapshots": labeled_snapshots_schema,
        "sequences": lambda: SEQUENCES,
        "training_windows": lambda: TRAINING_WINDOWS,
        "dataset_split": lambda: DATASET_SPLIT,
        "predictions": lambda: PREDICTIONS,
        "signals": lambda: SIGNALS,
        "walk_forward_report": lambda: WALK_FORWARD_REPORT,
    }
    return made[asset]() if asset in made else None


def column_schema(schema: Any) -> dg.TableSchema:
    """A pandera schema as Dagster shows it: type, description, constraints, and the rules of the whole table."""
    columns = []
    for name, column in schema.columns.items():
        rules = [str(check.name) for check in column.checks if check.name]
        columns.append(
            dg.TableColumn(
                name,
                type=(column.metadata or {}).get("dtype", ""),
                description=column.description or "",
                constraints=dg.TableColumnConstraints(nullable=column.nullable, other=rules),
            )
        )
    rules = [str(check.name) for check in schema.checks if check.name]
    return dg.TableSchema(columns, constraints=dg.TableConstraints(other=rules))


def column_lineage(asset: str, columns: list[str], inputs: Mapping[str, list[str]]) -> dg.TableColumnLineage:
    """Where each column comes from: `DERIVED`, else the columns of its name in `inputs` (asset -> columns)."""
    found: dict[str, list[dg.TableColumnDep]] = {}
    for column in columns:
        if column in DERIVED.get(asset, {}):
            source, names = DERIVED[asset][column]
            found[column] = [dg.TableColumnDep(dg.AssetKey(source), name) for name in names]
            continue
        same = [dg.TableColumnDep(dg.AssetKey(name), column) for name, held in inputs.items() if column in held]
        if same:
            found[column] = same
    return dg.TableColumnLineage(found)


def column_metadata(asset: str, inputs: list[str]) -> dict[str, Any]:
    """`dagster/column_schema` and `dagster/column_lineage` of a table with a schema; empty for others."""
    schema = schema_of(asset)
    if schema is None:
        return {}
    held = {name: list(found.columns) for name in inputs if (found := schema_of(name)) is not None}
    return {
        "dagster/column_schema": column_schema(schema),
        "dagster/column_lineage": column_lineage(asset, list(schema.columns), held),
    }
