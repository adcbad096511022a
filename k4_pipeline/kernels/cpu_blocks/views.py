"""Tensors as the flat float32 arrays that the kernels read and write."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

FORWARD_ROWS = 8  # rows of the batch per chunk of a forward pass


def flat(tensor: Tensor) -> np.ndarray:
    """All numbers in order, (n,); a view where the tensor is contiguous."""
    return tensor.detach().contiguous().view(-1).numpy()


def matrix(tensor: Tensor) -> np.ndarray:
    """A weight as it is, (rows, columns)."""
    return tensor.detach().numpy()


def room(size: int) -> np.ndarray:
    """Uninitialised float32 numbers from torch's allocator."""
    return torch.empty(size, dtype=torch.float32).numpy()
