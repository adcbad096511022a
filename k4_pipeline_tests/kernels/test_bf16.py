"""bfloat16 operands of the CPU products against torch's rounding, at every remainder of width and bars."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from k4_pipeline._numba import njit
from k4_pipeline.kernels.bf16 import AVAILABLE, numbers_of_columns, pairs_of_bars, pairs_of_columns
from k4_pipeline.kernels.gemm import add_outer, bars_of, dense, pack, rows_of, scratch_for, terms

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="this processor has no AVX-512 BF16")
SLACK = 16  # lanes that may be written behind a row that fills no lane group


def rounded(x: np.ndarray) -> np.ndarray:
    """x to bfloat16 and back by torch."""
    return torch.from_numpy(x).bfloat16().float().numpy()


def low_and_high(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (pairs << 16).view(np.float32), (pairs & np.uint32(0xFFFF0000)).view(np.float32)


def numbers(bars: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(bars * 100 + width)
    return (rng.standard_normal((bars, width)) * 10.0 ** rng.integers(-6, 6, (bars, width))).astype(np.float32)


@pytest.mark.parametrize("width", [1, 2, 5, 16, 17, 31, 32, 33, 48, 56, 69, 128])
@pytest.mark.parametrize("bars", [1, 2, 7])
def test_pairs_of_columns_are_rounded_neighbours_and_an_odd_one_meets_zero(bars: int, width: int) -> None:
    x, wide = numbers(bars, width), (width + 1) // 2
    pairs = np.full(3 + bars * wide + SLACK, 0xDEADBEEF, np.uint32)
    pairs_of_columns(bars, width, x.ravel(), 0, pairs, 3)
    low, high = low_and_high(pairs[3 : 3 + bars * wide].reshape(bars, wide))
    even = np.zeros((bars, 2 * wide), np.float32)
    even[:, :width] = rounded(x)
    np.testing.assert_array_equal(low, even[:, 0::2])
    np.testing.assert_array_equal(high, even[:, 1::2])
    assert (pairs[:3] == 0xDEADBEEF).all()
    if width % 16 == 0:  # what may lie side by side in memory that threads share
        assert (pairs[3 + bars * wide :] == 0xDEADBEEF).all()
        back = np.full(bars * width, np.nan, np.float32)
        numbers_of_columns(bars, width, pairs, 3, back)
        np.testing.assert_array_equal(back.reshape(bars, width), rounded(x))


@pytest.mark.parametrize("width", [1, 16, 33, 69, 128])
@pytest.mark.parametrize("bars", [1, 2, 7, 50])
def test_pairs_of_bars_are_rounded_neighbours_and_an_odd_one_meets_zero(bars: int, width: int) -> None:
    x, count = numbers(bars, width), (bars + 1) // 2
    pairs = np.full(count * width + SLACK, 0xDEADBEEF, np.uint32)
    pairs_of_bars(bars, width, x.ravel(), 0, pairs, 0)
    low, high = low_and_high(pairs[: count * width].reshape(count, width))
    even = np.zeros((2 * count, width), np.float32)
    even[:bars] = rounded(x)
    np.testing.assert_array_equal(low, even[0::2])
    np.testing.assert_array_equal(high, even[1::2])


def test_what_is_no_number_stays_so() -> None:
    x = np.zeros(16, np.float32)
    x[:4] = [np.nan, np.inf, -np.inf, 3.4e38]  # the last is nearer to the next power than to the largest bfloat16
    pairs = np.zeros(8, np.uint32)
    pairs_of_columns(1, 16, x, 0, pairs, 0)
    low, high = low_and_high(pairs)
    assert np.isnan(low[0])
    assert (high[0], low[1], high[1]) == (np.inf, -np.inf, np.inf)


@njit
def _dense(bars, groups, depth, x, weight, y, half):  # type: ignore[no-untyped-def]
    scratch = scratch_for(bars * (depth + 1), half)
    rows = rows_of(bars, depth, x, 0, scratch)
    dense(bars, groups, depth, rows, depth, weight, y, 0, groups * 16, 0, scratch)


@njit
def _outer(bars, parts, width_a, groups, a, b, total, half):  # type: ignore[no-untyped-def]
    """Over `bars` in `parts` consecutive shares, gathered and summed once where operands are gathered."""
    room_a, room_b = scratch_for((bars + parts) * width_a, half), scratch_for((bars + parts) * groups * 16, half)
    before, each = 0, bars // parts
    for i in range(parts):
        count = each if i + 1 < parts else bars - i * each
        a_bars = bars_of(count, width_a, a, i * each * width_a, room_a, before)
        b_bars = bars_of(count, groups * 16, b, i * each * groups * 16, room_b, before)
        before += terms(count, room_a)
        if half is None or i + 1 == parts:
            add_outer(width_a, groups, before, a_bars, width_a, b_bars, total)
            before = 0


def within(got: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether `got` is a b up to the rounding of float32 sums."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    limit = (a.shape[1] + 2) * 2.0**-23 * (np.abs(a) @ np.abs(b))
    return bool((np.abs(got - a @ b) <= limit + 1e-30).all())


@pytest.mark.parametrize("half", [None, True])
@pytest.mark.parametrize("bars, depth, columns", [(1, 1, 16), (7, 69, 48), (50, 33, 128), (13, 128, 256)])
def test_dense_products_round_their_factors_and_nothing_else(
    half: bool | None, bars: int, depth: int, columns: int
) -> None:
    rng = np.random.default_rng(bars)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((bars, depth), (depth, columns)))
    y = np.full((bars, columns), np.nan, np.float32)
    _dense(bars, columns // 16, depth, x.ravel(), pack(w, half), y.ravel(), half)
    assert within(y, *((rounded(x), rounded(w)) if half else (x, w)))


@pytest.mark.parametrize("half", [None, True])
@pytest.mark.parametrize(
    "bars, parts, width, columns", [(1, 1, 1, 16), (9, 3, 69, 48), (50, 4, 40, 128), (7, 2, 16, 32)]
)
def test_outer_products_over_gathered_sequences_round_their_factors_and_nothing_else(
    half: bool | None, bars: int, parts: int, width: int, columns: int
) -> None:
    rng = np.random.default_rng(width)
    a, b = (rng.standard_normal((bars, n)).astype(np.float32) for n in (width, columns))
    start = rng.standard_normal((width, columns)).astype(np.float32)
    total = start.copy()
    _outer(bars, parts, width, columns // 16, a.ravel(), b.ravel(), total.ravel(), half)
    if half:
        a, b = rounded(a), rounded(b)
    both = np.concatenate([a, np.eye(width, dtype=np.float32)]), np.concatenate([b, start])
    assert within(total, both[0].T, both[1])
