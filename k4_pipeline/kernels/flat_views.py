"""A (batch, length, channels) CPU tensor as a flat float32 array with strides: what the numba kernels read.

Half of a chunked projection is not contiguous, but its channels lie side by side; a copy would cost as much as a
kernel, so the kernels take strides for batch and length and require only neighbouring channels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

FlatView = tuple[np.ndarray, tuple[int, int]]


def flat_view(tensor: Tensor) -> FlatView:
    """(flat float32 array, (batch stride, length stride)); copies only another dtype or strided channels."""
    tensor = tensor.detach().to(torch.float32)
    if tensor.shape[2] > 1 and tensor.stride(2) != 1:
        tensor = tensor.contiguous()
    span = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()) if size > 0) + 1
    if 0 in tensor.shape:
        span = 0
    flat = torch.as_strided(tensor, (span,), (1,), tensor.storage_offset())
    return flat.numpy(), (tensor.stride(0), tensor.stride(1))
