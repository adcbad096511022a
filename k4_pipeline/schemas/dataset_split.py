"""`dataset_split`: membership of every labelled snapshot for one as-of date. See splits/walk_forward.py."""

from __future__ import annotations

from k4_pipeline.config import EXCLUDED, EXCLUSION_REASONS, KEYS, N_CLASSES, SPLIT_NAMES
from k4_pipeline.schemas.base import category, date, integer, number, row_rule, table_rule, table_schema, text

DATASET_SPLIT = table_schema(
    "dataset_split",
    {
        "ticker": text("exchange ticker"),
        "pattern_id": text("ticker|start date"),
        "start_date": date("start bar of the pattern"),
        "snapshot_date": date("snapshot bar"),
        "label_end_date": date("first date on which the label is known; empty when not known", nullable=True),
        "outcome_class": integer("0..5; empty when not known", ge=0, le=N_CLASSES - 1, nullable=True, dtype="Int8"),
        "split": category((*SPLIT_NAMES, EXCLUDED), "membership"),
        "reason": category(("", *EXCLUSION_REASONS), "why a row is excluded; empty for members"),
        "weight": number("sample weight; mean 1 over train", gt=0.0),
    },
    key=tuple(KEYS),
    checks=(
        row_rule(
            "excluded_rows_and_only_they_have_a_reason", lambda f: (f["split"] == EXCLUDED) == (f["reason"] != "")
        ),
        row_rule(
            "fitted_rows_are_labelled",
            lambda f: (
                ~f["split"].isin(["train", "validation"]) | (f["label_end_date"].notna() & f["outcome_class"].notna())
            ),
        ),
        row_rule(
            "label_windows_end_after_their_snapshot",
            lambda f: f["label_end_date"].isna() | (f["label_end_date"] > f["snapshot_date"]),
        ),
        row_rule("snapshots_follow_the_start_of_their_pattern", lambda f: f["snapshot_date"] >= f["start_date"]),
        table_rule("train_and_validation_have_rows", lambda f: {"train", "validation"} <= set(f["split"])),
    ),
    description="Train, validation and test membership by dates alone, with the reason for every exclusion.",
)
