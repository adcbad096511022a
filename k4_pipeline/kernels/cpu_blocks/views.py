"""Tensors as the flat float32 arrays that the kernels read and write."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from k4_pipeline.kernels.bf16 import AVAILABLE

Half = bool | None  # True: factors of products are bfloat16; None, not False: the kernels are compiled apart by type
FORWARD_ROWS = 8  # rows of the batch per chunk of a forward pass


def flat(tensor: Tensor) -> np.ndarray:
    """All numbers in order, (n,); a view where the tensor is contiguous."""
    return tensor.detach().contiguous().view(-1).numpy()


def matrix(tensor: Tensor) -> np.ndarray:
    """A weight as it is, (rows, columns)."""
    return tensor.detach().numpy()


def scratch(size: int) -> np.ndarray:
    """Uninitialised float32 numbers from torch's allocator."""
    return torch.empty(size, dtype=torch.float32).numpy()


def half_products() -> Half:
    """Whether products round their factors to bfloat16: under autocast, where the processor has the instruction."""
    return True if torch.is_autocast_enabled("cpu") and AVAILABLE else None
