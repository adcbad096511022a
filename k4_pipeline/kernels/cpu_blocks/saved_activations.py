"""What a forward pass keeps for the backward pass: float32 as it is, or rounded to bfloat16 where products are.

Each function is called from compiled code and chosen by the type of `kept`: (batch * bars, width) flat, float32 numbers
or uint32 pairs. `width` is a multiple of sixteen, so rows never share a write.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba.core import types
from numba.extending import overload

from k4_pipeline.kernels.bf16 import numbers_of_columns, pairs_of_columns
from k4_pipeline.kernels.gemm import compiled_only


def space_to_save(size: int, half: bool | None) -> np.ndarray:
    """Space for `size` numbers from torch's allocator."""
    if half is None:
        return torch.empty(size, dtype=torch.float32).numpy()
    return torch.empty(size // 2, dtype=torch.int32).numpy().view(np.uint32)


def place(buffer: Any, kept: Any, at: Any, size: Any, keep: Any) -> Any:
    """Where to compute what `put_away` will keep: in place if that is possible."""
    return compiled_only()


def put_away(bars: Any, width: Any, x: Any, kept: Any, at: Any, keep: Any) -> None:
    """Keep x, computed in its `place`, as the numbers from `at` on."""
    return compiled_only()


def bring_back(bars: Any, width: Any, kept: Any, at: Any, buffer: Any) -> Any:
    """The numbers kept from `at` on; they may lie in `buffer`."""
    return compiled_only()


def _whole(kept: Any) -> bool:
    return bool(kept.dtype == types.float32)


@overload(place)
def _place(buffer, kept, at, size, keep):  # type: ignore[no-untyped-def]
    if _whole(kept):
        return lambda buffer, kept, at, size, keep: kept[at : at + size] if keep else buffer
    return lambda buffer, kept, at, size, keep: buffer


@overload(put_away)
def _put_away(bars, width, x, kept, at, keep):  # type: ignore[no-untyped-def]
    def nothing_to_do(bars, width, x, kept, at, keep):  # type: ignore[no-untyped-def]
        return None

    def rounded(bars, width, x, kept, at, keep):  # type: ignore[no-untyped-def]
        if keep:
            pairs_of_columns(bars, width, x, 0, kept, at // 2)

    return nothing_to_do if _whole(kept) else rounded


@overload(bring_back)
def _bring_back(bars, width, kept, at, buffer):  # type: ignore[no-untyped-def]
    def in_place(bars, width, kept, at, buffer):  # type: ignore[no-untyped-def]
        return kept[at : at + bars * width]

    def widened(bars, width, kept, at, buffer):  # type: ignore[no-untyped-def]
        numbers_of_columns(bars, width, kept, at // 2, buffer)
        return buffer

    return in_place if _whole(kept) else widened
