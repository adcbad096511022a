"""Calibration, expected value, signals and the predictions table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import CLASS_VALUES, SignalConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.evaluation.calibration import Calibrator, fit_calibrator
from k4_pipeline.evaluation.expected_value import expected_value
from k4_pipeline.evaluation.predict_table import build_predictions
from k4_pipeline.evaluation.signals import assign_signals


def _keys(n: int) -> pd.DataFrame:
    dates = pd.date_range("2020-01-01", periods=n).astype("datetime64[us]")
    return pd.DataFrame(
        {"ticker": "A", "pattern_id": "A|2020-01-01", "start_date": dates[0], "snapshot_date": dates, "split": "test"}
    )


def _distorted(n: int, seed: int):
    """True probabilities, classes drawn from them, and raw ones distorted as a 500x class weight does."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 6)) + np.log([0.4, 0.3, 0.1, 0.05, 0.02, 0.13])
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = np.array([rng.choice(6, p=t) for t in true])
    raw = true**0.5 * np.array([1, 1, 2, 10, 500, 5.0]) ** 0.7
    return true, y, raw / raw.sum(axis=1, keepdims=True)


def test_calibration_brings_weighted_probabilities_back_to_frequencies():
    _, y, raw = _distorted(4000, 0)
    true_test, y_test, raw_test = _distorted(4000, 1)
    calibrated = fit_calibrator(raw, y, keys=_keys(4000)).transform(raw_test)
    assert raw_test[:, 4].mean() > 5 * (y_test == 4).mean()
    # One standard error of the K4 share of 4,000 rows is about 0.003.
    assert abs(calibrated[:, 4].mean() - (y_test == 4).mean()) < 0.01
    assert np.abs(calibrated - true_test).mean() < 0.02


def test_calibration_with_one_k4_row_keeps_its_order_and_a_small_level():
    _, y, raw = _distorted(300, 2)
    y[y == 4] = 0
    y[7] = 4
    calibrator = fit_calibrator(raw, y, keys=_keys(300))
    p = calibrator.transform(raw)
    assert (calibrator.scale > 0).all()
    assert 0.0005 < p[:, 4].mean() < 0.03


def test_a_row_is_calibrated_without_regard_to_its_batch():
    _, y, raw = _distorted(200, 3)
    calibrator = fit_calibrator(raw, y, keys=_keys(200))
    assert np.array_equal(calibrator.transform(raw)[50:51], calibrator.transform(raw[50:51]))


def test_a_calibrator_survives_json_bit_for_bit_and_names_what_it_saw():
    _, y, raw = _distorted(150, 4)
    calibrator = fit_calibrator(raw, y, keys=_keys(150))
    again = Calibrator.from_json(calibrator.to_json())
    assert np.array_equal(again.transform(raw), calibrator.transform(raw))
    assert again.hash() == calibrator.hash()
    assert again.meta["rows"] == 150
    assert again.meta["last_snapshot"] == str(_keys(150)["snapshot_date"].max().date())


def test_an_unlabelled_row_is_refused():
    _, y, raw = _distorted(50, 5)
    y[3] = -1
    with pytest.raises(BadInputError, match="unlabelled"):
        fit_calibrator(raw, y, keys=_keys(50))


def test_expected_value_is_the_weighted_sum_of_class_values():
    assert np.allclose(expected_value(np.eye(6)), CLASS_VALUES)


def test_signals_follow_the_thresholds_and_the_k5_veto():
    p = np.zeros((6, 6))
    p[5, 5] = 0.30
    ev = np.array([5.0, 3.0, 1.0, 0.99, -0.01, 9.0])
    assert assign_signals(p, ev, SignalConfig()).tolist() == ["STRONG", "GOOD", "MODERATE", "AVOID", "AVOID", "AVOID"]


def test_the_predictions_table_holds_probabilities_that_sum_to_one():
    _, y, raw = _distorted(60, 6)
    table = build_predictions(_keys(60), raw, fit_calibrator(raw, y, keys=_keys(60)), SignalConfig())
    assert np.allclose(table[[f"p_{i}" for i in range(6)]].sum(axis=1), 1.0)
    assert np.allclose(table[[f"p_raw_{i}" for i in range(6)]].sum(axis=1), 1.0)
    assert np.allclose(table["ev"], table[[f"p_{i}" for i in range(6)]].to_numpy() @ np.array(CLASS_VALUES))
    assert len(table) == 60
