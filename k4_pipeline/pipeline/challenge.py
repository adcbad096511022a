"""Champion and candidate on the same rows: the candidate's labelled test rows, scored by both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS, PipelineConfig
from k4_pipeline.errors import K4Error, StaleArtifactError
from k4_pipeline.evaluation.promotion import Comparison, compare
from k4_pipeline.evaluation.scores import PROBABILITIES
from k4_pipeline.features.panel import FeaturePanel
from k4_pipeline.pipeline.model_files import score_snapshots


def challenge(
    champion: Path,
    *,
    predictions: pd.DataFrame,
    labeled: pd.DataFrame,
    sequences: pd.DataFrame,
    panel: FeaturePanel,
    context: np.ndarray,
    config: PipelineConfig,
) -> Comparison:
    """Compare the model in the folder `champion` with a candidate by its `predictions`.

    The champion's as-of date is not later than the candidate's, so neither has seen the candidate's test rows. Rows
    without a label by now are left out.
    """
    rows = predictions[predictions["split"] == "test"].merge(
        labeled[[*KEYS, "outcome_class"]], on=KEYS, how="inner", validate="1:1"
    )
    rows = rows[rows["outcome_class"].notna()].reset_index(drop=True)
    if rows.empty:
        return compare(rows.assign(outcome_class=0), config.integrity)
    try:
        scored = score_snapshots(
            champion, wanted=rows, sequences=sequences, panel=panel, config=config, context=context
        )
    except K4Error as problem:
        return Comparison(unusable=str(problem), unreadable=type(problem) is StaleArtifactError)
    theirs = scored[[*KEYS, *PROBABILITIES]].rename(columns={name: f"champion_{name}" for name in PROBABILITIES})
    return compare(rows.merge(theirs, on=KEYS, how="inner", validate="1:1"), config.integrity)
