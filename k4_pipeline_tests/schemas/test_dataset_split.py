"""The dataset_split schema accepts what the splitter makes and refuses what it never makes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import SplitConfig
from k4_pipeline.schemas.base import validate
from k4_pipeline.schemas.dataset_split import DATASET_SPLIT
from k4_pipeline.splits.walk_forward import split_snapshots
from k4_pipeline_tests.splits.tables import weekly_table

SPLIT, _ = split_snapshots(weekly_table(), "2016-07-01", SplitConfig(weight_by_uniqueness=True))


def test_a_fresh_split_satisfies_its_schema() -> None:
    assert validate(DATASET_SPLIT, SPLIT) == []


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lambda f: f.iloc[::-1].reset_index(drop=True), "rows_ascend_by"),
        (lambda f: pd.concat([f[:1], f], ignore_index=True), "name_a_row_once"),
        (lambda f: f.assign(weight=np.inf), "is_finite"),
        (lambda f: f.assign(split="train"), "fitted_rows_are_labelled"),
        (lambda f: f.assign(reason=pd.Series([""] * len(f), dtype="str")), "excluded_rows_and_only_they_have_a_reason"),
        (lambda f: f[f["split"] != "train"].reset_index(drop=True), "train_and_validation_have_rows"),
        (lambda f: f.assign(label_end_date=f["snapshot_date"]), "label_windows_end_after_their_snapshot"),
        (lambda f: f.assign(extra=1), "extra"),
        (lambda f: f[:0], "has_at_least_1_rows"),
    ],
)
def test_a_spoiled_split_is_refused(spoil: Callable[[pd.DataFrame], pd.DataFrame], rule: str) -> None:
    assert any(rule in line for line in validate(DATASET_SPLIT, spoil(SPLIT)))
