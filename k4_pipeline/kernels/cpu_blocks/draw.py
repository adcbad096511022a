"""One draw of dropout: what the kernels need to make the same mask in both passes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

_RANGE = 1 << 32


class Draw(NamedTuple):
    """Key of the draw, how many of 2**32 are dropped (0: dropout is off), factor of what is kept."""

    key: np.int64
    dropped: np.int64
    factor: np.float32

    @classmethod
    def at(cls, rate: float) -> Draw:
        """A new draw from torch's global CPU generator; none is made at rate 0."""
        dropped = min(round(rate * _RANGE), _RANGE - 1)
        if dropped == 0:
            return cls(np.int64(0), np.int64(0), np.float32(1.0))
        key = torch.empty((), dtype=torch.int64).random_(-(1 << 63), None).item()
        return cls(np.int64(key), np.int64(dropped), np.float32(_RANGE / (_RANGE - dropped)))
