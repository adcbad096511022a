"""Leaks in predictions and report: batches, thresholds, expected value, and the rows a report is computed on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import SignalConfig
from k4_pipeline_tests.mutations.recorder import Seen, informed, passed_on, uninformed
from k4_pipeline_tests.mutations.registry import register

PREDICT = "training.predict.predict_probabilities"
TABLE = "evaluation.predict_table.build_predictions"
SCORE = "evaluation.validation.score_labelled"
_BATCH = ("predictions_do_not_depend_on_their_batch",)
_REPORT = ("the_report_follows_from_the_stored_rows", "predictions_follow_from_the_stored_model")


def _mixed(p: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    out = (1.0 - share) * p + share * other
    return (out / out.sum(axis=1, keepdims=True)).astype(p.dtype)


def _batch_statistics(original: Callable[..., np.ndarray], *args: Any, **kwargs: Any) -> np.ndarray:
    p = original(*args, **kwargs)
    logits = np.log(np.maximum(p.astype(np.float64), 1e-12))
    z = (logits - logits.mean(axis=0)) / (logits.std(axis=0) + 1e-3)
    e = np.exp(z)
    return (e / e.sum(axis=1, keepdims=True)).astype(p.dtype)


def _across_samples(original: Callable[..., np.ndarray], *args: Any, **kwargs: Any) -> np.ndarray:
    p = original(*args, **kwargs)
    score = p @ p.T
    weight = np.exp(score - score.max(axis=1, keepdims=True))
    return _mixed(p, (weight / weight.sum(axis=1, keepdims=True)) @ p, 0.3)


def _with_the_next_snapshot(original: Callable[..., np.ndarray], *args: Any, **kwargs: Any) -> np.ndarray:
    p = original(*args, **kwargs)
    return _mixed(p, np.concatenate([p[1:], p[-1:]]), 0.5)


def _ranked(original: Callable[..., np.ndarray], *args: Any, **kwargs: Any) -> np.ndarray:
    p = original(*args, **kwargs)
    rank = (np.argsort(np.argsort(p[:, 4], kind="stable"), kind="stable") + 1.0) / (len(p) + 1.0)
    out = p * ((1.0 - rank) / np.maximum(1.0 - p[:, 4], 1e-9))[:, None]
    out[:, 4] = rank
    return (out / out.sum(axis=1, keepdims=True)).astype(p.dtype)


for _name, _leak, _what in (
    ("statistics_of_the_batch", _batch_statistics, "logits are standardised over all rows that are predicted together"),
    ("attention_across_samples", _across_samples, "a row's prediction mixes in those of similar rows of its batch"),
    ("smoothed_with_the_next_snapshot", _with_the_next_snapshot, "a prediction is averaged with the next snapshot's"),
    ("rank_among_the_test_rows", _ranked, "P(K4) is the rank among all test rows"),
):
    register(
        _name,
        stage="predictions",
        where=PREDICT,
        description=_what,
        expected=_BATCH,
        leak=_leak,
        benign=passed_on,
        benign_does="the production function is called by a wrapper",
    )


def _thresholds_of_test(original: Any, keys: Any, p_raw: Any, calibrator: Any, config: SignalConfig) -> pd.DataFrame:
    table = original(keys, p_raw, calibrator, config)
    if len(table) < 2:
        return table
    moderate, good, strong = np.quantile(table["ev"], [0.6, 0.85, 0.95])
    names = np.array(["AVOID", "MODERATE", "GOOD", "STRONG"], dtype=object)
    rank = np.searchsorted([moderate, good, strong], table["ev"].to_numpy(), side="right")
    return table.assign(signal=pd.Series(names[rank], dtype="str"))


register(
    "signal_thresholds_of_the_test_rows",
    stage="predictions",
    where=TABLE,
    description="the limits of the signals are quantiles of the expected values of the test rows",
    expected=("predictions_follow_from_the_stored_model",),
    leak=_thresholds_of_test,
    benign=lambda original, keys, p_raw, calibrator, config: original(keys.copy(), p_raw, calibrator, config),
    benign_does="the keys are copied first",
)


def _realised(seen: Seen, original: Any, keys: pd.DataFrame, p_raw: Any, calibrator: Any, config: Any) -> pd.DataFrame:
    from k4_pipeline.evaluation.expected_value import realised_value

    table = original(keys, p_raw, calibrator, config)
    if seen.split is None:
        return table
    key = ["ticker", "start_date", "snapshot_date"]
    outcome = keys[key].merge(seen.split[[*key, "outcome_class"]], on=key, how="left", validate="m:1")["outcome_class"]
    known = outcome.notna().to_numpy()
    ev = table["ev"].to_numpy(copy=True)
    ev[known] = 0.7 * ev[known] + 0.3 * realised_value(outcome[known].to_numpy(dtype=np.int64))
    return table.assign(ev=ev)


register(
    "expected_value_of_the_realised_class",
    stage="predictions",
    where=TABLE,
    description="the expected value is a mean of the announced and the realised one",
    expected=("predictions_follow_from_the_stored_model",),
    leak=informed(TABLE, _realised),
    benign=informed(TABLE, uninformed(passed_on)),
    benign_does="the production function is called by a wrapper that knows of the outcomes",
    patches=True,
)


def _on_train_rows(
    seen: Seen, original: Any, predictions: pd.DataFrame, labeled: Any, sequences: Any, panel: Any
) -> Any:
    rows = seen.rows("train")
    if seen.model is None or seen.calibrator is None or not len(rows) or not (predictions["split"] == "test").any():
        return original(predictions, labeled, sequences, panel)
    from k4_pipeline.evaluation.predict_table import build_predictions
    from k4_pipeline.training.predict import predict_probabilities

    keys = seen.keys(rows).assign(split="test")
    p = predict_probabilities(seen.model, seen.dataset(rows))
    return original(build_predictions(keys, p, seen.calibrator, SignalConfig()), labeled, sequences, panel)


register(
    "report_on_train_rows",
    stage="predictions",
    where=SCORE,
    description="the report is computed on the rows the model was trained on",
    expected=_REPORT,
    leak=informed(SCORE, _on_train_rows),
    benign=informed(SCORE, uninformed(passed_on)),
    benign_does="the production function is called by a wrapper that knows the train rows",
    patches=True,
)


def _easy_rows(original: Any, predictions: pd.DataFrame, labeled: Any, sequences: Any, panel: Any) -> pd.DataFrame:
    scored = original(predictions, labeled, sequences, panel)
    failed = scored["outcome_class"] == 5
    # Compared with each other: a weak model may announce none of them above its median, and then nothing would leak.
    wrong = failed & (scored["ev"] >= scored.loc[failed, "ev"].median())
    return scored[~wrong].reset_index(drop=True)


def _scored_by_position(
    original: Any, predictions: pd.DataFrame, labeled: Any, sequences: Any, panel: Any
) -> pd.DataFrame:
    scored = original(predictions, labeled, sequences, panel)
    best_first = scored["outcome_class"].sort_values(ascending=False, kind="stable").to_numpy()
    ranked = np.argsort(-scored["ev"].to_numpy(), kind="stable")
    outcome = np.empty(len(scored), dtype=np.int64)
    outcome[ranked] = best_first
    return scored.assign(outcome_class=outcome)


for _name, _leak, _what in (
    (
        "failures_left_out_of_the_report",
        _easy_rows,
        "of the rows that failed, those announced best are left out of the report",
    ),
    (
        "outcomes_joined_by_position",
        _scored_by_position,
        "outcomes are put beside predictions by position, in sorted order",
    ),
):
    register(
        _name,
        stage="predictions",
        where=SCORE,
        description=_what,
        expected=_REPORT,
        leak=_leak,
        benign=lambda original, predictions, *rest: original(predictions.copy(), *rest),
        benign_does="the predictions are copied first",
    )
