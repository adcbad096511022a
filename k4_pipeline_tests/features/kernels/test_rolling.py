"""The lane kernels against brute force at odd lengths, with poisoned outputs and holes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from k4_pipeline._numba import njit
from k4_pipeline.features.kernels import elementary, rolling, window_sums as trees
from k4_pipeline.features.kernels.elementary import exp, log
from k4_pipeline.features.layout import MARGIN
from k4_pipeline.simd import simd_f64 as lanes
from k4_pipeline.simd.memory import alignment_shift, stream_copy
from k4_pipeline.simd.simd_f64 import LANES, earlier_1, load, splat, store

LENGTHS = (1, 2, 4, 5, 7, 8, 9, 19, 20, 21, 60, 137, 260)
POISON = 1e300


class Rows:
    """A small scratch buffer: row 0 holds x, the others poison; NaN in front of each, as `layout.scratch` makes it."""

    def __init__(self, x: np.ndarray, rows: int = 4) -> None:
        self.n, self.stride = len(x), MARGIN + len(x) + LANES
        self.buffer = np.full(rows * self.stride, POISON)
        for i in range(rows):
            self.buffer[i * self.stride : i * self.stride + MARGIN] = np.nan
        self.row(0)[:] = x

    def at(self, i: int) -> int:
        return i * self.stride + MARGIN

    def row(self, i: int) -> np.ndarray:
        return self.buffer[self.at(i) : self.at(i) + self.n]


def windows_of(x: np.ndarray, window: int) -> list[np.ndarray]:
    """The filled windows of x, by the bar they end at."""
    return [x[t - window + 1 : t + 1] for t in range(window - 1, len(x))]


def check(out: np.ndarray, x: np.ndarray, window: int, value: Callable[[np.ndarray], float]) -> None:
    empty = min(window - 1, len(x))
    assert np.isnan(out[:empty]).all()
    expected = [np.nan if np.isnan(w).any() else value(w) for w in windows_of(x, window)]
    np.testing.assert_allclose(out[empty:], expected, rtol=1e-11, atol=1e-12, equal_nan=True)


def series(n: int, decimals: int = 1) -> np.ndarray:
    """Random values with ties, and one hole in a long series."""
    x = np.round(np.random.default_rng(n).normal(size=n), decimals)
    if n > 30:
        x[25] = np.nan
    return x


def slope(w: np.ndarray) -> float:
    steps = np.arange(len(w)) - (len(w) - 1) / 2
    return float((steps * w).sum() / (steps**2).sum())


@njit
def _sum_20(buffer: np.ndarray, x: int, out: int, n: int) -> None:
    state = trees.no_sum_20()
    for i in range(0, n, LANES):
        value, state = trees.sum_20(load(buffer, x + i), state)
        store(buffer, out + i, value)


@njit
def _sum_30(buffer: np.ndarray, x: int, out: int, n: int) -> None:
    state = trees.no_sum_30()
    for i in range(0, n, LANES):
        value, state = trees.sum_30(load(buffer, x + i), state)
        store(buffer, out + i, value)


@njit
def _deviation_20(buffer: np.ndarray, x: int, out: int, n: int) -> None:
    state = trees.no_spread_20()
    for i in range(0, n, LANES):
        _, value, state = trees.spread_20(load(buffer, x + i), state)
        store(buffer, out + i, value)


@njit
def _slope_20(buffer: np.ndarray, x: int, out: int, n: int) -> None:
    state = trees.no_slope_20()
    for i in range(0, n, LANES):
        value, state = trees.slope_20(load(buffer, x + i), state)
        store(buffer, out + i, value)


@njit
def _slope_10(buffer: np.ndarray, x: int, out: int, n: int) -> None:
    state = trees.no_slope_10()
    for i in range(0, n, LANES):
        value, state = trees.slope_10(load(buffer, x + i), state)
        store(buffer, out + i, value)


TREES: dict[str, tuple[Any, int, Callable[[np.ndarray], float]]] = {
    "sum_20": (_sum_20, 20, np.sum),
    "sum_30": (_sum_30, 30, np.sum),
    "deviation_20": (_deviation_20, 20, lambda w: ((w - w.mean()) ** 2).sum()),
    "slope_20": (_slope_20, 20, slope),
    "slope_10": (_slope_10, 10, slope),
}


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("name", TREES)
def test_trees_equal_brute_force_and_write_every_value(name: str, n: int) -> None:
    kernel, window, value = TREES[name]
    rows = Rows(series(n))
    kernel(rows.buffer, rows.at(0), rows.at(1), n)
    check(rows.row(1), rows.row(0), window, value)


@pytest.mark.parametrize("n", LENGTHS)
def test_ranks_and_extremes_equal_brute_force_and_write_every_value(n: int) -> None:
    rows = Rows(series(n))
    x = rows.row(0)
    rolling.rank_share_rows(rows.buffer, rows.at(0), rows.at(1), n)
    check(rows.row(1), x, 100, lambda w: float((w <= w[-1]).mean()))
    rolling.max_60_rows(rows.buffer, rows.at(0), rows.at(1), rows.at(2), n)
    check(rows.row(2), x, 60, np.max)
    rolling.min_age_60_rows(rows.buffer, rows.at(0), rows.at(1), rows.at(2), rows.at(3), n)
    check(rows.row(3), x, 60, lambda w: float(np.argmin(w[::-1])))


@pytest.mark.parametrize("name", TREES)
def test_a_window_of_equal_values_has_no_deviation_and_no_slope(name: str) -> None:
    kernel, window, _ = TREES[name]
    for value in (17.3, 0.1, 1e-3, 123456.7):
        rows = Rows(np.full(100, value))
        kernel(rows.buffer, rows.at(0), rows.at(1), 100)
        out = rows.row(1)[window - 1 :]
        if name.startswith("sum"):
            np.testing.assert_allclose(out, window * value, rtol=1e-15)
        else:
            assert (out == 0.0).all()


def test_a_tree_forgets_a_giant_as_soon_as_it_has_left_the_window() -> None:
    x = np.random.default_rng(0).normal(size=100)
    for kernel, window, value in TREES.values():
        giant = x.copy()
        giant[10] = 1e18
        rows = Rows(giant)
        kernel(rows.buffer, rows.at(0), rows.at(1), 100)
        np.testing.assert_allclose(
            rows.row(1)[10 + window :], [value(w) for w in windows_of(x[11:], window)], rtol=1e-11, atol=1e-13
        )


def test_small_deviations_of_large_values_keep_their_digits() -> None:
    x = 1e6 + 1e-3 * np.random.default_rng(0).normal(size=200)
    rows = Rows(x)
    _deviation_20(rows.buffer, rows.at(0), rows.at(1), 200)
    exact = [float(((w - w.mean()) ** 2).sum()) for w in windows_of(x.astype(np.longdouble), 20)]
    np.testing.assert_allclose(rows.row(1)[19:], exact, rtol=1e-6)


@njit
def _changed(buffer: np.ndarray, x: int, out: int, n: int) -> None:
    last, before = rolling.never(), splat(np.nan)
    for i in range(0, n, LANES):
        value = load(buffer, x + i)
        bars, last = rolling.bars_since(value != earlier_1(before, value), i, last)
        before = value
        store(buffer, out + i, bars)


def test_bars_since_a_change_tell_flat_windows() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        n = int(rng.integers(1, 60))
        x = np.repeat(rng.integers(0, 3, n), rng.integers(1, 9, n)).astype(float)[:n]
        rows = Rows(x)
        _changed(rows.buffer, rows.at(0), rows.at(1), n)
        for window in (5, 10, 20):
            flat = [len(set(w)) == 1 for w in windows_of(x, window)]
            assert (rows.row(1)[window - 1 :] >= window - 1).tolist() == flat


@pytest.mark.parametrize("window", [8, 15, 16, 23, 60, 100])
def test_a_counter_of_any_window_counts(window: int) -> None:
    count = lanes.counter(window, "<")

    @njit(cache=False)
    def kernel(buffer: np.ndarray, x: int, out: int, n: int) -> None:
        for i in range(0, n, LANES):
            store(buffer, out + i, count(buffer, x + i))

    rows = Rows(series(150))
    kernel(rows.buffer, rows.at(0), rows.at(1), 150)
    x = rows.row(0)
    expected = [(x[max(0, t - window + 1) : t + 1] < x[t]).sum() for t in range(150)]
    assert rows.row(1).tolist() == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_streamed_copy_writes_what_it_should_and_nothing_else(dtype: type) -> None:
    source = np.arange(1, 200, dtype=dtype)
    for at in range(0, 20):
        for n in (0, 1, 7, 16, 33, 150):
            target = np.zeros(200, dtype)
            stream_copy(target, at, alignment_shift(target), source, n)
            assert (target[at : at + n] == source[:n]).all()
            assert not target[:at].any()
            assert not target[at + n :].any()


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
