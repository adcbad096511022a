"""Snapshot files written for the tests of their reader."""

from __future__ import annotations

import pandas as pd

from k4_pipeline.config import CLASS_NAMES, LabelConfig
from k4_pipeline.market.bars import Bars
from k4_pipeline.patterns.external import ExternalSnapshots, read_snapshot_file
from k4_pipeline_tests.patterns.worlds import SMALL

LABELS = LabelConfig(horizon_bars=40)


def original_form(labeled: pd.DataFrame) -> pd.DataFrame:
    """The table as the original system wrote it: no activation date, boundary columns, class names."""
    known = labeled[labeled["outcome_class"].notna()].reset_index(drop=True)
    return pd.DataFrame(
        {
            "ticker": known["ticker"],
            "start_date": known["start_date"].dt.strftime("%Y-%m-%d"),
            "snapshot_date": known["snapshot_date"].dt.strftime("%Y-%m-%d"),
            "upper_boundary": known["upper"],
            "lower_boundary": known["lower"],
            "power_boundary": known["power"],
            "outcome_class": [CLASS_NAMES[c] for c in known["outcome_class"]],
        }
    )


def read(tmp_path, frame: pd.DataFrame, bars: Bars, suffix="csv", **options) -> ExternalSnapshots:
    path = tmp_path / f"snapshots.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False)
    return read_snapshot_file(path, bars, SMALL, **options)


def problems(found: ExternalSnapshots) -> dict[int, str]:
    return dict(zip(found.problems["row"], found.problems["problem"]))
