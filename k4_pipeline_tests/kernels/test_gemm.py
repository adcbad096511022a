"""The register tile of the CPU kernels against float64, at every remainder of its height and width."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core.caching import FunctionCache

from k4_pipeline import _numba
from k4_pipeline._numba import njit
from k4_pipeline.kernels import gemm
from k4_pipeline.kernels.gemm import multiply, pack


def case(rows: int, depth: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows * 1000 + depth * 10 + columns)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((rows, depth), (depth, columns)))
    return a, b, a.astype(np.float64) @ b.astype(np.float64)


def close(got: np.ndarray, exact: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
    # float32 sums in order: at most depth roundings of 2**-24, each of a partial sum of the absolute products
    limit = (a.shape[1] + 1) * 2.0**-24 * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    return bool((np.abs(got - exact) <= limit + 1e-30).all())


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 7, 50, 67])
@pytest.mark.parametrize("depth", [1, 8, 69])
@pytest.mark.parametrize("columns", [16, 32, 48, 64, 80, 128])
def test_packed_products_are_those_of_float64_and_write_only_their_columns(rows: int, depth: int, columns: int) -> None:
    a, b, exact = case(rows, depth, columns)
    c = np.full((rows + 1, columns + 3), np.nan, np.float32)
    multiply(rows, columns // 16, depth, a.ravel(), 0, depth, 1, pack(b), 0, 0, c.ravel(), 0, columns + 3, 0)
    assert close(c[:rows, :columns], exact, a, b)
    assert np.isnan(c[:, columns:]).all()
    assert np.isnan(c[rows]).all()


@pytest.mark.parametrize("rows, depth, columns", [(7, 50, 48), (40, 3, 256), (1, 1, 16), (13, 100, 80)])
def test_a_transposed_factor_and_a_strided_one_need_no_copy_and_results_add_up(
    rows: int, depth: int, columns: int
) -> None:
    a, b, exact = case(rows, depth, columns)
    turned = np.ascontiguousarray(a.T)
    wide = np.full((depth, columns + 8), np.nan, np.float32)
    wide[:, 4 : columns + 4] = b
    c = np.zeros((rows, columns), np.float32)
    for _ in range(2):
        sides = (turned.ravel(), 0, 1, rows, wide.ravel(), 4, columns + 8)
        multiply(rows, columns // 16, depth, *sides, c.ravel(), 0, columns, 1)
    assert close(c / 2, exact, a, b)


def test_an_empty_sum_is_zero_or_leaves_what_is_there() -> None:
    a, b = np.empty(0, np.float32), np.empty(0, np.float32)
    c = np.full(3 * 16, 7.0, np.float32)
    multiply(3, 1, 0, a, 0, 0, 1, b, 0, 16, c, 0, 16, 1)
    assert (c == 7.0).all()
    multiply(3, 1, 0, a, 0, 0, 1, b, 0, 16, c, 0, 16, 0)
    assert (c == 0.0).all()


def test_a_row_has_the_same_bits_whatever_rows_come_with_it() -> None:
    a, b, _ = case(23, 37, 112)
    packed, whole = pack(b), np.empty((23, 112), np.float32)
    multiply(23, 7, 37, a.ravel(), 0, 37, 1, packed, 0, 0, whole.ravel(), 0, 112, 0)
    for row in (0, 5, 6, 20, 22):
        alone = np.empty(112, np.float32)
        multiply(1, 7, 37, a[row].ravel(), 0, 37, 1, packed, 0, 0, alone, 0, 112, 0)
        assert (alone == whole[row]).all()


def test_columns_that_fill_no_lane_group_are_padded_with_zeros() -> None:
    a, b, exact = case(9, 12, 40)
    c = np.full((9, 48), np.nan, np.float32)
    multiply(9, 3, 12, a.ravel(), 0, 12, 1, pack(b), 0, 0, c.ravel(), 0, 48, 0)
    assert close(c[:, :40], exact, a, b)
    assert (c[:, 40:] == 0.0).all()


def test_a_closure_is_compiled_under_a_name_of_its_own() -> None:
    """Kernels compiled by different processes meet in the cache; numba numbers closures of one name by process."""
    panels = {gemm._panel_1, gemm._panel_2, gemm._panel_3, gemm._panel_4}
    assert len({panel.py_func.__qualname__ for panel in panels}) == len(panels)

    def more_by(k: int) -> Any:
        def more(x: int) -> int:
            return x + k

        return more

    with pytest.raises(TypeError, match="give this closure a __qualname__"):
        njit(more_by(1))


def test_one_process_at_a_time_stores_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_numba, "cache_dir", lambda: tmp_path / "kernels")
    held = []

    def look(self: object, sig: object, data: object) -> None:
        with (tmp_path / "kernels" / "lock").open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.append(sig)

    monkeypatch.setattr(FunctionCache, "save_overload", look)
    multiply._cache.save_overload("of these arguments", None)
    assert held == ["of these arguments"]
    (tmp_path / "kernels").rename(tmp_path / "gone")
    (tmp_path / "kernels").write_text("no folder: nothing can be stored, and nothing has to be locked")
    monkeypatch.setattr(FunctionCache, "save_overload", lambda self, sig, data: held.append(sig))
    multiply._cache.save_overload("of others", None)
    assert held[-1] == "of others"
