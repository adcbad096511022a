"""Functions of sixteen lanes against numpy in float64, special values included."""

from __future__ import annotations

import numpy as np
import pytest

from k4_pipeline._numba import njit
from k4_pipeline.simd import simd_f32 as simd, simd_math as lane_math


@njit
def _apply(which, x, y):  # type: ignore[no-untyped-def]
    for i in range(0, x.size, 16):
        value = simd.load(x, i)
        if which == 0:
            simd.store(y, i, lane_math.exp2(value))
        elif which == 1:
            simd.store(y, i, lane_math.sigmoid(value))
        elif which == 2:
            simd.store(y, i, lane_math.softplus(value))
        elif which == 3:
            simd.store(y, i, lane_math.exp2_falling(value))
        elif which == 4:
            simd.store(y, i, lane_math.softplus_and_slope(value)[0])
        else:
            simd.store(y, i, lane_math.softplus_and_slope(value)[1])


def applied(which: int, x: np.ndarray) -> np.ndarray:
    y = np.full_like(x, np.nan)
    _apply(which, x, y)
    return y


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


# 2**x is exact to about a unit in the last place; exp(x) also carries the rounding of x * log2(e), |x| * 6e-8
@pytest.mark.parametrize(
    "which, exact, limit",
    [
        (0, np.exp2, 1.5e-7),
        (1, _sigmoid, 1.5e-6),
        (2, _softplus, 1.5e-6),
        (4, _softplus, 1.5e-6),
        (5, _sigmoid, 1.5e-6),
    ],
)
def test_lane_functions_keep_float32_accuracy(which, exact, limit):  # type: ignore[no-untyped-def]
    x = np.linspace(-20, 20, 1 << 16, dtype=np.float32)
    assert np.abs(applied(which, x) / exact(x.astype(np.float64)) - 1).max() < limit


def test_the_exponential_of_what_is_not_positive_keeps_float32_accuracy() -> None:
    x = -np.concatenate([np.linspace(0, 126, 1 << 18), np.geomspace(1e-30, 1, 1 << 12)]).astype(np.float32)
    assert np.abs(applied(3, x) / np.exp2(x.astype(np.float64)) - 1).max() < 2e-7


def test_exponentials_of_special_values() -> None:
    x = np.zeros(16, np.float32)
    x[:6] = [np.nan, np.inf, -np.inf, -1e30, 200.0, 0.0]
    y = applied(0, x)
    assert np.isnan(y[0])
    assert (y[1], y[4]) == (np.inf, np.inf)
    assert (y[2:4] >= 0).all()
    assert (y[2:4] < 1e-37).all()
    assert (y[5:] == 1.0).all()
    falling = applied(3, np.array([np.nan, -np.inf, -1e30, -126.0, -0.0] + [0.0] * 11, np.float32))
    assert np.isnan(falling[0])
    assert (falling[1:4] >= 0).all()
    assert (falling[1:4] < 2e-38).all()
    assert (falling[4:] == 1.0).all()


def test_sigmoids_of_special_values() -> None:
    x = np.zeros(16, np.float32)
    x[:5] = [np.nan, np.inf, -np.inf, 1e30, -1e30]
    y = applied(1, x)
    assert np.isnan(y[0])
    np.testing.assert_array_equal(y[1:5], [1.0, 0.0, 1.0, 0.0])
    assert (y[5:] == 0.5).all()


@njit
def _greater(x, y, out):  # type: ignore[no-untyped-def]
    simd.store(out, 0, simd.maximum(simd.load(x, 0), simd.load(y, 0)))


def test_the_maximum_with_no_number_is_the_second() -> None:
    x, y = np.arange(16, dtype=np.float32), np.full(16, 7.5, np.float32)
    x[3] = np.nan
    out = np.empty(16, np.float32)
    _greater(x, y, out)
    np.testing.assert_array_equal(out, [7.5] * 8 + list(range(8, 16)))


@njit
def _transposed(x, at, row, count, y, to, span):  # type: ignore[no-untyped-def]
    simd.transpose_block(x, at, row, count, y, to, span)


@pytest.mark.parametrize("count", [1, 5, 16, 40])
def test_a_block_is_transposed_and_missing_rows_repeat_the_last(count: int) -> None:
    rows, row, span = min(count, 16), 23, 19
    x = np.random.default_rng(count).standard_normal(3 + (rows - 1) * row + 16).astype(np.float32)
    y = np.full(2 + 16 * span, np.nan, np.float32)
    _transposed(x, 3, row, count, y, 2, span)
    lines = np.stack([x[3 + min(j, rows - 1) * row :][:16] for j in range(16)])
    np.testing.assert_array_equal(y[2:].reshape(16, span)[:, :16], lines.T)
    assert np.isnan(y[:2]).all()
    assert np.isnan(y[2:].reshape(16, span)[:, 16:]).all()
