"""Leaks in what is fitted or chosen: scaler, weights, class weights, early stopping, model choice, calibration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from k4_pipeline.config import N_CLASSES
from k4_pipeline.sequences.standardisation import Scaler
from k4_pipeline_tests.mutations.recorder import Seen, informed, passed_on, uninformed
from k4_pipeline_tests.mutations.registry import register

SCALER = "sequences.scaler.fit_scaler"
TRAIN = "training.loop.train"
CALIBRATE = "evaluation.calibration.fit_calibrator"
_REFIT = ("everything_fitted_comes_from_the_permitted_rows_alone", "fitting_reads_only_rows_known_at_as_of")


def _other_keys(rows: np.ndarray) -> Any:
    import pandas as pd

    day = np.full(len(rows), np.datetime64("2000-01-03", "us"))
    return pd.DataFrame({"ticker": [f"{i:06d}" for i in range(len(rows))], "start_date": day, "snapshot_date": day})


def _scaler_of_all_rows(
    original: Callable[..., Scaler], panel: Any, index: Any, rows: Any, config: Any, **k: Any
) -> Scaler:
    honest = original(panel, index, rows, config, **k)
    every = np.arange(len(index))
    full = original(panel, index, every, config, keys=_other_keys(every))
    return dataclasses.replace(full, meta=honest.meta)  # it says that it saw train rows alone


def _scaler_in_reverse(
    original: Callable[..., Scaler], panel: Any, index: Any, rows: Any, config: Any, *, keys: Any, **k: Any
) -> Scaler:
    return original(panel, index, np.asarray(rows)[::-1], config, keys=keys.iloc[::-1], **k)


register(
    "scaler_fitted_on_all_rows",
    stage="fit",
    where=SCALER,
    description="the scaler is fitted on train, validation and test rows, and its record names the train rows only",
    expected=("the_scaler_comes_from_train_rows_alone", *_REFIT),
    leak=_scaler_of_all_rows,
    benign=_scaler_in_reverse,
    benign_does="the train rows are handed over in reverse order",
)


def _bounds_of_all_rows(
    original: Callable[..., Scaler], panel: Any, index: Any, rows: Any, config: Any, **k: Any
) -> Scaler:
    honest = original(panel, index, rows, config, **k)
    every = np.arange(len(index))
    full = original(panel, index, every, config, keys=_other_keys(every))
    return dataclasses.replace(honest, lower=full.lower, upper=full.upper)


register(
    "clipping_bounds_of_all_rows",
    stage="fit",
    where=SCALER,
    description="the clipping bounds are quantiles of all rows",
    expected=("the_scaler_comes_from_train_rows_alone", *_REFIT),
    leak=_bounds_of_all_rows,
    benign=_scaler_in_reverse,
    benign_does="the train rows are handed over in reverse order",
)


def _trained_on_test(
    seen: Seen, original: Any, model: Any, train: Any, loss: Any, train_set: Any, val: Any, **k: Any
) -> Any:
    test = seen.rows("test", train_set)
    rows = np.concatenate([train_set.rows, test])
    more = seen.dataset(rows, like=train_set) if len(test) else train_set
    return original(model, train, loss, more, val, **k)


def _stopped_on_test(
    seen: Seen, original: Any, model: Any, train: Any, loss: Any, train_set: Any, val: Any, **k: Any
) -> Any:
    test = seen.rows("test", train_set)
    return original(model, train, loss, train_set, seen.dataset(test, like=train_set) if len(test) else val, **k)


def _weighted_by_all(
    seen: Seen, original: Any, model: Any, train: Any, loss: Any, train_set: Any, val: Any, **k: Any
) -> Any:
    test = seen.classes(seen.rows("test", train_set), train_set)
    counts = np.bincount(np.concatenate([train_set.targets, test]), minlength=N_CLASSES) + 1.0
    return original(
        model, train, dataclasses.replace(loss, class_weights=tuple(counts.sum() / counts)), train_set, val, **k
    )


def _weighted_by_train(
    seen: Seen, original: Any, model: Any, train: Any, loss: Any, train_set: Any, val: Any, **k: Any
) -> Any:
    counts = np.bincount(train_set.targets, minlength=N_CLASSES) + 1.0
    return original(
        model, train, dataclasses.replace(loss, class_weights=tuple(counts.sum() / counts)), train_set, val, **k
    )


def _chosen_on(member: str) -> Callable[..., Any]:
    def wrapper(
        seen: Seen, original: Any, model: Any, train: Any, loss: Any, train_set: Any, val: Any, **k: Any
    ) -> Any:
        from k4_pipeline.training.predict import predict_probabilities

        rows = seen.rows(member, train_set)
        judge = seen.dataset(rows, like=train_set) if len(rows) else val
        best, best_score = None, -np.inf
        for seed in range(3):
            result = original(model, dataclasses.replace(train, seed=seed), loss, train_set, val, **k)
            p = predict_probabilities(result.model, judge)
            score = float(np.log(np.maximum(p[np.arange(len(p)), judge.targets], 1e-9)).mean())
            if score > best_score:
                best, best_score = result, score
        return best

    return wrapper


def _later_model(
    seen: Seen, original: Any, model: Any, train: Any, loss: Any, train_set: Any, val: Any, **k: Any
) -> Any:
    """Trained on validation and the first half of test as well: the model of half a year later."""
    test = seen.rows("test", train_set)
    rows = np.concatenate([train_set.rows, val.rows, test[: len(test) // 2]])
    more = seen.dataset(rows, like=train_set) if len(test) else train_set
    return original(model, train, loss, more, val, **k)


for _name, _leak, _what, _benign, _benign_does in (
    ("trained_on_test_rows", _trained_on_test, "the test rows are among the training rows", None, ""),
    ("stopped_early_on_test_rows", _stopped_on_test, "the best epoch is chosen on the test rows", None, ""),
    (
        "class_weights_of_all_rows",
        _weighted_by_all,
        "class weights are the inverse frequencies of train and test rows",
        _weighted_by_train,
        "class weights are the inverse frequencies of the train rows",
    ),
    (
        "model_chosen_on_test_rows",
        _chosen_on("test"),
        "of three seeds the one that does best on the test rows is kept",
        _chosen_on("validation"),
        "of three seeds the one that does best on the validation rows is kept",
    ),
    (
        "model_trained_after_the_snapshots",
        _later_model,
        "the test rows are predicted by the model of half a year later",
        None,
        "",
    ),
):
    register(
        _name,
        stage="fit",
        where=TRAIN,
        description=_what,
        expected=_REFIT,
        leak=informed(TRAIN, _leak),
        benign=informed(TRAIN, _benign or uninformed(passed_on)),
        benign_does=_benign_does or "the production function is called by a wrapper that knows of the test rows",
        patches=True,
    )


def _calibrated_on_test(seen: Seen, original: Any, p_raw: Any, y: Any, *, keys: Any, **k: Any) -> Any:
    from k4_pipeline.training.predict import predict_probabilities

    honest = original(p_raw, y, keys=keys, **k)
    rows = seen.rows("test")
    if not len(rows):
        return honest
    test = seen.dataset(rows)
    fitted = original(predict_probabilities(seen.model, test), test.targets, keys=seen.keys(rows), **k)
    return dataclasses.replace(fitted, meta=honest.meta)


register(
    "calibrated_on_test_rows",
    stage="fit",
    where=CALIBRATE,
    description="the calibration is fitted on the test rows, and its record names the validation rows",
    expected=_REFIT,
    leak=informed(CALIBRATE, _calibrated_on_test),
    benign=informed(CALIBRATE, uninformed(passed_on)),
    benign_does="the production function is called by a wrapper that knows of the test rows",
    patches=True,
)


def _refit_at_prediction(seen: Seen, original: Any, model: Any, dataset: Any, **k: Any) -> Any:
    if dataset.targets is not None or len(dataset) < 2:
        return original(model, dataset, **k)
    from k4_pipeline.config import ScalerConfig
    from k4_pipeline.sequences.dataset import SequenceDataset
    from k4_pipeline.sequences.scaler import fit_scaler

    rows = np.unique(dataset.rows)
    fresh = fit_scaler(dataset.panel_values, dataset.index, rows, ScalerConfig(), keys=_other_keys(rows))
    return original(model, SequenceDataset(dataset.panel_values, dataset.index, dataset.rows, fresh), **k)


register(
    "scaler_refit_at_prediction",
    stage="fit",
    where="training.predict.predict_probabilities",
    description="the rows to be predicted are standardised with a scaler fitted on themselves",
    expected=("predictions_do_not_depend_on_their_batch", "predictions_follow_from_the_stored_model"),
    leak=informed("training.predict.predict_probabilities", _refit_at_prediction),
    benign=informed("training.predict.predict_probabilities", uninformed(passed_on)),
    benign_does="the production function is called by a wrapper",
    patches=True,
)
