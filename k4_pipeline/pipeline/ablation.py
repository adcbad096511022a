"""What the sequence is for: one network per as-of date that sees all bars, some, out of order, or none.

Every variant has the recipe of the preset, but one network as its only member: windows, snapshots, refit, calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from k4_pipeline.config import KEYS, SEQUENCE_BARS, PipelineConfig
from k4_pipeline.evaluation import metrics, validation
from k4_pipeline.evaluation.scores import MODEL, PROBABILITIES, Rows, Scores
from k4_pipeline.evaluation.walk_forward import flat
from k4_pipeline.pipeline import stages

# Name -> changes of the section `model`.
VARIANTS: dict[str, dict[str, Any]] = {
    "bars_50": {"bars": SEQUENCE_BARS},
    "bars_20": {"bars": 20},
    "bars_10": {"bars": 10},
    "shuffled": {"bars": SEQUENCE_BARS, "shuffled": True},
    "no_sequence": {"architecture": "no_sequence"},
}


def variant_config(config: PipelineConfig, name: str) -> PipelineConfig:
    """The settings of one variant."""
    recipe = replace(config.recipe, members=("network",), context=True)
    return replace(config, model=replace(config.model, **VARIANTS[name]), recipe=recipe)


def run_variant(path: stages.PipelineRun, as_of: str, name: str) -> pd.DataFrame:
    """Fit one variant and score its labelled test rows; `path` is left as it is."""
    path = path.unfitted(config=variant_config(path.config, name), split=None, manifest=None)
    path.fitted = stages.fit(stages.split_at(path, as_of))
    predictions = stages.predict_member(path, "test", path.fitted)
    return validation.score_labelled(predictions, path.labeled, path.sequences, path.panel)


def compared(scored: dict[str, pd.DataFrame], config: PipelineConfig) -> dict[str, Any]:
    """`flat` metrics of all bars as `model` and of the other variants as `baselines`, with paired differences."""
    full = scored["bars_50"]
    methods = {MODEL: _scores(full)}
    for name, table in scored.items():
        if name != "bars_50":
            methods[name] = _scores(full[KEYS].merge(table, on=KEYS, how="left", validate="1:1"))
    return flat(metrics.evaluate(methods, Rows.of(full), config.integrity))


def _scores(table: pd.DataFrame) -> Scores:
    return Scores.of(table[list(PROBABILITIES)].to_numpy())


def answer(result: dict[str, Any]) -> str:
    """In words: whether order, length or the sequence at all made a difference in log loss beyond its interval."""
    said = []
    words = {
        "no_sequence": "the sequence",
        "shuffled": "the order of its bars",
        "bars_20": "what lies before the last 20 bars",
        "bars_10": "what lies before the last 10 bars",
    }
    for name, what in words.items():
        found = result["differences"].get(name, {}).get("log_loss")
        if found is None or found["low"] is None:
            continue
        if found["high"] < 0:
            verdict = "helps"
        elif found["low"] > 0:
            verdict = "harms"
        else:
            verdict = "makes no difference that is beyond chance"
        said.append(f"{what} {verdict} ({found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}])")
    return "Log loss, all bars less the other: " + "; ".join(said) + "."


def pooled(parts: Sequence[dict[str, pd.DataFrame]], config: PipelineConfig) -> dict[str, Any]:
    """`compared` on the rows of several as-of dates."""
    return compared({name: pd.concat([p[name] for p in parts], ignore_index=True) for name in VARIANTS}, config)
