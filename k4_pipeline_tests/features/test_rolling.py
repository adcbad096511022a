"""The rolling kernels against brute force at odd windows and lengths, with poisoned outputs."""

from __future__ import annotations

import numpy as np
import pytest

from k4_pipeline.features import elementary, rolling
from k4_pipeline.features.elementary import exp, log

LENGTHS = (1, 2, 4, 5, 7, 19, 20, 21, 60, 137)


def windows_of(x: np.ndarray, window: int) -> list[np.ndarray]:
    """The filled windows of x, by the bar they end at."""
    return [x[t - window + 1 : t + 1] for t in range(window - 1, len(x))]


def check(out: np.ndarray, x: np.ndarray, window: int, expected: list[float]) -> None:
    empty = min(window - 1, len(x))
    assert np.isnan(out[:empty]).all()
    np.testing.assert_allclose(out[empty:], expected, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("n", LENGTHS)
def test_kernels_equal_brute_force_and_write_every_value(n: int) -> None:
    rng = np.random.default_rng(n)
    x = np.round(rng.normal(size=n), 1)
    if n > 30:
        x[25] = np.nan
    filled, out, work = np.empty(n), np.full(n, 1e300), np.empty(4 * n)
    rolling.filled_run(x, filled)
    for window in (5, 10, 20, 30):
        rolling.rolling_sum(x, np.int64(window), work, out)
        check(out, x, window, [w.sum() for w in windows_of(x, window)])
        mean = out / window
        rolling.rolling_std(x, mean, np.int64(window), out)
        check(out, x, window, [w.std() for w in windows_of(x, window)])
        rolling.rolling_max(x, filled, np.int64(window), work, out)
        check(out, x, window, [w.max() for w in windows_of(x, window)])
        rolling.rolling_count_le(x, filled, np.int64(window), out)
        counts = [np.nan if np.isnan(w).any() else float((w <= w[-1]).sum()) for w in windows_of(x, window)]
        check(out, x, window, counts)
        rolling.rolling_min_age(x, filled, np.int64(window), work, out)
        ages = [np.nan if np.isnan(w).any() else float(np.argmin(w[::-1])) for w in windows_of(x, window)]
        check(out, x, window, ages)
    for window in (10, 20):
        rolling.rolling_slope(x, np.int64(window), out)
        steps = np.arange(window) - (window - 1) / 2
        check(out, x, window, [(steps * w).sum() / (steps**2).sum() for w in windows_of(x, window)])


def test_sums_of_any_window_are_sums() -> None:
    x = np.random.default_rng(0).normal(size=300)
    out, work = np.empty(300), np.empty(1200)
    for window in range(1, 120):
        rolling.rolling_sum(x, np.int64(window), work, out)
        check(out, x, window, [w.sum() for w in windows_of(x, window)])


def test_a_flat_window_is_known_by_its_run_of_equal_values() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        n = int(rng.integers(1, 60))
        x = np.repeat(rng.integers(0, 3, n), rng.integers(1, 9, n)).astype(float)[:n]
        out = np.empty(n)
        rolling.equal_run(x, out)
        for window in (5, 10, 20):
            flat = [len(set(w)) == 1 for w in windows_of(x, window)]
            assert (out[window - 1 :] >= window).tolist() == flat


def test_a_sum_forgets_a_giant_as_soon_as_it_has_left_the_window() -> None:
    x = np.full(100, 0.1)
    x[10] = 1e18
    out, work = np.empty(100), np.empty(400)
    rolling.rolling_sum(x, np.int64(20), work, out)
    np.testing.assert_allclose(out[30:], 2.0, rtol=1e-15)


def test_log_and_exp_are_within_two_units_in_the_last_place_and_nan_outside() -> None:
    rng = np.random.default_rng(2)
    for x in (np.exp(rng.uniform(-600, 600, 2000)), 1 + rng.normal(0, 0.02, 2000)):
        np.testing.assert_allclose([log(v) for v in x], np.log(x), rtol=4.5e-16)
    x = rng.uniform(-600, 600, 2000)
    np.testing.assert_allclose([exp(v) for v in x], np.exp(x), rtol=4.5e-16)
    assert log(1.0) == 0.0
    assert exp(0.0) == 1.0
    assert all(np.isnan(elementary.log(v)) for v in (0.0, -1.0, np.nan, np.inf))
    assert all(np.isnan(elementary.exp(v)) for v in (np.nan, np.inf, -np.inf, 800.0))
